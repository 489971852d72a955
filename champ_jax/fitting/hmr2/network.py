"""HMR 2.0's network: a vision transformer over the crop, and a transformer decoder of one token that reads it.

Backbone: ViT-H/16 (Dosovitskiy et al. 2021) as ViTPose has it, without a class token. Head: pre-norm decoder layers of
self-attention, cross-attention to the patches, and an MLP; linear read-outs are added to the mean parameters.
"""

import dataclasses
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Num

from champ_jax.common.ranges import Integer
from champ_jax.models.attention import attention
from champ_jax.models.functional import Buffer
from champ_jax.models.layers import conv, layer_norm, linear
from champ_jax.models.options import NetworkOptions
from champ_jax.models.schema import CHANNELS, HEADS, LAYERS, check_divides, check_fields, from_own_json

CROP = 256
"""Side of the square crop, px."""

_MARGIN = 32  # columns left and right of the crop that the backbone does not see
_PADDING = 2  # px of zeros around what it sees
_JOINTS, _BETAS = 24, 10
_BACKBONE_EPSILON, _HEAD_EPSILON = 1e-6, 1e-5

AnyArray = Any  # NumPy's outside of compiled programs, JAX's inside

# Mean and standard deviation of ImageNet's pictures, by channel, in 0..255.
_MEAN = tuple(255 * value for value in (0.485, 0.456, 0.406))
_STD = tuple(255 * value for value in (0.229, 0.224, 0.225))

_RULES = {
    "hidden_size": CHANNELS,
    "layers": LAYERS,
    "heads": HEADS,
    "mlp_size": CHANNELS,
    "patch_size": Integer(minimum=8, maximum=64),
    "head_size": CHANNELS,
    "head_layers": LAYERS,
    "head_heads": HEADS,
    "head_channels": Integer(minimum=1, maximum=2**10),
    "head_mlp_size": CHANNELS,
}


