"""The assembled model and its configuration: what a checkpoint's config.json says about the networks."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from flax import nnx
from jaxtyping import Array, Bool, Float, Num

from champ_jax.common.condition_names import CONDITIONS
from champ_jax.common.errors import InputError
from champ_jax.common.ranges import Choice, Integer, Items, Number
from champ_jax.models.clip import CLIPVisionConfig, CLIPVisionTower
from champ_jax.models.guidance import Guidance, GuidanceConfig
from champ_jax.models.motion_module import MotionConfig
from champ_jax.models.options import NetworkOptions
from champ_jax.models.schema import FLAG, check_divides, check_fields, from_own_json, require_object
from champ_jax.models.unet import Reference, UNet, UNetConfig
from champ_jax.models.vae import VAE, VAEConfig

COMPONENTS = ("vae", "image_encoder", "reference_unet", "denoising_unet", "guidance")


SCHEDULE_RULES = {
    "betas": Choice("linear", "scaled_linear", "cosine"),
    "beta_start": Number(above=0, below=1),
    "beta_end": Number(above=0, below=1),
    "length": Integer(minimum=2, maximum=100_000),
    "zero_terminal_snr": FLAG,
    "prediction": Choice("epsilon", "v_prediction"),
    "spacing": Choice("trailing", "leading"),
}


@dataclasses.dataclass(frozen=True)
class ScheduleConfig:
    """The noise schedule a model was trained with or is sampled with; `champ_jax.diffusion.schedules` gives it meaning.

    Attributes:
      betas: 'linear', 'scaled_linear' or 'cosine'.
      beta_start: first beta.
      beta_end: last beta.
      length: training timesteps.
      zero_terminal_snr: the betas are rescaled so that the last timestep is pure noise.
      prediction: 'v_prediction' or 'epsilon'.
      spacing: how sampling spreads its steps, 'trailing' or 'leading'.

    Raises:
      InputError: a field has the wrong type or is out of range, the betas fall, or the model is to predict noise at
        zero terminal SNR; names the field.
    """

    betas: str = "linear"
    beta_start: float = 0.00085
    beta_end: float = 0.012
    length: int = 1000
    zero_terminal_snr: bool = True
    prediction: str = "v_prediction"
    spacing: str = "trailing"

    def __post_init__(self) -> None:
        check_fields(self, "schedule", SCHEDULE_RULES)
        if self.beta_end < self.beta_start:
            raise InputError(f"schedule.beta_end={self.beta_end}: less than schedule.beta_start={self.beta_start}")
        if self.zero_terminal_snr and self.prediction == "epsilon":
            raise InputError(
                "schedule.prediction=epsilon: at zero terminal SNR the noise says nothing about the sample; "
                "predict v, or set schedule.zero_terminal_snr to False"
            )


@dataclasses.dataclass(frozen=True)
class ChampConfig:
    """Sizes of every network and the noise schedules. The defaults are Champ's: SD 1.5, CLIP ViT-L/14.

    Attributes:
      unet: Sizes of ReferenceNet and denoiser.
      motion: Sizes of the motion modules; None for a stage-1 model, which has none.
      guidance: Sizes of each guidance encoder.
      vae: Sizes of the autoencoder.
      image_encoder: Sizes of the CLIP vision tower.
      conditions: the guidance encoders there are.
      inference: the schedule to sample with (Champ samples linear betas ...).
      training: the schedule trained with (... and was trained on scaled_linear ones).

    Raises:
      InputError: the networks do not fit together; names the fields.
    """

    unet: UNetConfig = UNetConfig()
    motion: MotionConfig | None = MotionConfig()
    guidance: GuidanceConfig = GuidanceConfig()
    vae: VAEConfig = VAEConfig()
    image_encoder: CLIPVisionConfig = CLIPVisionConfig()
    conditions: tuple[str, ...] = CONDITIONS
    inference: ScheduleConfig = ScheduleConfig()
    training: ScheduleConfig = ScheduleConfig(betas="scaled_linear")

    def __post_init__(self) -> None:
        Items(_Name(), minimum=1, distinct=True).check("conditions", self.conditions)
        for name, pictures in (
            ("vae.in_channels", self.vae.in_channels),
            ("vae.out_channels", self.vae.out_channels),
            ("image_encoder.num_channels", self.image_encoder.num_channels),
        ):
            if pictures != 3:
                raise InputError(f"{name}={pictures}: pictures have 3 channels")
        if self.unet.out_channels != self.unet.in_channels:
            raise InputError(
                f"unet.out_channels={self.unet.out_channels}: is not unet.in_channels={self.unet.in_channels}"
            )
        if self.motion is not None:
            for width in self.unet.block_out_channels:
                check_divides("unet.block_out_channels", width, "motion.heads", self.motion.heads)
        if self.guidance.out_channels != self.unet.block_out_channels[0]:
            raise InputError(
                f"guidance out_channels={self.guidance.out_channels} is not the UNet's first width "
                f"{self.unet.block_out_channels[0]}"
            )
        if self.image_encoder.projection_dim != self.unet.cross_attention_dim:
            raise InputError(
                f"image_encoder projection_dim={self.image_encoder.projection_dim} is not the UNet's "
                f"cross_attention_dim={self.unet.cross_attention_dim}"
            )
        if self.vae.latent_channels != self.unet.in_channels:
            raise InputError(
                f"vae latent_channels={self.vae.latent_channels} is not the UNet's in_channels={self.unet.in_channels}"
            )
        shrink = 2 ** (len(self.guidance.block_out_channels) - 1)
        if shrink != self.vae.downscale:
            raise InputError(f"guidance encoders shrink pictures by {shrink}, the VAE by {self.vae.downscale}")

    def to_json(self) -> dict[str, Any]:
        """A dict that json can write and `from_json` reads."""
        return {
            "unet": self.unet.to_json(),
            "motion": None if self.motion is None else dataclasses.asdict(self.motion),
            "guidance": dataclasses.asdict(self.guidance),
            "vae": self.vae.to_json(),
            "image_encoder": self.image_encoder.to_json(),
            "conditions": list(self.conditions),
            "inference": dataclasses.asdict(self.inference),
            "training": dataclasses.asdict(self.training),
        }

    @classmethod
    def from_json(cls, fields: Any) -> "ChampConfig":
        """Reads what `to_json` wrote.

        Raises:
          InputError: a field is missing, unknown or unsupported, or holds what it may not; names it.
        """
        fields = require_object("model config", fields)
        expected = {field.name for field in dataclasses.fields(cls)}
        for name in sorted(expected ^ set(fields), key=str):
            raise InputError(f"model config: {'unknown' if name in fields else 'missing'} field {name}")
        conditions = fields["conditions"]
        return cls(
            unet=UNetConfig.from_json(fields["unet"]),
            motion=None if fields["motion"] is None else MotionConfig.from_json(fields["motion"]),
            guidance=GuidanceConfig.from_json(fields["guidance"]),
            vae=VAEConfig.from_json(fields["vae"]),
            image_encoder=CLIPVisionConfig.from_json(fields["image_encoder"]),
            conditions=tuple(conditions) if isinstance(conditions, list) else conditions,
            inference=from_own_json(ScheduleConfig, "inference", fields["inference"]),
            training=from_own_json(ScheduleConfig, "training", fields["training"]),
        )


class _Name:
    """A rule: the name of a condition, which is a part of variables' names."""

    def __str__(self) -> str:
        return "a name of letters, digits and underscores"

    def problem(self, value: Any) -> str | None:
        return None if isinstance(value, str) and value.isidentifier() else f"expected {self}"


