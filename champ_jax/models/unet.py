"""The Stable Diffusion 1.5 UNet over frames: ReferenceNet (gives the bank) and denoiser (reads it) in one class.

Champ section 3.4; Hu et al. 2023 (Animate Anyone) for the reference attention. Places in the network are named as in
PyTorch's files: 'down_blocks.0.attentions.1', 'mid_block.attentions.0', ...
"""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import chex
import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Num

from champ_jax.common.errors import InputError
from champ_jax.common.ranges import Choice, Items, Number
from champ_jax.models.functional import remat_call
from champ_jax.models.layers import (
    Downsample,
    ResNetBlock,
    TimeEmbedding,
    Upsample,
    conv,
    group_norm,
    timestep_embedding,
)
from champ_jax.models.motion_module import MotionConfig, MotionModule
from champ_jax.models.options import NetworkOptions
from champ_jax.models.schema import (
    CHANNELS,
    EPSILON,
    FLAG,
    GROUPS,
    HEADS,
    LAYERS,
    WIDTHS,
    check_divides,
    check_fields,
    known_fields,
    require_object,
    require_supported,
)
from champ_jax.models.transformer import BlockReference, Rows, SpatialTransformer

# What one video's picture means to the denoiser: an entry for each place.
Reference = dict[str, BlockReference]
Bank = dict[str, jax.Array]


_RULES = {
    "in_channels": CHANNELS,
    "out_channels": CHANNELS,
    "block_out_channels": WIDTHS,
    "layers_per_block": LAYERS,
    "attention_levels": Items(FLAG, minimum=1),
    "heads": Items(HEADS, minimum=1),
    "cross_attention_dim": CHANNELS,
    "norm_num_groups": GROUPS,
    "norm_eps": EPSILON,
    "flip_sin_to_cos": FLAG,
    "freq_shift": Number(minimum=0, maximum=1),
}
# Fields of diffusers' config.json that name variants of the network, with the one that is implemented.
_SUPPORTED = {
    "act_fn": "silu",
    "center_input_sample": False,
    "downsample_padding": 1,
    "mid_block_scale_factor": 1,
    "use_linear_projection": False,
    "dual_cross_attention": False,
    "class_embed_type": None,
    "addition_embed_type": None,
    "only_cross_attention": False,
    "resnet_time_scale_shift": "default",
    "time_embedding_type": "positional",
    "mid_block_type": "UNetMidBlock2DCrossAttn",
}


