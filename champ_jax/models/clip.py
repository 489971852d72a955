"""CLIP's vision tower with its projection (Radford et al. 2021): a picture -> one embedding."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from champ_jax.common.errors import InputError
from champ_jax.models.attention import attention
from champ_jax.models.layers import Unused

# Of the pictures CLIP was trained on, in [0, 1], by channel.
MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)


def normalise(pictures: jax.Array) -> jax.Array:
    """Pictures (..., 3) of 0..255 as the tower takes them: less CLIP's mean, over its deviation, float32."""
    unit = pictures.astype(jnp.float32) / 255
    return (unit - jnp.asarray(MEAN)) / jnp.asarray(STD)


@dataclasses.dataclass(frozen=True)
class CLIPVisionConfig:
    """Sizes of the tower, as transformers' config.json of a CLIPVisionModelWithProjection names them (ViT-L/14)."""

    hidden_size: int = 1024
    intermediate_size: int = 4096
    num_hidden_layers: int = 24
    num_attention_heads: int = 16
    num_channels: int = 3
    image_size: int = 224
    patch_size: int = 14
    projection_dim: int = 768
    layer_norm_eps: float = 1e-5

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> "CLIPVisionConfig":
        """Reads transformers' config.json; a whole CLIP's is read at its `vision_config`.

        Raises:
          InputError: a field has a value this network does not implement; names the field.
        """
        if "vision_config" in fields:
            fields = {**fields["vision_config"], "projection_dim": fields.get("projection_dim", 512)}
        only = {"hidden_act": "quick_gelu", "attention_dropout": 0.0}
        for name, value in only.items():
            if fields.get(name, value) != value:
                raise InputError(f"image_encoder config.json: {name}={fields[name]!r} is not supported, only {value!r}")
        config = cls(**{field.name: fields[field.name] for field in dataclasses.fields(cls) if field.name in fields})
        if config.hidden_size % config.num_attention_heads:
            raise InputError(
                f"image_encoder config.json: hidden_size={config.hidden_size} does not divide into "
                f"num_attention_heads={config.num_attention_heads}"
            )
        return config

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


def quick_gelu(x: jax.Array) -> jax.Array:
    """CLIP's approximation of GELU: x sigmoid(1.702 x)."""
    return x * jax.nn.sigmoid(1.702 * x)


def _layer_norm(config: CLIPVisionConfig, **policy: Any) -> nnx.LayerNorm:
    return nnx.LayerNorm(config.hidden_size, epsilon=config.layer_norm_eps, use_fast_variance=False, **policy)


class Embeddings(nnx.Module):
    """Class token and patches, with learnt positions: (B,H,W,3) -> (B,tokens,hidden_size)."""

    def __init__(self, config: CLIPVisionConfig, *, param_dtype: DTypeLike, rngs: nnx.Rngs, **policy: Any):
        width, patch = config.hidden_size, (config.patch_size, config.patch_size)
        policy = {"param_dtype": param_dtype, "rngs": rngs, **policy}
        self.class_embedding = nnx.Param(jax.random.normal(rngs.params(), (width,), param_dtype))
        self.patch_embedding = nnx.Conv(
            config.num_channels, width, patch, strides=patch, padding="VALID", use_bias=False, **policy
        )
        self.position_embedding = nnx.Embed(config.tokens, width, **policy)
        self.position_ids = Unused(jnp.arange(config.tokens, dtype=jnp.int32)[None])

    def __call__(self, pixels: jax.Array) -> jax.Array:
        patches = self.patch_embedding(pixels)
        patches = patches.reshape(patches.shape[0], -1, patches.shape[-1])
        token = self.class_embedding.get_value().astype(patches.dtype)
        token = jnp.broadcast_to(token, (patches.shape[0], 1, patches.shape[-1]))
        positions = self.position_embedding.embedding.get_value().astype(patches.dtype)
        return jnp.concatenate([token, patches], axis=1) + positions


