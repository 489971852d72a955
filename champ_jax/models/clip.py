"""CLIP's vision tower with its projection (Radford et al. 2021): a picture -> one embedding."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Num

from champ_jax.common.errors import InputError
from champ_jax.common.ranges import Integer
from champ_jax.models.attention import attention
from champ_jax.models.functional import PureNetwork, Unused
from champ_jax.models.layers import conv, dtypes_of, layer_norm, linear, shape_only
from champ_jax.models.options import NetworkOptions
from champ_jax.models.schema import (
    CHANNELS,
    EPSILON,
    HEADS,
    LAYERS,
    check_divides,
    check_fields,
    known_fields,
    require_object,
    require_supported,
)

# Mean and standard deviation of the pictures CLIP was trained on, in [0, 1], by channel.
MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)


def normalize(pictures: Num[Array, "*batch height width 3"]) -> Float[Array, "*batch height width 3"]:
    """Pictures of 0..255 as the tower takes them: less CLIP's mean, over its standard deviation, float32."""
    unit = pictures.astype(jnp.float32) / 255
    return (unit - jnp.asarray(MEAN)) / jnp.asarray(STD)


_RULES = {
    "hidden_size": CHANNELS,
    "intermediate_size": CHANNELS,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "num_channels": CHANNELS,
    "image_size": Integer(minimum=1, maximum=4096),
    "patch_size": Integer(minimum=1, maximum=4096),
    "projection_dim": CHANNELS,
    "layer_norm_eps": EPSILON,
}