@dataclasses.dataclass(frozen=True)
class UNetConfig:
    """Sizes of the UNet, as diffusers' unet/config.json names them.

    Attributes:
      in_channels: latent channels read.
      out_channels: channels predicted.
      block_out_channels: width of each level, finest first.
      layers_per_block: ResNets a level going down; one more going up.
      attention_levels: whether each level has attention (CrossAttnDownBlock2D).
      heads: attention heads of each level (config.json calls SD 1.5's 8 heads `attention_head_dim: 8`).
      cross_attention_dim: width of the image token.
      norm_num_groups: groups of every GroupNorm.
      norm_eps: epsilon of the ResNets' GroupNorms and of conv_norm_out.
      flip_sin_to_cos: cosines come first in the time embedding.
      freq_shift: shift of the time embedding's frequencies.

    Raises:
      InputError: a field has the wrong type or is out of range, or the fields do not fit together; names the field.
    """

    in_channels: int = 4
    out_channels: int = 4
    block_out_channels: tuple[int, ...] = (320, 640, 1280, 1280)
    layers_per_block: int = 2
    attention_levels: tuple[bool, ...] = (True, True, True, False)
    heads: tuple[int, ...] = (8, 8, 8, 8)
    cross_attention_dim: int = 768
    norm_num_groups: int = 32
    norm_eps: float = 1e-5
    flip_sin_to_cos: bool = True
    freq_shift: float = 0

    def __post_init__(self) -> None:
        check_fields(self, "unet", _RULES)
        lengths = {field: len(getattr(self, field)) for field in ("block_out_channels", "attention_levels", "heads")}
        if len(set(lengths.values())) > 1:
            raise InputError(
                f"unet: block_out_channels, attention_levels (down_block_types) and heads differ in length: "
                f"{', '.join(map(str, lengths.values()))}"
            )
        for width in self.block_out_channels:
            check_divides("unet.block_out_channels", width, "unet.norm_num_groups", self.norm_num_groups)
        for level, (width, heads) in enumerate(zip(self.block_out_channels, self.heads)):
            if self.attention_levels[level] or level == self.levels - 1:  # the middle block always attends
                check_divides("unet.block_out_channels", width, "unet.heads", heads)
        check_divides("unet.block_out_channels", self.block_out_channels[0], "the time embedding's halves", 2)
        if self.freq_shift >= self.block_out_channels[0] // 2:
            raise InputError(f"unet.freq_shift={self.freq_shift}: expected less than half of the first width")

    @classmethod
    def from_json(cls, fields: Any) -> "UNetConfig":
        """Reads diffusers' config.json of a UNet2DConditionModel; fields it does not know are passed over.

        Raises:
          InputError: a field has a value this network does not implement; names the field.
        """
        fields = require_object("unet config.json", fields)
        require_supported("unet config.json", fields, _SUPPORTED)
        widths = fields.get("block_out_channels", list(cls().block_out_channels))
        WIDTHS.check("unet.block_out_channels", widths)
        default_kinds = ["CrossAttnDownBlock2D"] * (len(widths) - 1) + ["DownBlock2D"]
        kinds = fields.get("down_block_types", default_kinds)
        Items(Choice("CrossAttnDownBlock2D", "DownBlock2D")).check("unet.down_block_types", kinds)
        attention_levels = tuple(kind == "CrossAttnDownBlock2D" for kind in kinds)
        mirrored = ["CrossAttnUpBlock2D" if has else "UpBlock2D" for has in reversed(attention_levels)]
        up_kinds = fields.get("up_block_types", mirrored)
        if not isinstance(up_kinds, (list, tuple)) or list(up_kinds) != mirrored:
            raise InputError("unet config.json: up_block_types does not mirror down_block_types")
        heads = fields.get("num_attention_heads")
        heads = fields.get("attention_head_dim", 8) if heads is None else heads
        heads = heads if isinstance(heads, (list, tuple)) else (heads,) * len(widths)
        given = {"block_out_channels": widths, "attention_levels": attention_levels, "heads": heads}
        return cls(**{**known_fields(cls, fields), **given})

    def to_json(self) -> dict[str, Any]:
        """The fields as diffusers' config.json holds them."""
        heads = self.heads[0] if len(set(self.heads)) == 1 else list(self.heads)
        kinds = ["CrossAttnDownBlock2D" if has else "DownBlock2D" for has in self.attention_levels]
        return {
            "_class_name": "UNet2DConditionModel",
            "act_fn": "silu",
            "attention_head_dim": heads,
            "block_out_channels": list(self.block_out_channels),
            "center_input_sample": False,
            "cross_attention_dim": self.cross_attention_dim,
            "down_block_types": kinds,
            "downsample_padding": 1,
            "flip_sin_to_cos": self.flip_sin_to_cos,
            "freq_shift": self.freq_shift,
            "in_channels": self.in_channels,
            "layers_per_block": self.layers_per_block,
            "mid_block_scale_factor": 1,
            "norm_eps": self.norm_eps,
            "norm_num_groups": self.norm_num_groups,
            "out_channels": self.out_channels,
            "up_block_types": [kind.replace("Down", "Up") for kind in reversed(kinds)],
        }

    @property
    def levels(self) -> int:
        """The number of resolutions."""
        return len(self.block_out_channels)


