"""The autoencoder of Stable Diffusion (AutoencoderKL, Rombach et al. 2022): pictures <-> latents of 1/8 the size."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from champ_jax.common.errors import InputError
from champ_jax.models.attention import attention
from champ_jax.models.layers import Conv1x1, ResNetBlock, Upsample, conv3x3, group_norm

EPSILON = 1e-6  # of every GroupNorm


@dataclasses.dataclass(frozen=True)
class VAEConfig:
    """Sizes of the autoencoder, as diffusers' vae/config.json names them.

    Attributes:
      in_channels: channels of the pictures encoded.
      out_channels: channels of the pictures decoded.
      latent_channels: channels of the latents.
      block_out_channels: width of each level, finest first; every level but the last halves the size.
      layers_per_block: ResNets a level in the encoder; one more in the decoder.
      norm_num_groups: groups of every GroupNorm.
      scaling_factor: what a diffusion model multiplies the latents by; the autoencoder itself does not.
    """

    in_channels: int = 3
    out_channels: int = 3
    latent_channels: int = 4
    block_out_channels: tuple[int, ...] = (128, 256, 512, 512)
    layers_per_block: int = 2
    norm_num_groups: int = 32
    scaling_factor: float = 0.18215

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> "VAEConfig":
        """Reads diffusers' config.json of an AutoencoderKL; fields it does not know are passed over.

        Raises:
          InputError: a field has a value this network does not implement; names the field.
        """
        only = {
            "act_fn": "silu",
            "mid_block_add_attention": True,
            "use_quant_conv": True,
            "use_post_quant_conv": True,
            "shift_factor": None,
            "latents_mean": None,
            "latents_std": None,
        }
        for name, value in only.items():
            if fields.get(name, value) != value:
                raise InputError(f"vae config.json: {name}={fields[name]!r} is not supported, only {value!r}")
        for name, kind in (("down_block_types", "DownEncoderBlock2D"), ("up_block_types", "UpDecoderBlock2D")):
            for other in set(fields.get(name, [kind])) - {kind}:
                raise InputError(f"vae config.json: {name} has {other!r}, which is not supported, only {kind!r}")
        known = {field.name: fields[field.name] for field in dataclasses.fields(cls) if field.name in fields}
        if "block_out_channels" in known:
            known["block_out_channels"] = tuple(known["block_out_channels"])
        return cls(**known)

    def to_json(self) -> dict[str, Any]:
        """The fields as diffusers' config.json holds them."""
        levels = len(self.block_out_channels)
        return {
            "_class_name": "AutoencoderKL",
            "act_fn": "silu",
            "down_block_types": ["DownEncoderBlock2D"] * levels,
            "up_block_types": ["UpDecoderBlock2D"] * levels,
            **dataclasses.asdict(self),
            "block_out_channels": list(self.block_out_channels),
        }

    @property
    def downscale(self) -> int:
        """How many times smaller than a picture its latents are (8)."""
        return 2 ** (len(self.block_out_channels) - 1)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Posterior:
    """A diagonal Gaussian over latents: `mean` and `logvar`, both (B, h, w, latent_channels), not scaled."""

    mean: jax.Array
    logvar: jax.Array

    def mode(self) -> jax.Array:
        """The most probable latents, (B, h, w, latent_channels)."""
        return self.mean

    def sample(self, key: jax.Array) -> jax.Array:
        """Latents drawn from the posterior, (B, h, w, latent_channels)."""
        noise = jax.random.normal(key, self.mean.shape, self.mean.dtype)
        return self.mean + jnp.exp(0.5 * self.logvar) * noise


class PixelAttention(nnx.Module):
    """GroupNorm, self-attention over the pixels with one head as wide as the block, residual. (N,H,W,C) -> the same."""

    def __init__(
        self,
        channels: int,
        *,
        groups: int,
        kernel: str,
        platform: str | None,
        dtype: DTypeLike,
        param_dtype: DTypeLike,
        rngs: nnx.Rngs,
    ):
        policy = {"dtype": dtype, "param_dtype": param_dtype, "rngs": rngs}
        self.group_norm = group_norm(channels, groups=groups, epsilon=EPSILON, **policy)
        self.to_q = nnx.Linear(channels, channels, **policy)
        self.to_k = nnx.Linear(channels, channels, **policy)
        self.to_v = nnx.Linear(channels, channels, **policy)
        self.to_out = nnx.Linear(channels, channels, **policy)
        self.kernel = kernel
        self.platform = platform

    def __call__(self, x: jax.Array) -> jax.Array:
        batch, height, width, channels = x.shape
        tokens = self.group_norm(x).reshape(batch, height * width, 1, channels)
        out = attention(
            self.to_q(tokens), self.to_k(tokens), self.to_v(tokens), kernel=self.kernel, platform=self.platform
        )
        return x + self.to_out(out).reshape(x.shape)


class MidBlock(nnx.Module):
    """ResNet, attention, ResNet at the coarsest level."""

    def __init__(self, channels: int, groups: int, *, kernel: str, platform: str | None, **policy: Any):
        resnet = {"time_width": None, "groups": groups, "epsilon": EPSILON, **policy}
        self.resnets = nnx.List([ResNetBlock(channels, channels, **resnet) for _ in range(2)])
        self.attentions = nnx.List(
            [PixelAttention(channels, groups=groups, kernel=kernel, platform=platform, **policy)]
        )

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.resnets[1](self.attentions[0](self.resnets[0](x)))


class PaddedDownsample(nnx.Module):
    """3x3 convolution with stride 2, padded below and right only: (N,H,W,C) -> (N,H//2,W//2,C)."""

    def __init__(self, channels: int, **policy: Any):
        self.conv = nnx.Conv(channels, channels, (3, 3), strides=2, padding=((0, 1), (0, 1)), **policy)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.conv(x)