@dataclasses.dataclass(frozen=True)
class HMR2Config:
    """Sizes of the network; the published one's by default.

    Attributes:
      hidden_size: width of the backbone.
      layers: its blocks.
      heads: its attention heads.
      mlp_size: width inside its MLPs.
      patch_size: side of its patches, px.
      head_size: width of the head's token.
      head_layers: its layers.
      head_heads: its attention heads.
      head_channels: channels of each of these.
      head_mlp_size: width inside its MLPs.

    Raises:
      InputError: a field has the wrong type or is out of range, or the fields do not fit together; names the field.
    """

    hidden_size: int = 1280
    layers: int = 32
    heads: int = 16
    mlp_size: int = 5120
    patch_size: int = 16
    head_size: int = 1024
    head_layers: int = 6
    head_heads: int = 8
    head_channels: int = 64
    head_mlp_size: int = 1024

    def __post_init__(self) -> None:
        check_fields(self, "hmr2", _RULES)
        check_divides("hmr2.hidden_size", self.hidden_size, "hmr2.heads", self.heads)

    @classmethod
    def from_json(cls, fields: Any) -> "HMR2Config":
        """The config that `to_json` gave.

        Raises:
          InputError: unknown fields, or values out of range; names the field.
        """
        return from_own_json(cls, "hmr2", fields)

    def to_json(self) -> dict[str, Any]:
        """The fields."""
        return dataclasses.asdict(self)

    @property
    def tokens(self) -> int:
        """How many patches the backbone sees (192)."""
        return math.prod((side + 2 * _PADDING - self.patch_size) // self.patch_size + 1 for side in _SEEN)


_SEEN = (CROP, CROP - 2 * _MARGIN)  # height and width of what the backbone sees


class Body(NamedTuple):
    """What the network says of B crops.

    Attributes:
      rotations: (B, 24, 3, 3) SMPL's joints relative to their parents, the root relative to the crop's camera.
      betas: (B, 10) SMPL's shape.
      camera: (B, 3) scale, and offsets in x and y in meters, of the crop's weak-perspective camera
        (`body.cameras.weak_perspective_to_translation`).
    """

    rotations: AnyArray
    betas: AnyArray
    camera: AnyArray


def normalize(crops: Num[Array, "*batch height width 3"]) -> Float[Array, "*batch height width 3"]:
    """RGB crops of 0..255 as the network takes them: less ImageNet's mean, over its standard deviation, float32."""
    return (crops.astype(jnp.float32) - jnp.asarray(_MEAN)) / jnp.asarray(_STD)


def to_rotations(numbers: Float[Array, "*batch 6"]) -> Float[Array, "*batch 3 3"]:
    """Six numbers -> a rotation matrix (Zhou et al. 2019): its first two columns, made orthonormal one after the other.

    The first three numbers are the first column's, the next three the second's.
    """
    first, second = numbers[..., :3], numbers[..., 3:]
    first = _normalized(first)
    second = _normalized(second - jnp.sum(first * second, axis=-1, keepdims=True) * first)
    return jnp.stack([first, second, jnp.cross(first, second)], axis=-1)


def _normalized(vectors: jax.Array) -> jax.Array:
    return vectors / jnp.maximum(jnp.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)


class PatchEmbedding(nnx.Module):
    """Patches of the crop, padded by zeros."""

    def __init__(self, config: HMR2Config, options: NetworkOptions):
        padding = ((_PADDING, _PADDING),) * 2
        size = config.patch_size
        self.proj = conv(3, config.hidden_size, options, size=size, stride=size, padding=padding)

    def __call__(self, pixels: Float[Array, "batch height width 3"]) -> Float[Array, "batch tokens hidden"]:
        patches = self.proj(pixels)
        return patches.reshape(len(patches), -1, patches.shape[-1])


class SelfAttention(nnx.Module):
    """Multi-head self-attention, with one linear for queries, keys and values."""

    def __init__(self, config: HMR2Config, options: NetworkOptions):
        width = config.hidden_size
        self.qkv = linear(width, 3 * width, options)
        self.proj = linear(width, width, options)
        self.heads = config.heads

    def __call__(self, x: Float[Array, "batch tokens hidden"]) -> Float[Array, "batch tokens hidden"]:
        qkv = self.qkv(x).reshape(*x.shape[:2], 3, self.heads, -1)
        return self.proj(attention(*(qkv[:, :, part] for part in range(3))).reshape(x.shape))


class MLP(nnx.Module):
    """Linear, exact GELU, linear."""

    def __init__(self, config: HMR2Config, options: NetworkOptions):
        self.fc1 = linear(config.hidden_size, config.mlp_size, options)
        self.fc2 = linear(config.mlp_size, config.hidden_size, options)

    def __call__(self, x: Float[Array, "*batch hidden"]) -> Float[Array, "*batch hidden"]:
        return self.fc2(jax.nn.gelu(self.fc1(x), approximate=False))


class Block(nnx.Module):
    """Self-attention and MLP, each after its LayerNorm, residual."""

    def __init__(self, config: HMR2Config, options: NetworkOptions):
        self.norm1 = layer_norm(config.hidden_size, options, epsilon=_BACKBONE_EPSILON)
        self.attn = SelfAttention(config, options)
        self.norm2 = layer_norm(config.hidden_size, options, epsilon=_BACKBONE_EPSILON)
        self.mlp = MLP(config, options)

    def __call__(self, x: Float[Array, "batch tokens hidden"]) -> Float[Array, "batch tokens hidden"]:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class Backbone(nnx.Module):
    """The vision transformer. Its positions have a row more than there are patches, which is added to all of them."""

    def __init__(self, config: HMR2Config, options: NetworkOptions):
        positions = (1, 1 + config.tokens, config.hidden_size)
        self.pos_embed = nnx.Param(jax.ShapeDtypeStruct(positions, options.param_dtype))
        self.patch_embed = PatchEmbedding(config, options)
        self.blocks = nnx.List([Block(config, options) for _ in range(config.layers)])
        self.last_norm = layer_norm(config.hidden_size, options, epsilon=_BACKBONE_EPSILON)

    def __call__(self, pixels: Float[Array, "batch height width 3"]) -> Float[Array, "batch tokens hidden"]:
        x = self.patch_embed(pixels)
        positions = jnp.asarray(self.pos_embed.get_value(), x.dtype)
        x = x + positions[:, 1:] + positions[:, :1]
        for block in self.blocks:
            x = block(x)
        return self.last_norm(x)


class TokenSelfAttention(nnx.Module):
    """Self-attention of the head's tokens; the linear for queries, keys and values has no bias."""

    def __init__(self, config: HMR2Config, options: NetworkOptions):
        inner = config.head_heads * config.head_channels
        self.to_qkv = linear(config.head_size, 3 * inner, options, use_bias=False)
        self.to_out = linear(inner, config.head_size, options)
        self.heads = config.head_heads

    def __call__(self, x: Float[Array, "batch tokens head"], context: jax.Array) -> Float[Array, "batch tokens head"]:
        del context
        return self.to_out(_attend(self.heads, *jnp.split(self.to_qkv(x), 3, axis=-1)))


class CrossAttention(nnx.Module):
    """Attention of the head's tokens to the patches; its first linears have no bias."""

    def __init__(self, config: HMR2Config, options: NetworkOptions):
        inner = config.head_heads * config.head_channels
        self.to_kv = linear(config.hidden_size, 2 * inner, options, use_bias=False)
        self.to_q = linear(config.head_size, inner, options, use_bias=False)
        self.to_out = linear(inner, config.head_size, options)
        self.heads = config.head_heads

    def __call__(
        self, x: Float[Array, "batch tokens head"], context: Float[Array, "batch patches hidden"]
    ) -> Float[Array, "batch tokens head"]:
        return self.to_out(_attend(self.heads, self.to_q(x), *jnp.split(self.to_kv(context), 2, axis=-1)))


def _attend(heads: int, query: jax.Array, key: jax.Array, value: jax.Array) -> jax.Array:
    """Attention of (B, N, heads * channels) each, heads one after the other."""
    split = (array.reshape(*array.shape[:2], heads, -1) for array in (query, key, value))
    return attention(*split).reshape(query.shape)


class FeedForward(nnx.Module):
    """Linear, exact GELU, linear, on the head's tokens."""

    def __init__(self, config: HMR2Config, options: NetworkOptions):
        # The places of PyTorch's sequence: linear, activation, dropout, linear, dropout.
        self.net = nnx.Dict(
            {
                "0": linear(config.head_size, config.head_mlp_size, options),
                "3": linear(config.head_mlp_size, config.head_size, options),
            }
        )

    def __call__(self, x: Float[Array, "batch tokens head"], context: jax.Array) -> Float[Array, "batch tokens head"]:
        del context
        return self.net["3"](jax.nn.gelu(self.net["0"](x), approximate=False))


class PreNorm(nnx.Module):
    """A part of a layer after its LayerNorm."""

    def __init__(self, part: nnx.Module, config: HMR2Config, options: NetworkOptions):
        self.norm = layer_norm(config.head_size, options, epsilon=_HEAD_EPSILON)
        self.fn = part

    def __call__(self, x: jax.Array, context: jax.Array) -> jax.Array:
        return self.fn(self.norm(x), context)


class CrossTransformer(nnx.Module):
    """The head's layers."""

    def __init__(self, config: HMR2Config, options: NetworkOptions):
        parts = (TokenSelfAttention, CrossAttention, FeedForward)
        self.layers = nnx.List(
            [
                nnx.List([PreNorm(part(config, options), config, options) for part in parts])
                for _ in range(config.head_layers)
            ]
        )

    def __call__(self, x: jax.Array, context: jax.Array) -> jax.Array:
        for layer in self.layers:
            for part in layer:
                x = x + part(x, context)
        return x


class Decoder(nnx.Module):
    """One token, which reads the patches. What is embedded is 0, so that the embedding's bias is what counts."""

    def __init__(self, config: HMR2Config, options: NetworkOptions):
        self.pos_embedding = nnx.Param(jax.ShapeDtypeStruct((1, 1, config.head_size), options.param_dtype))
        self.to_token_embedding = linear(1, config.head_size, options)
        self.transformer = CrossTransformer(config, options)

    def __call__(self, context: Float[Array, "batch patches hidden"]) -> Float[Array, "batch head"]:
        token = self.to_token_embedding(jnp.zeros((len(context), 1, 1), context.dtype))
        token = token + jnp.asarray(self.pos_embedding.get_value(), context.dtype)
        return self.transformer(token, context)[:, 0]


class Head(nnx.Module):
    """The decoder, and its read-outs, which are differences from mean parameters that the files hold."""

    def __init__(self, config: HMR2Config, options: NetworkOptions):
        self.transformer = Decoder(config, options)
        self.decpose = linear(config.head_size, 6 * _JOINTS, options)
        self.decshape = linear(config.head_size, _BETAS, options)
        self.deccam = linear(config.head_size, 3, options)
        self.init_body_pose = _mean(6 * _JOINTS, options)
        self.init_betas = _mean(_BETAS, options)
        self.init_cam = _mean(3, options)

    def __call__(self, context: Float[Array, "batch patches hidden"]) -> Body:
        token = self.transformer(context)
        pose = self.decpose(token) + self.init_body_pose.get_value()
        return Body(
            to_rotations(pose.reshape(len(pose), _JOINTS, 6).astype(jnp.float32)),
            self.decshape(token) + self.init_betas.get_value(),
            self.deccam(token) + self.init_cam.get_value(),
        )


def _mean(size: int, options: NetworkOptions) -> Buffer:
    return Buffer(jax.ShapeDtypeStruct((1, size), options.param_dtype))


class HMR2(nnx.Module):
    """The whole network."""

    def __init__(self, config: HMR2Config, options: NetworkOptions = NetworkOptions()):  # noqa: B008 (frozen)
        self.backbone = Backbone(config, options)
        self.smpl_head = Head(config, options)

    def __call__(self, crops: Num[Array, "batch height width 3"]) -> Body:
        """The bodies in RGB crops (B, 256, 256, 3) of 0..255, as `hmr2.crop` cuts them."""
        return self.smpl_head(self.backbone(normalize(crops)[:, :, _MARGIN:-_MARGIN]))
