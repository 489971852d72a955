"""Guidance encoders, one per motion condition, and their fusion (Champ section 3.3, eq. 4)."""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
from flax import nnx
from jaxtyping import Array, Float

from champ_jax.common.condition_names import CONDITIONS
from champ_jax.common.errors import InputError
from champ_jax.common.ranges import Items
from champ_jax.models.functional import mark_unused, remat_call
from champ_jax.models.layers import conv
from champ_jax.models.options import NetworkOptions
from champ_jax.models.schema import CHANNELS, FLAG, GROUPS, HEADS, check_divides, check_fields, from_own_json
from champ_jax.models.transformer import SpatialTransformer

_RULES = {
    "block_out_channels": Items(CHANNELS, minimum=2, maximum=10),
    "out_channels": CHANNELS,
    "heads": HEADS,
    "norm_num_groups": GROUPS,
    "attention": FLAG,
}


@dataclasses.dataclass(frozen=True)
class GuidanceConfig:
    """Sizes of a guidance encoder.

    Attributes:
      block_out_channels: widths; every one after the first halves the picture.
      out_channels: the denoiser's block_out_channels[0].
      heads: attention heads.
      norm_num_groups: groups of the transformer's GroupNorm.
      attention: whether the self-attention runs (False: the paper's Table 4 ablation).

    Raises:
      InputError: a field has the wrong type or is out of range, or the fields do not fit together; names the field.
    """

    block_out_channels: tuple[int, ...] = (16, 32, 96, 256)
    out_channels: int = 320
    heads: int = 8
    norm_num_groups: int = 32
    attention: bool = True

    def __post_init__(self) -> None:
        check_fields(self, "guidance", _RULES)
        for _, width, _ in self.stages:
            check_divides("guidance.block_out_channels", width, "guidance.heads", self.heads)
            check_divides("guidance.block_out_channels", width, "guidance.norm_num_groups", self.groups(width))

    @property
    def stages(self) -> list[tuple[int, int, int]]:
        """(in, out, stride) of the convolutions between conv_in and the transformer."""
        pairs = itertools.pairwise(self.block_out_channels)
        return [stage for a, b in pairs for stage in ((a, a, 1), (a, b, 2))]

    def groups(self, channels: int) -> int:
        """Groups of a transformer's GroupNorm; narrow ones have one for each channel."""
        return min(self.norm_num_groups, channels)

    @classmethod
    def from_json(cls, fields: Any) -> "GuidanceConfig":
        """Reads what `dataclasses.asdict` gave; raises InputError on unknown fields."""
        return from_own_json(cls, "guidance", fields)


class GuidanceEncoder(nnx.Module):
    """3x3 convolutions with SiLU down to latent size, a transformer block over the pixels, a zero convolution.

    The files hold a transformer after every convolution (`attentions`) and one more (`guidance_attention`); only the
    last of `attentions` takes part in the forward pass, the others are carried along.
    """

    def __init__(self, config: GuidanceConfig, options: NetworkOptions = NetworkOptions()):  # noqa: B008 (frozen)
        def transformer(channels: int) -> SpatialTransformer:
            groups, kernel = config.groups(channels), options.kernels.guidance
            return SpatialTransformer(channels, config.heads, options, context_width=None, groups=groups, kernel=kernel)

        stages = config.stages
        self.config, self.options = config, options
        self.conv_in = conv(3, config.block_out_channels[0], options)
        self.blocks = nnx.List([conv(a, b, options, stride=stride) for a, b, stride in stages])
        unused = [mark_unused(transformer(channels)) for _, channels, _ in stages[:-1]]
        last = transformer(stages[-1][1])
        self.attentions = nnx.List([*unused, last if config.attention else mark_unused(last)])
        self.guidance_attention = mark_unused(transformer(stages[-1][1]))
        self.conv_out = conv(stages[-1][1], config.out_channels, options)

    def __call__(
        self, condition: Float[Array, "frames height width 3"]
    ) -> Float[Array, "frames latent_height latent_width channels"]:
        """Guidance features, an eighth of the size of the maps, which are in [0, 1]."""
        x = jax.nn.silu(self.conv_in(condition.astype(self.options.dtype)))
        for block in self.blocks:
            x = jax.nn.silu(block(x))
        if self.config.attention:
            x, _ = remat_call(self.options.remat, self.attentions[-1], x)
        return self.conv_out(x)


class Guidance(nnx.Module):
    """The encoders of the chosen conditions and their sum (eq. 4)."""

    def __init__(
        self,
        config: GuidanceConfig,
        conditions: Sequence[str] = CONDITIONS,
        options: NetworkOptions = NetworkOptions(),  # noqa: B008 (frozen)
    ):
        """`conditions` are any names; the published files' are CONDITIONS."""
        if not conditions:
            raise InputError("conditions: none chosen; name at least one of " + ", ".join(CONDITIONS))
        self.conditions = tuple(conditions)
        self.encoders = nnx.Dict({name: GuidanceEncoder(config, options) for name in self.conditions})

    def __call__(
        self, conditions: Mapping[str, Float[Array, "frames height width 3"]]
    ) -> Float[Array, "frames latent_height latent_width channels"]:
        """The sum of the encoders' features; maps are in [0, 1].

        Any subset of the conditions may be given: the paper's ablations sum the encoders that are there.

        Raises:
          InputError: a condition without an encoder, or none at all.
        """
        unknown = sorted(set(conditions) - set(self.conditions))
        if unknown or not conditions:
            raise InputError(
                f"condition {unknown[0]}: the model has no encoder for it" if unknown else "no conditions were given"
            )
        features = [self.encoders[name](conditions[name]) for name in self.conditions if name in conditions]
        return sum(features[1:], start=features[0])