class EncoderLevel(nnx.Module):
    """ResNets, then half the size (but at the last level)."""

    def __init__(self, in_channels: int, channels: int, layers: int, groups: int, is_last: bool, **policy: Any):
        resnet = {"time_width": None, "groups": groups, "epsilon": EPSILON, **policy}
        widths = [in_channels] + [channels] * layers
        self.resnets = nnx.List([ResNetBlock(widths[i], channels, **resnet) for i in range(layers)])
        if not is_last:
            self.downsamplers = nnx.List([PaddedDownsample(channels, **policy)])

    def __call__(self, x: jax.Array) -> jax.Array:
        for resnet in self.resnets:
            x = resnet(x)
        return self.downsamplers[0](x) if hasattr(self, "downsamplers") else x


class DecoderLevel(nnx.Module):
    """ResNets, then twice the size (but at the last level)."""

    def __init__(self, in_channels: int, channels: int, layers: int, groups: int, is_last: bool, **policy: Any):
        resnet = {"time_width": None, "groups": groups, "epsilon": EPSILON, **policy}
        widths = [in_channels] + [channels] * layers
        self.resnets = nnx.List([ResNetBlock(widths[i], channels, **resnet) for i in range(layers)])
        if not is_last:
            self.upsamplers = nnx.List([Upsample(channels, **policy)])

    def __call__(self, x: jax.Array) -> jax.Array:
        for resnet in self.resnets:
            x = resnet(x)
        return self.upsamplers[0](x) if hasattr(self, "upsamplers") else x


class Encoder(nnx.Module):
    """(N,H,W,3) -> (N,H/8,W/8,2*latent_channels): mean and log-variance, before quant_conv."""

    def __init__(self, config: VAEConfig, *, kernel: str, platform: str | None, **policy: Any):
        widths, groups = config.block_out_channels, config.norm_num_groups
        self.conv_in = conv3x3(config.in_channels, widths[0], **policy)
        self.down_blocks = nnx.List(
            [
                EncoderLevel(
                    widths[max(level - 1, 0)],
                    width,
                    config.layers_per_block,
                    groups,
                    level == len(widths) - 1,
                    **policy,
                )
                for level, width in enumerate(widths)
            ]
        )
        self.mid_block = MidBlock(widths[-1], groups, kernel=kernel, platform=platform, **policy)
        self.conv_norm_out = group_norm(widths[-1], groups=groups, epsilon=EPSILON, **policy)
        self.conv_out = conv3x3(widths[-1], 2 * config.latent_channels, **policy)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = self.conv_in(x)
        for block in self.down_blocks:
            x = block(x)
        return self.conv_out(jax.nn.silu(self.conv_norm_out(self.mid_block(x))))


class Decoder(nnx.Module):
    """(N,h,w,latent_channels), after post_quant_conv -> (N,8h,8w,3)."""

    def __init__(self, config: VAEConfig, *, kernel: str, platform: str | None, **policy: Any):
        widths, groups = config.block_out_channels[::-1], config.norm_num_groups
        self.conv_in = conv3x3(config.latent_channels, widths[0], **policy)
        self.mid_block = MidBlock(widths[0], groups, kernel=kernel, platform=platform, **policy)
        self.up_blocks = nnx.List(
            [
                DecoderLevel(
                    widths[max(level - 1, 0)],
                    width,
                    config.layers_per_block + 1,
                    groups,
                    level == len(widths) - 1,
                    **policy,
                )
                for level, width in enumerate(widths)
            ]
        )
        self.conv_norm_out = group_norm(widths[-1], groups=groups, epsilon=EPSILON, **policy)
        self.conv_out = conv3x3(widths[-1], config.out_channels, **policy)

    def __call__(self, z: jax.Array) -> jax.Array:
        x = self.mid_block(self.conv_in(z))
        for block in self.up_blocks:
            x = block(x)
        return self.conv_out(jax.nn.silu(self.conv_norm_out(x)))


class VAE(nnx.Module):
    """The autoencoder. Latents come out and go in unscaled: `config.scaling_factor` is the caller's to apply.

    Args:
      config: sizes.
      kernel: attention kernel of the middle blocks (`champ_jax.models.attention`).
      platform: what is compiled for; None takes JAX's default backend.
      dtype: of the computation; norms and softmax reduce in float32.
      param_dtype: of the parameters.
    """

    def __init__(
        self,
        config: VAEConfig,
        *,
        kernel: str = "xla",
        platform: str | None = None,
        dtype: DTypeLike = jnp.float32,
        param_dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        policy = {"dtype": dtype, "param_dtype": param_dtype, "rngs": rngs}
        latents = config.latent_channels
        self.encoder = Encoder(config, kernel=kernel, platform=platform, **policy)
        self.decoder = Decoder(config, kernel=kernel, platform=platform, **policy)
        self.quant_conv = Conv1x1(2 * latents, 2 * latents, **policy)
        self.post_quant_conv = Conv1x1(latents, latents, **policy)
        self.config = config

    def encode(self, x: jax.Array) -> Posterior:
        """Pictures (B,H,W,3) in [-1,1], H and W multiples of `config.downscale` -> posterior over latents."""
        moments = self.quant_conv(self.encoder(x))
        mean, logvar = jnp.split(moments, 2, axis=-1)
        return Posterior(mean, jnp.clip(logvar, -30.0, 20.0))

    def decode(self, z: jax.Array) -> jax.Array:
        """Latents (B,h,w,latent_channels) -> pictures (B,8h,8w,3), about [-1,1] and not clipped."""
        return self.decoder(self.post_quant_conv(z))