class _Build:
    """What the constructors of one UNet share."""

    def __init__(self, config: UNetConfig, motion: MotionConfig | None, options: NetworkOptions):
        self.config, self.motion, self.options = config, motion, options

    def resnet(self, in_channels: int, out_channels: int) -> ResNetBlock:
        return ResNetBlock(
            in_channels,
            out_channels,
            self.options,
            time_width=4 * self.config.block_out_channels[0],
            groups=self.config.norm_num_groups,
            epsilon=self.config.norm_eps,
        )

    def transformers(self, level: int, count: int) -> nnx.List:
        config = self.config
        return nnx.List(
            [
                SpatialTransformer(
                    config.block_out_channels[level],
                    config.heads[level],
                    self.options,
                    context_width=config.cross_attention_dim,
                    groups=config.norm_num_groups,
                    kernel=self.options.kernels.at_level(level),
                )
                for _ in range(count)
            ]
        )

    def motion_modules(self, level: int, count: int) -> nnx.List:
        if self.motion is None:
            return nnx.List([])
        channels, groups = self.config.block_out_channels[level], self.config.norm_num_groups
        return nnx.List([MotionModule(channels, self.motion, self.options, groups=groups) for _ in range(count)])


@dataclasses.dataclass(frozen=True)
class _Inputs:
    """What every block of one forward pass reads beside its input; lives inside one trace.

    Attributes:
      time: SiLU of the time embedding, (B, time_width).
      reference: what the transformer blocks read of the picture, by place.
      rows: how the batch is made up.
      remat: what the backward pass recomputes.
    """

    time: jax.Array
    reference: Reference
    rows: Rows
    remat: str


class Block(nnx.Module):
    """One level's ResNets, transformers and motion modules; the subclasses say in which order they run.

    There are as many transformers as ResNets or none, and likewise with the motion modules; the middle block has one
    of each, after its first ResNet.
    """

    def __init__(self, build: _Build, level: int, sizes: Sequence[tuple[int, int]], *, attention: int, motion: int):
        """`sizes` are (in, out) channels of the ResNets; `attention` and `motion` count the other layers."""
        self.resnets = nnx.List([build.resnet(*channels) for channels in sizes])
        self.attentions = build.transformers(level, attention)
        self.motion_modules = build.motion_modules(level, motion)

    def layer(self, index: int, x: jax.Array, place: str, inputs: _Inputs) -> tuple[jax.Array, Bank]:
        """ResNet number `index`, then attention and motion where the block has them; the output and a bank entry."""
        x = remat_call(inputs.remat, self.resnets[index], x, inputs.time)
        entries: Bank = {}
        if index < len(self.attentions):
            name = f"{place}.attentions.{index}"
            reference = inputs.reference[name]
            x, entries[name] = remat_call(inputs.remat, self.attentions[index], x, reference, inputs.rows)
        if index < len(self.motion_modules):
            x = remat_call(inputs.remat, self.motion_modules[index], x, inputs.rows)
        return x, entries


class DownBlock(Block):
    """`layers_per_block` times (ResNet, attention, motion), then down by 2 except at the coarsest level."""

    def __init__(self, level: int, build: _Build):
        config = build.config
        channels, layers = config.block_out_channels[level], config.layers_per_block
        before = config.block_out_channels[max(level - 1, 0)]
        sizes = [(before if index == 0 else channels, channels) for index in range(layers)]
        super().__init__(build, level, sizes, attention=layers * config.attention_levels[level], motion=layers)
        is_last = level == config.levels - 1
        self.downsamplers = nnx.List([] if is_last else [Downsample(channels, build.options)])

    def __call__(self, x: jax.Array, place: str, inputs: _Inputs) -> tuple[jax.Array, list[jax.Array], Bank]:
        skips, bank = [], {}
        for index in range(len(self.resnets)):
            x, entries = self.layer(index, x, place, inputs)
            skips.append(x)
            bank |= entries
        for downsample in self.downsamplers:
            x = downsample(x)
            skips.append(x)
        return x, skips, bank