class SelfAttention(nnx.Module):
    """Multi-head self-attention: (B,L,C) -> (B,L,C)."""

    def __init__(self, config: CLIPVisionConfig, *, kernel: str, platform: str | None, **policy: Any):
        width = config.hidden_size
        self.q_proj = nnx.Linear(width, width, **policy)
        self.k_proj = nnx.Linear(width, width, **policy)
        self.v_proj = nnx.Linear(width, width, **policy)
        self.out_proj = nnx.Linear(width, width, **policy)
        self.heads = config.num_attention_heads
        self.kernel = kernel
        self.platform = platform

    def __call__(self, x: jax.Array) -> jax.Array:
        split = (linear(x).reshape(*x.shape[:2], self.heads, -1) for linear in (self.q_proj, self.k_proj, self.v_proj))
        return self.out_proj(attention(*split, kernel=self.kernel, platform=self.platform).reshape(x.shape))


class MLP(nnx.Module):
    """Linear, quick_gelu, linear: (..., C) -> (..., C)."""

    def __init__(self, config: CLIPVisionConfig, **policy: Any):
        self.fc1 = nnx.Linear(config.hidden_size, config.intermediate_size, **policy)
        self.fc2 = nnx.Linear(config.intermediate_size, config.hidden_size, **policy)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.fc2(quick_gelu(self.fc1(x)))


class EncoderLayer(nnx.Module):
    """Self-attention and MLP, each after its LayerNorm, residual. (B,L,C) -> (B,L,C)."""

    def __init__(self, config: CLIPVisionConfig, *, kernel: str, platform: str | None, **policy: Any):
        self.layer_norm1 = _layer_norm(config, **policy)
        self.self_attn = SelfAttention(config, kernel=kernel, platform=platform, **policy)
        self.layer_norm2 = _layer_norm(config, **policy)
        self.mlp = MLP(config, **policy)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = x + self.self_attn(self.layer_norm1(x))
        return x + self.mlp(self.layer_norm2(x))


class Encoder(nnx.Module):
    """The stack of layers, one after the other or as one scanned body. (B,L,C) -> (B,L,C)."""

    def __init__(self, config: CLIPVisionConfig, *, scan: bool, **options: Any):
        self.layers = nnx.List([EncoderLayer(config, **options) for _ in range(config.num_hidden_layers)])
        self.scan = scan

    def __call__(self, x: jax.Array) -> jax.Array:
        if not self.scan:
            for layer in self.layers:
                x = layer(x)
            return x
        graph, first = nnx.split(self.layers[0])
        states = [first, *(nnx.state(layer) for layer in self.layers[1:])]
        stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)

        def step(x: jax.Array, state: nnx.State) -> tuple[jax.Array, None]:
            return nnx.merge(graph, state)(x), None

        return jax.lax.scan(step, x, stacked)[0]


class VisionTransformer(nnx.Module):
    """Embeddings, layers, and the class token's last state: (B,H,W,3) -> (B,hidden_size)."""

    def __init__(self, config: CLIPVisionConfig, *, scan: bool, kernel: str, platform: str | None, **policy: Any):
        self.embeddings = Embeddings(config, **policy)
        self.pre_layrnorm = _layer_norm(config, **policy)  # spelled so in the files
        self.encoder = Encoder(config, scan=scan, kernel=kernel, platform=platform, **policy)
        self.post_layernorm = _layer_norm(config, **policy)

    def __call__(self, pixels: jax.Array) -> jax.Array:
        hidden = self.encoder(self.pre_layrnorm(self.embeddings(pixels)))
        return self.post_layernorm(hidden[:, 0])


class CLIPVisionTower(nnx.Module):
    """The image encoder.

    Args:
      config: sizes.
      kernel: attention kernel (`champ_jax.models.attention`).
      platform: what is compiled for; None takes JAX's default backend.
      scan: run the layers as one scanned body, which compiles faster and stacks their weights at run time.
      dtype: of the computation; norms and softmax reduce in float32.
      param_dtype: of the parameters.
    """

    def __init__(
        self,
        config: CLIPVisionConfig,
        *,
        kernel: str = "xla",
        platform: str | None = None,
        scan: bool = False,
        dtype: DTypeLike = jnp.float32,
        param_dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        policy = {"dtype": dtype, "param_dtype": param_dtype, "rngs": rngs}
        self.vision_model = VisionTransformer(config, scan=scan, kernel=kernel, platform=platform, **policy)
        self.visual_projection = nnx.Linear(config.hidden_size, config.projection_dim, use_bias=False, **policy)
        self.config = config

    def __call__(self, pixels: jax.Array) -> jax.Array:
        """Pictures (B,image_size,image_size,3), normalised by CLIP's mean and deviation -> (B,projection_dim)."""
        return self.visual_projection(self.vision_model(pixels))
