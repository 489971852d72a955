"""ChampPipeline: a picture and motion conditions -> a video.

Example:
  pipe = ChampPipeline.from_checkpoint("weights")
  animation = pipe(read_image("person.png"), MotionFolder("motion"), width=512, height=512)
  animation.save("person.mp4")
"""

import dataclasses
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from champ_jax import programs
from champ_jax.animation import Animation, ArrayConditions, Conditions
from champ_jax.diffusion.denoise import WindowDenoiser, denoising_mesh, lower_denoiser, make_mesh
from champ_jax.diffusion.samplers import SAMPLERS, Path
from champ_jax.diffusion.schedules import Schedule
from champ_jax.diffusion.windows import Windows, plan_windows
from champ_jax.errors import InputError
from champ_jax.media import resize_image
from champ_jax.models.attention import AttentionKernels, check_kernel, recommended_kernels
from champ_jax.models.champ import COMPONENTS, ChampConfig, build_component
from champ_jax.models.functional import PureNetwork, fill
from champ_jax.progress import Progress
from champ_jax.weights.checkpoint import load_checkpoint, read_config

DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}
PIXELS = 512 * 512  # of a video whose size was not asked for


@dataclasses.dataclass(frozen=True)
class Settings:
    """How a clip is made.

    Attributes:
      width, height: of the video, rounded to what the model needs; None follows the picture's aspect (both None: about
        512 x 512 pixels).
      steps: denoising steps.
      guidance_scale: of classifier-free guidance; 1 or less turns it off and halves the work.
      seed: of the noise.
      sampler: a name of `diffusion.samplers.SAMPLERS`.
      eta: fresh noise in each step (ddim).
      windows: how long clips are cut.
      batch: windows a device denoises at once.
      chunk: frames a device encodes or decodes at once.

    Raises:
      InputError: names the field that cannot work.
    """

    width: int | None = None
    height: int | None = None
    steps: int = 20
    guidance_scale: float = 3.5
    seed: int = 42
    sampler: str = "ddim"
    eta: float = 0.0
    windows: Windows = Windows()
    batch: int = 1
    chunk: int = 4

    def __post_init__(self) -> None:
        if self.sampler not in SAMPLERS:
            raise InputError(f"sampler={self.sampler}: not one of {', '.join(SAMPLERS)}")
        if not 0 <= self.eta <= 1 or (self.eta and not SAMPLERS[self.sampler].stochastic):
            raise InputError(f"eta={self.eta}: must be within 0..1, and 0 for every sampler but ddim")
        for name in ("width", "height", "batch", "chunk"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise InputError(f"{name}={getattr(self, name)}: must be 1 or more")
        if not 0 <= self.seed < 2**32:
            raise InputError(f"seed={self.seed}: must be within 0..{2**32 - 1}")
        if not np.isfinite(self.guidance_scale):
            raise InputError(f"guidance_scale={self.guidance_scale}: must be a number")

    @property
    def guided(self) -> bool:
        return self.guidance_scale > 1

    def check(self, config: ChampConfig, conditions: Sequence[str]) -> None:
        """Raises InputError if a model cannot run with these settings on conditions of these names."""
        Path.of(Schedule.of(config.inference), self.steps)
        for name in conditions:
            if name not in config.conditions:
                raise InputError(f"conditions: the model has no {name}; it has {', '.join(config.conditions)}")
        if config.motion is None:
            raise InputError("weights: hold no motion modules (a stage-1 model); a video needs a stage-2 model")
        if self.windows.frames > config.motion.max_length:
            raise InputError(
                f"windows.frames={self.windows.frames}: the motion modules know {config.motion.max_length} frames"
            )

    def size(self, config: ChampConfig, picture: tuple[int, ...]) -> tuple[int, int]:
        """The (width, height) of the video for a picture of shape (H, W, ...)."""
        aspect = picture[1] / picture[0]
        width = self.width or (self.height * aspect if self.height else (PIXELS * aspect) ** 0.5)
        height = self.height or width / aspect
        multiple = config.vae.downscale
        return multiple * max(round(width / multiple), 1), multiple * max(round(height / multiple), 1)


class Programs(NamedTuple):
    """The compiled programs of a picture size."""

    picture: Any
    conditions: Any
    denoiser: WindowDenoiser
    decoder: Any


class ChampPipeline:
    """The networks with their weights on devices, and the programs compiled for them so far.

    Programs are compiled when a picture size first comes up and kept; the denoiser's serves clips of any length (a clip
    shorter than a window has its own).

    Attributes:
      config: sizes of the networks and noise schedules.
      dtype: of parameters and computation; latents stay float32.
      devices: that it runs on.
    """

    def __init__(
        self,
        config: ChampConfig,
        weights: Mapping[str, Mapping[Any, Any]],
        *,
        dtype: str = "bfloat16",
        devices: Sequence[jax.Device] | None = None,
        kernels: AttentionKernels | None = None,
        compiler_options: dict[str, Any] | None = None,
    ):
        """Puts the weights on the devices.

        Args:
          config: of the model.
          weights: {component: pure nested dict of arrays}, as `weights.checkpoint.load_checkpoint` gives them.
          dtype: 'bfloat16' or 'float32'.
          devices: to run on; None takes all of this process.
          kernels: attention kernels; None takes the recommended ones wherever they can run and XLA's elsewhere.
          compiler_options: for XLA, for example {"xla_gpu_deterministic_ops": True}.
        """
        self.config, self.dtype = config, _dtype(dtype)
        self.devices = list(devices or jax.local_devices())
        self._kernels, self._options = kernels, compiler_options
        self._mesh = make_mesh(self.devices)
        self._everywhere = NamedSharding(self._mesh, P())
        self._parameters = {
            name: jax.device_put(fill(self._abstract(name)[1], weights[name]), self._everywhere)
            for name in COMPONENTS
        }
        self._compiled: dict[tuple, Any] = {}

    @classmethod
    def from_checkpoint(
        cls, directory: str | os.PathLike, *, dtype: str = "bfloat16", **options: Any
    ) -> "ChampPipeline":
        """Loads a directory that tools/convert_weights.py wrote; `options` as for the constructor.

        Raises:
          InputError: no checkpoint, a damaged one, or one of another architecture (every misfit is named).
        """
        config = ChampConfig.from_json(read_config(directory)["model"])
        expected = {name: nnx.to_pure_dict(nnx.state(_abstract(name, config, _dtype(dtype)))) for name in COMPONENTS}
        _, weights = load_checkpoint(directory, COMPONENTS, _dtype(dtype), expected=expected)
        return cls(config, weights, dtype=dtype, **options)

    def __call__(
        self,
        reference: np.ndarray,
        conditions: Conditions | Mapping[str, np.ndarray],
        *,
        width: int | None = None,
        height: int | None = None,
        steps: int = 20,
        guidance_scale: float = 3.5,
        seed: int = 42,
        sampler: str = "ddim",
        eta: float = 0.0,
        windows: Windows = Windows(),
        batch: int = 1,
        chunk: int = 4,
        noise: np.ndarray | None = None,
        fps: float | None = None,
        quiet: bool = False,
    ) -> Animation:
        """Animates a picture (H, W, 3) uint8.

        `conditions` is a source of frames (a `MotionFolder`) or {condition: (F, H, W, 3) uint8}. `noise` and `fps` are
        as in `animate`, `quiet` keeps progress off stderr, all else is in `Settings`.

        Raises:
          InputError: an argument that cannot work, before anything is compiled.
        """
        if isinstance(conditions, Mapping):
            conditions = ArrayConditions(conditions)
        settings = Settings(
            width, height, steps, guidance_scale, seed, sampler, eta, windows, batch, chunk
        )  # fmt: skip
        return self.animate(reference, conditions, settings, noise=noise, fps=fps, progress=Progress(quiet))

    def animate(
        self,
        reference: np.ndarray,
        conditions: Conditions,
        settings: Settings,
        *,
        noise: np.ndarray | None = None,
        fps: float | None = None,
        progress: Progress,
    ) -> Animation:
        """Animates a picture.

        Args:
          reference: (H, W, 3) uint8, the person.
          conditions: the motion.
          settings: how.
          noise: (F, h, w, 4) in place of the seed's.
          fps: of the result; None takes the motion's, or 24.
          progress: where to report.

        Raises:
          InputError: an argument that cannot work, before anything is compiled.
        """
        settings.check(self.config, conditions.conditions)
        size = settings.size(self.config, reference.shape)
        shape = latent_shape(self.config, len(conditions), size)
        if noise is not None:
            noise = check_noise(noise, shape)
        schedule = Schedule.of(self.config.inference)
        path = Path.of(schedule, settings.steps, settings.eta)
        with progress.stage("compile"):
            run = self.compile(size, conditions.conditions, settings, shape[0])
        with progress.stage("encode picture"):
            seen = jax.block_until_ready(run.picture(self._parameters, *self._picture(reference, size)))
        features = self._encode(run, conditions, size, settings, shape, progress)
        if noise is None:
            x = programs.initial_noise(settings.seed, shape, self._everywhere)
        else:
            x = jax.device_put(noise, self._everywhere)
        memory = SAMPLERS[settings.sampler].start(x)
        update = programs.make_update(schedule, settings.sampler, path, settings.seed, self._everywhere)
        weights = self._parameters["denoising_unet"]
        with progress.bar("denoise", settings.steps, "step") as bar:
            for i, timestep in enumerate(path.timesteps):
                plan = plan_windows(settings.windows, shape[0], i)
                prediction = run.denoiser(weights, seen, x, features, plan, int(timestep), settings.guidance_scale)
                x, memory = jax.block_until_ready(update(np.int32(i), x, prediction, memory))
                bar.update()
        frames = partial(self._decode, run.decoder, x, settings.chunk * len(self.devices), progress)
        return Animation(x, size, float(fps or conditions.fps or 24.0), frames)

    def compile(self, size: tuple[int, int], conditions: Sequence[str], settings: Settings, length: int) -> Programs:
        """The programs for videos of size (width, height) and `length` frames, compiled unless they are there already.

        Each is JAX's `Compiled`, with `memory_analysis()` and so on. They are compiled side by side.
        """
        windows = len(plan_windows(settings.windows, length).frames)
        mesh = denoising_mesh(self.devices, windows, settings.batch, settings.guided)
        chunk = settings.chunk * len(self.devices)
        slots, frames = settings.batch * mesh.shape["windows"], min(settings.windows.frames, length)
        networks = {name: self._network(name, size) for name in COMPONENTS}
        recipes = {
            ("picture", size): partial(self._lower_picture, networks, size),
            ("conditions", size, chunk, tuple(conditions)): partial(
                self._lower_conditions, networks, size, conditions, chunk
            ),
            ("denoiser", size, slots, frames, settings.guided, mesh): partial(
                self._lower_denoiser, networks, size, slots, frames, settings.guided, mesh
            ),
            ("decoder", size, chunk): partial(self._lower_decoder, networks, size, chunk),
        }
        missing = {key: recipe() for key, recipe in recipes.items() if key not in self._compiled}
        with ThreadPoolExecutor() as pool:
            done = pool.map(lambda lowered: lowered.compile(self._options), missing.values())
            self._compiled.update(zip(missing, done))
        picture, encoder, denoiser, decoder = (self._compiled[key] for key in recipes)
        return Programs(picture, encoder, WindowDenoiser(mesh, slots, denoiser), decoder)

    @property
    def compiled(self) -> dict[tuple, Any]:
        """The programs compiled so far: {(what, picture size, ...): JAX's `Compiled`}."""
        return dict(self._compiled)

    def _abstract(self, name: str, kernels: AttentionKernels | None = None) -> nnx.Module:
        return _abstract(name, self.config, self.dtype, kernels)

    def _network(self, name: str, size: tuple[int, int]) -> PureNetwork:
        kernels = self._kernels or fitting_kernels(self.config, size, self.dtype, self.devices[0])
        return PureNetwork.split(self._abstract(name, kernels))[0]

    def _lower_picture(self, networks: programs.Networks, size: tuple[int, int]) -> jax.stages.Lowered:
        names = ("image_encoder", "vae", "reference_unet", "denoising_unet")
        run = partial(
            programs.encode_picture, {name: networks[name] for name in names}, self.config.vae.scaling_factor
        )
        small = (1, *(self.config.image_encoder.image_size,) * 2, 3)
        pictures = (self._shape(shape, jnp.uint8) for shape in (small, (1, size[1], size[0], 3)))
        parameters = {name: self._parameters[name] for name in names}
        return jax.jit(run, out_shardings=self._everywhere).lower(parameters, *pictures)

    def _lower_conditions(
        self, networks: programs.Networks, size: tuple[int, int], conditions: Sequence[str], chunk: int
    ) -> jax.stages.Lowered:
        run = partial(programs.encode_conditions, networks["guidance"], self._mesh)
        frames = self._shape((chunk, size[1], size[0], 3), jnp.uint8, P(EVERY))
        return jax.jit(run).lower(self._parameters["guidance"], dict.fromkeys(conditions, frames))

    def _lower_denoiser(
        self,
        networks: programs.Networks,
        size: tuple[int, int],
        slots: int,
        frames: int,
        guided: bool,
        mesh: Mesh,
    ) -> jax.stages.Lowered:
        shape = (slots, *latent_shape(self.config, frames, size))
        features = jax.ShapeDtypeStruct((*shape[:-1], self.config.guidance.out_channels), self.dtype)
        picture = self._lower_picture(networks, size).out_info
        reference = jax.tree.map(lambda x: self._shape(x.shape, x.dtype), picture)
        weights = self._parameters["denoising_unet"]
        return lower_denoiser(
            networks["denoising_unet"], weights, reference, shape, features, mesh=mesh, guided=guided
        )

    def _lower_decoder(self, networks: programs.Networks, size: tuple[int, int], chunk: int) -> jax.stages.Lowered:
        run = partial(programs.decode, networks["vae"], self._mesh, self.config.vae.scaling_factor)
        latents = self._shape(latent_shape(self.config, chunk, size), jnp.float32, P(EVERY))
        return jax.jit(run).lower(self._parameters["vae"], latents)

    def _shape(self, shape: tuple[int, ...], dtype: Any, spec: P = P()) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(shape, dtype, sharding=NamedSharding(self._mesh, spec))

    def _encode_picture(self, program: Any, picture: np.ndarray, size: tuple[int, int]) -> Reference:
        """The image encoder sees the whole picture squashed to a square, as the released weights do."""
        side = self.config.image_encoder.image_size
        small, fitted = resize_image(picture, (side, side)), resize_image(picture, size, "lanczos")
        parameters = {name: self._parameters[name] for name in program.in_tree.children()[0].children()[0].node_data()[1]}
        return program(parameters, small[None], fitted[None])

    def _encode_conditions(
        self, program: Any, source: Conditions, size: tuple[int, int], chunk: int, progress: Progress
    ) -> jax.Array:
        """Guidance of every frame, (F rounded up to whole chunks, h, w, C0); frames are read while others are encoded."""
        length = len(source)
        starts = range(0, length, chunk)
        shape = (len(starts) * chunk, *latent_shape(self.config, 1, size)[1:3], self.config.guidance.out_channels)
        clip = jnp.zeros(shape, self.dtype, device=self._everywhere)
        split = NamedSharding(self._mesh, P(EVERY))
        with progress.bar("encode", length, "frame") as bar, ThreadPoolExecutor(1) as reader:
            read = [reader.submit(source.read, start, min(start + chunk, length), size) for start in starts]
            for start in starts:
                frames = {name: jax.device_put(_pad(x, chunk), split) for name, x in chunks.items()}
        return clip
