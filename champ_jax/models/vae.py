"""The autoencoder of Stable Diffusion (AutoencoderKL, Rombach et al. 2022): pictures <-> latents of 1/8 the size."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from champ_jax.common.ranges import Choice, Items, Number
from champ_jax.models.attention import attention
from champ_jax.models.layers import Conv1x1, ResNetBlock, Upsample, conv, group_norm, linear
from champ_jax.models.options import NetworkOptions
from champ_jax.models.schema import (
    CHANNELS,
    GROUPS,
    LAYERS,
    WIDTHS,
    check_divides,
    check_fields,
    known_fields,
    require_object,
    require_supported,
)

EPSILON = 1e-6  # epsilon of every GroupNorm


_RULES = {
    "in_channels": CHANNELS,
    "out_channels": CHANNELS,
    "latent_channels": CHANNELS,
    "block_out_channels": WIDTHS,
    "layers_per_block": LAYERS,
    "norm_num_groups": GROUPS,
    "scaling_factor": Number(above=0, maximum=1e6),
}
# Fields of diffusers' config.json that name variants of the network, with the one that is implemented.
_SUPPORTED = {
    "act_fn": "silu",
    "mid_block_add_attention": True,
    "use_quant_conv": True,
    "use_post_quant_conv": True,
    "shift_factor": None,
    "latents_mean": None,
    "latents_std": None,
}


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

    Raises:
      InputError: a field has the wrong type or is out of range, or the fields do not fit together; names the field.
    """

    in_channels: int = 3
    out_channels: int = 3
    latent_channels: int = 4
    block_out_channels: tuple[int, ...] = (128, 256, 512, 512)
    layers_per_block: int = 2
    norm_num_groups: int = 32
    scaling_factor: float = 0.18215

    def __post_init__(self) -> None:
        check_fields(self, "vae", _RULES)
        for width in self.block_out_channels:
            check_divides("vae.block_out_channels", width, "vae.norm_num_groups", self.norm_num_groups)

    @classmethod
    def from_json(cls, fields: Any) -> "VAEConfig":
        """Reads diffusers' config.json of an AutoencoderKL; fields it does not know are passed over.

        Raises:
          InputError: a field has a value this network does not implement; names the field.
        """
        fields = require_object("vae config.json", fields)
        require_supported("vae config.json", fields, _SUPPORTED)
        config = cls(**known_fields(cls, fields))
        levels = len(config.block_out_channels)
        for name, kind in (("down_block_types", "DownEncoderBlock2D"), ("up_block_types", "UpDecoderBlock2D")):
            Items(Choice(kind), levels, levels).check(f"vae.{name}", fields.get(name, [kind] * levels))
        return config

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
    """A diagonal Gaussian over unscaled latents.

    Attributes:
      mean: its mean, (B, height / 8, width / 8, latent_channels).
      logvar: the logarithms of its variances, of the same shape.
    """

    mean: jax.Array
    logvar: jax.Array

    def mode(self) -> Float[Array, "batch latent_height latent_width latent_channels"]:
        """The most probable latents."""
        return self.mean

    def sample(self, key: jax.Array) -> Float[Array, "batch latent_height latent_width latent_channels"]:
        """Latents drawn from the posterior."""
        noise = jax.random.normal(key, self.mean.shape, self.mean.dtype)
        return self.mean + jnp.exp(0.5 * self.logvar) * noise


def _resnet(config: VAEConfig, in_channels: int, out_channels: int, options: NetworkOptions) -> ResNetBlock:
    return ResNetBlock(
        in_channels, out_channels, options, time_width=None, groups=config.norm_num_groups, epsilon=EPSILON
    )


class PixelAttention(nnx.Module):
    """GroupNorm, self-attention over the pixels with one head as wide as the block, residual."""

    def __init__(self, channels: int, options: NetworkOptions, *, groups: int):
        self.group_norm = group_norm(channels, options, groups=groups, epsilon=EPSILON)
        self.to_q = linear(channels, channels, options)
        self.to_k = linear(channels, channels, options)
        self.to_v = linear(channels, channels, options)
        self.to_out = linear(channels, channels, options)
        self.kernels = options.kernels

    def __call__(
        self, x: Float[Array, "pictures height width channels"]
    ) -> Float[Array, "pictures height width channels"]:
        batch, height, width, channels = x.shape
        tokens = self.group_norm(x).reshape(batch, height * width, 1, channels)
        split = (layer(tokens) for layer in (self.to_q, self.to_k, self.to_v))
        out = attention(*split, kernel=self.kernels.vae, platform=self.kernels.platform)
        return x + self.to_out(out).reshape(x.shape)


class MidBlock(nnx.Module):
    """ResNet, attention, ResNet at the coarsest level."""

    def __init__(self, config: VAEConfig, options: NetworkOptions):
        channels = config.block_out_channels[-1]
        self.resnets = nnx.List([_resnet(config, channels, channels, options) for _ in range(2)])
        self.attentions = nnx.List([PixelAttention(channels, options, groups=config.norm_num_groups)])

    def __call__(
        self, x: Float[Array, "pictures height width channels"]
    ) -> Float[Array, "pictures height width channels"]:
        return self.resnets[1](self.attentions[0](self.resnets[0](x)))