def build_component(
    name: str,
    config: ChampConfig,
    options: NetworkOptions = NetworkOptions(),  # noqa: B008 (frozen)
) -> nnx.Module:
    """One of COMPONENTS, without values: its variables hold shapes and dtypes (`champ_jax.models.functional`).

    Args:
      name: 'vae', 'image_encoder', 'reference_unet', 'denoising_unet' (with the motion modules) or 'guidance'.
      config: sizes.
      options: how it computes.
    """
    if name == "vae":
        return VAE(config.vae, options)
    if name == "image_encoder":
        return CLIPVisionTower(config.image_encoder, options)
    if name == "reference_unet":
        return UNet(config.unet, options, output=False)
    if name == "denoising_unet":
        return UNet(config.unet, options, motion=config.motion)
    if name == "guidance":
        return Guidance(config.guidance, config.conditions, options)
    raise InputError(f"component {name!r}: unknown; choose {', '.join(COMPONENTS)}")


class Champ(nnx.Module):
    """The networks together, as attributes named as in COMPONENTS, and what they compute together."""

    vae: VAE
    image_encoder: CLIPVisionTower
    reference_unet: UNet
    denoising_unet: UNet
    guidance: Guidance

    def __init__(
        self,
        config: ChampConfig,
        options: NetworkOptions = NetworkOptions(),  # noqa: B008 (frozen)
        *,
        components: Sequence[str] = COMPONENTS,
    ):
        """`components` picks which networks to build (training leaves the frozen ones out)."""
        for name in components:
            setattr(self, name, build_component(name, config, options))
        self.config = config

    def reference(
        self,
        latents: Float[Array, "pictures height width channels"],
        token: Float[Array, "pictures cross_attention_dim"],
    ) -> Reference:
        """What the denoiser reads of pictures; the same for every frame and step, so make it once.

        Args:
          latents: scaled latents.
          token: image embeddings.
        """
        return self.denoising_unet.prepare_reference(self.reference_unet.bank(latents, token), token)

    def guide(
        self, conditions: Mapping[str, Float[Array, "batch frames height width 3"]]
    ) -> Float[Array, "batch frames latent_height latent_width channels"]:
        """Guidance features of maps in [0, 1], by condition."""
        batch, frames = next(iter(conditions.values())).shape[:2]
        features = self.guidance({name: x.reshape(batch * frames, *x.shape[2:]) for name, x in conditions.items()})
        return features.reshape(batch, frames, *features.shape[1:])

    def __call__(
        self,
        latents: Float[Array, "batch frames latent_height latent_width channels"],
        timesteps: Num[Array, " batch"],
        reference_latents: Float[Array, "batch latent_height latent_width channels"],
        token: Float[Array, "batch cross_attention_dim"],
        conditions: Mapping[str, Float[Array, "batch frames height width 3"]],
        unconditional: int | Bool[Array, " batch"] = 0,
    ) -> Float[Array, "batch frames latent_height latent_width channels"]:
        """The prediction that training takes the loss of.

        Args:
          latents: noisy latents.
          timesteps: one for each sample.
          reference_latents: scaled latents of the reference pictures.
          token: image embeddings of the reference pictures.
          conditions: maps in [0, 1], by condition.
          unconditional: marks the samples whose reference is dropped (no bank, zero token); 0 for none.
        """
        reference = self.reference(reference_latents, token)
        return self.denoising_unet(latents, timesteps, reference, self.guide(conditions), unconditional=unconditional)