class MiddleBlock(Block):
    """ResNet, attention, motion, ResNet at the coarsest level."""

    def __init__(self, build: _Build):
        level = build.config.levels - 1
        channels = build.config.block_out_channels[level]
        motion = int(build.motion is not None and build.motion.in_middle)
        super().__init__(build, level, [(channels, channels)] * 2, attention=1, motion=motion)

    def __call__(self, x: jax.Array, place: str, inputs: _Inputs) -> tuple[jax.Array, Bank]:
        x, bank = self.layer(0, x, place, inputs)
        x, _ = self.layer(1, x, place, inputs)
        return x, bank


class UpBlock(Block):
    """`layers_per_block + 1` times (ResNet on [x ; skip], attention, motion), then up except at the finest level."""

    def __init__(self, level: int, build: _Build):
        config = build.config
        widths, layers = config.block_out_channels, config.layers_per_block + 1
        channels, below = widths[level], widths[min(level + 1, config.levels - 1)]
        # The last skip of a level was made by the finer level's downsampler (or by conv_in).
        skips = [channels] * (layers - 1) + [widths[max(level - 1, 0)]]
        sizes = [((below if index == 0 else channels) + skips[index], channels) for index in range(layers)]
        super().__init__(build, level, sizes, attention=layers * config.attention_levels[level], motion=layers)
        self.upsamplers = nnx.List([] if level == 0 else [Upsample(channels, build.options)])

    def __call__(self, x: jax.Array, skips: list[jax.Array], place: str, inputs: _Inputs) -> tuple[jax.Array, Bank]:
        """Takes its skips off the end of `skips`."""
        bank: Bank = {}
        for index in range(len(self.resnets)):
            x, entries = self.layer(index, jnp.concatenate([x, skips.pop()], axis=-1), place, inputs)
            bank |= entries
        for upsample in self.upsamplers:
            # Odd sizes were rounded up on the way down: go back to exactly the next skip's size.
            _, height, width, _ = skips[-1].shape
            x = upsample(x, (height, width))
        return x, bank