class PaddedDownsample(nnx.Module):
    """3x3 convolution with stride 2, padded below and right only: half the height and width, rounded down."""

    def __init__(self, channels: int, options: NetworkOptions):
        self.conv = conv(channels, channels, options, stride=2, padding=((0, 1), (0, 1)))

    def __call__(
        self, x: Float[Array, "pictures height width channels"]
    ) -> Float[Array, "pictures half_height half_width channels"]:
        return self.conv(x)


class EncoderLevel(nnx.Module):
    """ResNets, then half the size (but at the last level)."""

    def __init__(self, config: VAEConfig, level: int, options: NetworkOptions):
        widths, layers = config.block_out_channels, config.layers_per_block
        channels, before = widths[level], widths[max(level - 1, 0)]
        self.resnets = nnx.List(
            [_resnet(config, before if i == 0 else channels, channels, options) for i in range(layers)]
        )
        is_last = level == len(widths) - 1
        self.downsamplers = nnx.List([] if is_last else [PaddedDownsample(channels, options)])

    def __call__(
        self, x: Float[Array, "pictures height width in_channels"]
    ) -> Float[Array, "pictures new_height new_width out_channels"]:
        for layer in (*self.resnets, *self.downsamplers):
            x = layer(x)
        return x


class DecoderLevel(nnx.Module):
    """ResNets, then twice the size (but at the finest level)."""

    def __init__(self, config: VAEConfig, level: int, options: NetworkOptions):
        widths, layers = config.block_out_channels, config.layers_per_block + 1
        channels, before = widths[level], widths[min(level + 1, len(widths) - 1)]
        self.resnets = nnx.List(
            [_resnet(config, before if i == 0 else channels, channels, options) for i in range(layers)]
        )
        self.upsamplers = nnx.List([] if level == 0 else [Upsample(channels, options)])

    def __call__(
        self, x: Float[Array, "pictures height width in_channels"]
    ) -> Float[Array, "pictures new_height new_width out_channels"]:
        for layer in (*self.resnets, *self.upsamplers):
            x = layer(x)
        return x


class Encoder(nnx.Module):
    """Pictures -> mean and log-variance of the latents, before quant_conv."""

    def __init__(self, config: VAEConfig, options: NetworkOptions):
        widths = config.block_out_channels
        self.conv_in = conv(config.in_channels, widths[0], options)
        self.down_blocks = nnx.List([EncoderLevel(config, level, options) for level in range(len(widths))])
        self.mid_block = MidBlock(config, options)
        self.conv_norm_out = group_norm(widths[-1], options, groups=config.norm_num_groups, epsilon=EPSILON)
        self.conv_out = conv(widths[-1], 2 * config.latent_channels, options)

    def __call__(
        self, x: Float[Array, "pictures height width channels"]
    ) -> Float[Array, "pictures latent_height latent_width moments"]:
        x = self.conv_in(x)
        for block in self.down_blocks:
            x = block(x)
        return self.conv_out(jax.nn.silu(self.conv_norm_out(self.mid_block(x))))


class Decoder(nnx.Module):
    """Latents, after post_quant_conv -> pictures."""

    def __init__(self, config: VAEConfig, options: NetworkOptions):
        widths = config.block_out_channels
        self.conv_in = conv(config.latent_channels, widths[-1], options)
        self.mid_block = MidBlock(config, options)
        self.up_blocks = nnx.List([DecoderLevel(config, level, options) for level in reversed(range(len(widths)))])
        self.conv_norm_out = group_norm(widths[0], options, groups=config.norm_num_groups, epsilon=EPSILON)
        self.conv_out = conv(widths[0], config.out_channels, options)

    def __call__(
        self, z: Float[Array, "pictures latent_height latent_width latent_channels"]
    ) -> Float[Array, "pictures height width channels"]:
        x = self.mid_block(self.conv_in(z))
        for block in self.up_blocks:
            x = block(x)
        return self.conv_out(jax.nn.silu(self.conv_norm_out(x)))


class VAE(nnx.Module):
    """The autoencoder. Latents come out and go in unscaled: `config.scaling_factor` is the caller's to apply."""

    def __init__(self, config: VAEConfig, options: NetworkOptions = NetworkOptions()):  # noqa: B008 (frozen)
        latents = config.latent_channels
        self.encoder = Encoder(config, options)
        self.decoder = Decoder(config, options)
        self.quant_conv = Conv1x1(2 * latents, 2 * latents, options)
        self.post_quant_conv = Conv1x1(latents, latents, options)
        self.config = config

    def encode(self, x: Float[Array, "pictures height width channels"]) -> Posterior:
        """The posterior over the latents of pictures in [-1, 1], whose sides are multiples of `config.downscale`."""
        moments = self.quant_conv(self.encoder(x))
        mean, logvar = jnp.split(moments, 2, axis=-1)
        return Posterior(mean, jnp.clip(logvar, -30.0, 20.0))

    def decode(
        self, z: Float[Array, "pictures latent_height latent_width latent_channels"]
    ) -> Float[Array, "pictures height width channels"]:
        """Pictures of latents, about [-1, 1] and not clipped."""
        return self.decoder(self.post_quant_conv(z))