@dataclasses.dataclass(frozen=True)
class CLIPVisionConfig:
    """Sizes of the tower, as transformers' config.json of a CLIPVisionModelWithProjection names them (ViT-L/14).

    Raises:
      InputError: a field has the wrong type or is out of range, or the fields do not fit together; names the field.
    """

    hidden_size: int = 1024
    intermediate_size: int = 4096
    num_hidden_layers: int = 24
    num_attention_heads: int = 16
    num_channels: int = 3
    image_size: int = 224
    patch_size: int = 14
    projection_dim: int = 768
    layer_norm_eps: float = 1e-5

    def __post_init__(self) -> None:
        check_fields(self, "image_encoder", _RULES)
        check_divides(
            "image_encoder.hidden_size", self.hidden_size, "image_encoder.num_attention_heads", self.num_attention_heads
        )
        if self.patch_size > self.image_size:
            raise InputError(
                f"image_encoder.patch_size={self.patch_size}: larger than image_encoder.image_size={self.image_size}"
            )

    @classmethod
    def from_json(cls, fields: Any) -> "CLIPVisionConfig":
        """Reads transformers' config.json; a whole CLIP's is read at its `vision_config`.

        Raises:
          InputError: a field has a value this network does not implement; names the field.
        """
        fields = require_object("image_encoder config.json", fields)
        if "vision_config" in fields:
            vision = require_object("image_encoder config.json: vision_config", fields["vision_config"])
            fields = {**vision, "projection_dim": fields.get("projection_dim", 512)}
        require_supported("image_encoder config.json", fields, {"hidden_act": "quick_gelu", "attention_dropout": 0.0})
        return cls(**known_fields(cls, fields))

    def to_json(self) -> dict[str, Any]:
        """The fields as transformers' config.json holds them."""
        return {
            "architectures": ["CLIPVisionModelWithProjection"],
            "model_type": "clip_vision_model",
            "attention_dropout": 0.0,
            "hidden_act": "quick_gelu",
            **dataclasses.asdict(self),
        }

    @property
    def tokens(self) -> int:
        """Length of the sequence: one class token and the patches (257)."""
        return 1 + (self.image_size // self.patch_size) ** 2


def quick_gelu(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """CLIP's approximation of GELU: x sigmoid(1.702 x)."""
    return x * jax.nn.sigmoid(1.702 * x)


class Embeddings(nnx.Module):
    """Class token and patches, with learned positions."""

    def __init__(self, config: CLIPVisionConfig, options: NetworkOptions):
        width, patch = config.hidden_size, config.patch_size
        self.class_embedding = nnx.Param(jax.ShapeDtypeStruct((width,), options.param_dtype))
        self.patch_embedding = conv(
            config.num_channels, width, options, size=patch, stride=patch, padding="VALID", use_bias=False
        )
        self.position_embedding = nnx.Embed(config.tokens, width, embedding_init=shape_only, **dtypes_of(options))
        self.position_ids = Unused(jax.ShapeDtypeStruct((1, config.tokens), jnp.int32))

    def __call__(self, pixels: Float[Array, "batch height width channels"]) -> Float[Array, "batch tokens hidden"]:
        patches = self.patch_embedding(pixels)
        patches = patches.reshape(patches.shape[0], -1, patches.shape[-1])
        token = self.class_embedding.get_value().astype(patches.dtype)
        token = jnp.broadcast_to(token, (patches.shape[0], 1, patches.shape[-1]))
        positions = self.position_embedding.embedding.get_value().astype(patches.dtype)
        return jnp.concatenate([token, patches], axis=1) + positions


class SelfAttention(nnx.Module):
    """Multi-head self-attention."""

    def __init__(self, config: CLIPVisionConfig, options: NetworkOptions):
        width = config.hidden_size
        self.q_proj = linear(width, width, options)
        self.k_proj = linear(width, width, options)
        self.v_proj = linear(width, width, options)
        self.out_proj = linear(width, width, options)
        self.heads = config.num_attention_heads
        self.kernels = options.kernels

    def __call__(self, x: Float[Array, "batch tokens hidden"]) -> Float[Array, "batch tokens hidden"]:
        split = (layer(x).reshape(*x.shape[:2], self.heads, -1) for layer in (self.q_proj, self.k_proj, self.v_proj))
        out = attention(*split, kernel=self.kernels.image_encoder, platform=self.kernels.platform)
        return self.out_proj(out.reshape(x.shape))


class MLP(nnx.Module):
    """Linear, quick_gelu, linear."""

    def __init__(self, config: CLIPVisionConfig, options: NetworkOptions):
        self.fc1 = linear(config.hidden_size, config.intermediate_size, options)
        self.fc2 = linear(config.intermediate_size, config.hidden_size, options)

    def __call__(self, x: Float[Array, "*batch hidden"]) -> Float[Array, "*batch hidden"]:
        return self.fc2(quick_gelu(self.fc1(x)))


class EncoderLayer(nnx.Module):
    """Self-attention and MLP, each after its LayerNorm, residual."""

    def __init__(self, config: CLIPVisionConfig, options: NetworkOptions):
        self.layer_norm1 = layer_norm(config.hidden_size, options, epsilon=config.layer_norm_eps)
        self.self_attn = SelfAttention(config, options)
        self.layer_norm2 = layer_norm(config.hidden_size, options, epsilon=config.layer_norm_eps)
        self.mlp = MLP(config, options)

    def __call__(self, x: Float[Array, "batch tokens hidden"]) -> Float[Array, "batch tokens hidden"]:
        x = x + self.self_attn(self.layer_norm1(x))
        return x + self.mlp(self.layer_norm2(x))


class Encoder(nnx.Module):
    """The stack of layers, one after the other or as one scanned body."""

    def __init__(self, config: CLIPVisionConfig, options: NetworkOptions):
        self.layers = nnx.List([EncoderLayer(config, options) for _ in range(config.num_hidden_layers)])
        self.scan = options.scan

    def __call__(self, x: Float[Array, "batch tokens hidden"]) -> Float[Array, "batch tokens hidden"]:
        if not self.scan:
            for layer in self.layers:
                x = layer(x)
            return x
        network, first = PureNetwork.split(self.layers[0])
        parameters = [first, *(PureNetwork.split(layer)[1] for layer in self.layers[1:])]
        stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *parameters)

        def step(x: jax.Array, parameters: nnx.State) -> tuple[jax.Array, None]:
            return network.bind(parameters)(x), None

        return jax.lax.scan(step, x, stacked)[0]


class VisionTransformer(nnx.Module):
    """Embeddings, layers, and the class token's last state."""

    def __init__(self, config: CLIPVisionConfig, options: NetworkOptions):
        self.embeddings = Embeddings(config, options)
        # Spelled like this in the files.
        self.pre_layrnorm = layer_norm(config.hidden_size, options, epsilon=config.layer_norm_eps)
        self.encoder = Encoder(config, options)
        self.post_layernorm = layer_norm(config.hidden_size, options, epsilon=config.layer_norm_eps)

    def __call__(self, pixels: Float[Array, "batch height width channels"]) -> Float[Array, "batch hidden"]:
        hidden = self.encoder(self.pre_layrnorm(self.embeddings(pixels)))
        return self.post_layernorm(hidden[:, 0])


class CLIPVisionTower(nnx.Module):
    """The image encoder."""

    def __init__(self, config: CLIPVisionConfig, options: NetworkOptions = NetworkOptions()):  # noqa: B008 (frozen)
        self.vision_model = VisionTransformer(config, options)
        self.visual_projection = linear(config.hidden_size, config.projection_dim, options, use_bias=False)
        self.config = config

    def __call__(self, pixels: Float[Array, "batch height width channels"]) -> Float[Array, "batch projection"]:
        """Embeddings of pictures of config.image_size x config.image_size, as `normalize` gives them."""
        return self.visual_projection(self.vision_model(pixels))
