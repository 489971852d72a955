"""The assembled model and its configuration: what a checkpoint's config.json says about the networks."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from champ_jax.common.condition_names import CONDITIONS
from champ_jax.common.errors import InputError
from champ_jax.models.attention import AttentionKernels
from champ_jax.models.clip import CLIPVisionConfig, CLIPVisionTower
from champ_jax.models.guidance import Guidance, GuidanceConfig
from champ_jax.models.motion_module import MotionConfig
from champ_jax.models.unet import Reference, UNet, UNetConfig
from champ_jax.models.vae import VAE, VAEConfig

COMPONENTS = ("vae", "image_encoder", "reference_unet", "denoising_unet", "guidance")


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
    """

    betas: str = "linear"
    beta_start: float = 0.00085
    beta_end: float = 0.012
    length: int = 1000
    zero_terminal_snr: bool = True
    prediction: str = "v_prediction"
    spacing: str = "trailing"


@dataclasses.dataclass(frozen=True)
class ChampConfig:
    """Sizes of every network and the noise schedules. The defaults are Champ's: SD 1.5, CLIP ViT-L/14.

    Attributes:
      unet: of ReferenceNet and denoiser.
      motion: of the motion modules; None for a stage-1 model, which has none.
      guidance: of each guidance encoder.
      vae: of the autoencoder.
      image_encoder: of the CLIP vision tower.
      conditions: the guidance encoders there are.
      inference: the schedule to sample with (Champ samples linear betas ...).
      training: the schedule trained with (... and was trained on scaled_linear ones).
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
    def from_json(cls, fields: Mapping[str, Any]) -> "ChampConfig":
        """Reads what `to_json` wrote.

        Raises:
          InputError: a field is missing, unknown or unsupported; names it.
        """
        expected = {field.name for field in dataclasses.fields(cls)}
        for name in sorted(expected ^ set(fields)):
            raise InputError(f"model config: {'unknown' if name in fields else 'missing'} field {name}")
        try:
            return cls(
                unet=UNetConfig.from_json(fields["unet"]),
                motion=None if fields["motion"] is None else MotionConfig.from_json(fields["motion"]),
                guidance=GuidanceConfig.from_json(fields["guidance"]),
                vae=VAEConfig.from_json(fields["vae"]),
                image_encoder=CLIPVisionConfig.from_json(fields["image_encoder"]),
                conditions=tuple(fields["conditions"]),
                inference=ScheduleConfig(**fields["inference"]),
                training=ScheduleConfig(**fields["training"]),
            )
        except (TypeError, KeyError) as error:
            raise InputError(f"model config: {error}") from error


def build_component(
    name: str,
    config: ChampConfig,
    *,
    kernels: AttentionKernels | None = None,
    remat: str = "none",
    scan: bool = False,
    dtype: DTypeLike = jnp.float32,
    param_dtype: DTypeLike = jnp.float32,
    rngs: nnx.Rngs,
) -> nnx.Module:
    """One of COMPONENTS with fresh parameters; under nnx.eval_shape it costs no memory.

    Args:
      name: 'vae', 'image_encoder', 'reference_unet', 'denoising_unet' (with the motion modules) or 'guidance'.
      config: sizes.
      kernels: attention kernels by level.
      remat: 'none' or a name in `layers.REMAT_POLICIES`; the frozen VAE and image encoder take none.
      scan: run layers that repeat (the image encoder's) as one scanned body: compiles faster, runs slower on a CPU.
      dtype: of the computation; norms and softmax reduce in float32 in any case.
      param_dtype: of the parameters.
      rngs: for the parameters.
    """
    kernels = kernels or AttentionKernels()
    policy = {"dtype": dtype, "param_dtype": param_dtype, "rngs": rngs}
    trained = {"kernels": kernels, "remat": remat, **policy}
    if name == "vae":
        return VAE(config.vae, kernel=kernels.vae, platform=kernels.platform, **policy)
    if name == "image_encoder":
        placed = {"kernel": kernels.image_encoder, "platform": kernels.platform}
        return CLIPVisionTower(config.image_encoder, scan=scan, **placed, **policy)
    if name == "reference_unet":
        return UNet(config.unet, output=False, **trained)
    if name == "denoising_unet":
        return UNet(config.unet, motion=config.motion, **trained)
    if name == "guidance":
        return Guidance(config.guidance, config.conditions, **trained)
    raise InputError(f"component {name!r}: unknown; choose {', '.join(COMPONENTS)}")


class Champ(nnx.Module):
    """The networks together, as attributes named as in COMPONENTS, and what they compute together."""

    def __init__(self, config: ChampConfig, *, components: Sequence[str] = COMPONENTS, **options: Any):
        """`components` picks which networks to build (training leaves the frozen ones out); `options` as in
        `build_component`."""
        for name in components:
            setattr(self, name, build_component(name, config, **options))
        self.config = config

    def reference(self, latents: jax.Array, token: jax.Array) -> Reference:
        """What the denoiser reads of R pictures; the same for every frame and step, so make it once.

        Args:
          latents: (R, h, w, 4) scaled latents.
          token: (R, cross_attention_dim) image embeddings.
        """
        return self.denoising_unet.prepare_reference(self.reference_unet.bank(latents, token), token)

    def guide(self, conditions: Mapping[str, jax.Array]) -> jax.Array:
        """{condition: (B, F, H, W, 3) in [0, 1]} -> (B, F, H / 8, W / 8, block_out_channels[0])."""
        batch, frames = next(iter(conditions.values())).shape[:2]
        features = self.guidance({name: x.reshape(batch * frames, *x.shape[2:]) for name, x in conditions.items()})
        return features.reshape(batch, frames, *features.shape[1:])

    def __call__(
        self,
        latents: jax.Array,
        timesteps: jax.Array,
        reference_latents: jax.Array,
        token: jax.Array,
        conditions: Mapping[str, jax.Array],
        unconditional: int | jax.Array = 0,
    ) -> jax.Array:
        """The prediction that training takes the loss of.

        Args:
          latents: (B, F, h, w, 4) noisy latents.
          timesteps: (B,).
          reference_latents: (B, h, w, 4).
          token: (B, cross_attention_dim) image embeddings of the reference pictures.
          conditions: {condition: (B, F, H, W, 3) in [0, 1]}.
          unconditional: (B,) bool, the samples whose reference is dropped (no bank, zero token), or 0 for none.

        Returns:
          (B, F, h, w, 4).
        """
        reference = self.reference(reference_latents, token)
        return self.denoising_unet(latents, timesteps, reference, self.guide(conditions), unconditional=unconditional)