class UNet(nnx.Module):
    """Stable Diffusion's UNet, applied to every frame, with reference attention and motion modules."""

    def __init__(
        self,
        config: UNetConfig,
        options: NetworkOptions = NetworkOptions(),  # noqa: B008 (frozen)
        *,
        motion: MotionConfig | None = None,
        output: bool = True,
    ):
        """Builds the network, without values.

        Args:
          config: its sizes.
          options: how it computes.
          motion: gives every (ResNet, attention) pair and the middle block a motion module; None (ReferenceNet,
            stage 1): none.
          output: whether there are conv_norm_out and conv_out (the ReferenceNet has none).
        """
        build = _Build(config, motion, options)
        widths = config.block_out_channels
        self.config, self.options = config, options
        self.conv_in = conv(config.in_channels, widths[0], options)
        self.time_embedding = TimeEmbedding(widths[0], 4 * widths[0], options)
        self.down_blocks = nnx.List([DownBlock(level, build) for level in range(config.levels)])
        self.mid_block = MiddleBlock(build)
        self.up_blocks = nnx.List([UpBlock(level, build) for level in reversed(range(config.levels))])
        if output:
            self.conv_norm_out = group_norm(widths[0], options, groups=config.norm_num_groups, epsilon=config.norm_eps)
            self.conv_out = conv(widths[0], config.out_channels, options)

    def places(self) -> Iterator[tuple[str, SpatialTransformer]]:
        """The transformers by place, in the order of the forward pass."""
        blocks: list[tuple[str, Block]] = [(f"down_blocks.{i}", block) for i, block in enumerate(self.down_blocks)]
        blocks.append(("mid_block", self.mid_block))
        blocks += [(f"up_blocks.{i}", block) for i, block in enumerate(self.up_blocks)]
        for place, block in blocks:
            for index, transformer in enumerate(block.attentions):
                yield f"{place}.attentions.{index}", transformer

    def prepare_reference(self, bank: Bank | None, token: Float[Array, "pictures cross_attention_dim"]) -> Reference:
        """What every transformer block reads of a picture, projected once: it is the same for all frames and steps.

        Args:
          bank: the ReferenceNet's bank, (pictures, tokens, channels) by place; None: no bank (the ReferenceNet's own
            pass).
          token: image tokens of one picture, or of as many as the batches to come have conditional rows (rows in all,
            where unconditional ones are marked by a mask).
        """
        token = token.astype(self.options.dtype)
        return {
            place: transformer.transformer_blocks[0].prepare(None if bank is None else bank[place], token)
            for place, transformer in self.places()
        }

    def bank(
        self,
        latents: Float[Array, "pictures height width channels"],
        token: Float[Array, "pictures cross_attention_dim"],
    ) -> Bank:
        """The ReferenceNet's pass at timestep 0.

        Args:
          latents: scaled latents of the pictures.
          token: their image tokens.

        Returns:
          The norm1 output of every transformer block, (pictures, tokens, channels) by place. Layers after the last
          norm1 feed nothing; under jit the compiler drops them.
        """
        reference = self.prepare_reference(None, token)
        _, bank = self._run(latents[:, None], jnp.zeros(1), reference, None, 0)
        return bank

    def __call__(
        self,
        latents: Float[Array, "batch frames height width in_channels"],
        timesteps: Num[Array, "#batch"] | Num[Array, ""],
        reference: Reference,
        guidance: Float[Array, "#batch frames height width channels"] | None = None,
        *,
        unconditional: int | Bool[Array, " batch"] = 0,
    ) -> Float[Array, "batch frames height width out_channels"]:
        """Predicts the velocity (or noise) of every frame, in the dtype of the computation.

        Args:
          latents: noisy latents.
          timesteps: one for each row, or one for all.
          reference: What `prepare_reference` returned.
          guidance: added after conv_in, block_out_channels[0] channels; one row serves all.
          unconditional: how many of the first rows see no bank and the zero image token, or an array that marks such
            rows.
        """
        x, _ = self._run(latents, timesteps, reference, guidance, unconditional)
        x = self.conv_out(jax.nn.silu(self.conv_norm_out(x)))
        return x.reshape(*latents.shape[:-1], x.shape[-1])

    def _run(
        self,
        latents: jax.Array,
        timesteps: jax.Array,
        reference: Reference,
        guidance: jax.Array | None,
        unconditional: int | jax.Array,
    ) -> tuple[jax.Array, Bank]:
        """(B, F, h, w, in) -> (B * F, h, w, block_out_channels[0]), and the bank."""
        config = self.config
        chex.assert_shape(latents, (None, None, None, None, config.in_channels))
        batch, frames, height, width, _ = latents.shape
        if guidance is not None:
            chex.assert_shape(guidance, (None, frames, height, width, config.block_out_channels[0]))
        time = timestep_embedding(
            jnp.broadcast_to(timesteps, (batch,)),
            config.block_out_channels[0],
            flip_sin_to_cos=config.flip_sin_to_cos,
            freq_shift=config.freq_shift,
        )
        time = jax.nn.silu(self.time_embedding(time.astype(self.options.dtype)))
        inputs = _Inputs(time, reference, Rows.of(frames, unconditional), self.options.remat)

        x = self.conv_in(latents.reshape(batch * frames, height, width, -1).astype(self.options.dtype))
        if guidance is not None:
            clips = x.reshape(batch, frames, *x.shape[1:]) + guidance.astype(x.dtype)
            x = clips.reshape(x.shape)
        skips, bank = [x], {}
        for index, block in enumerate(self.down_blocks):
            x, more, entries = block(x, f"down_blocks.{index}", inputs)
            skips += more
            bank |= entries
        x, entries = self.mid_block(x, "mid_block", inputs)
        bank |= entries
        for index, block in enumerate(self.up_blocks):
            x, entries = block(x, skips, f"up_blocks.{index}", inputs)
            bank |= entries
        return x, bank
