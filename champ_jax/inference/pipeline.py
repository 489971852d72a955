"""ChampPipeline: a picture and motion conditions -> a video.

Example:
  pipe = ChampPipeline.from_checkpoint("weights")
  animation = pipe(read_image("person.png"), MotionFolder("motion"), width=512, height=512)
  animation.save("person.mp4")
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from champ_jax.common.errors import InputError
from champ_jax.common.pictures import resize_image
from champ_jax.common.progress import Progress
from champ_jax.conditions.protocol import ArrayConditions, Conditions
from champ_jax.diffusion.samplers import SAMPLERS, Path
from champ_jax.diffusion.schedules import Schedule
from champ_jax.diffusion.windows import Windows, plan_windows
from champ_jax.inference import programs
from champ_jax.inference.denoiser import EVERY, WINDOWS, WindowDenoiser, denoising_mesh, lower_denoiser, make_mesh
from champ_jax.inference.result import Animation
from champ_jax.inference.settings import Settings, check_noise
from champ_jax.models.champ import COMPONENTS, ChampConfig, build_component
from champ_jax.models.functional import PureNetwork, fill
from champ_jax.models.options import AttentionKernels, NetworkOptions
from champ_jax.models.unet import Reference
from champ_jax.weights.checkpoint import check_fit
from champ_jax.weights.opening import Weights, open_weights

DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}


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
      parameters: {component: state}, on all devices.
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

        Raises:
          InputError: the weights are of another architecture (every misfit is named).
        """
        self.config, self.dtype = config, check_dtype(dtype)
        self.devices = list(devices or jax.local_devices())
        self._kernels, self._options = kernels, compiler_options
        self._mesh = make_mesh(self.devices)
        self._everywhere = NamedSharding(self._mesh, P())
        self.parameters = {}
        for name in COMPONENTS:
            network = abstract_network(name, config, self.dtype)
            check_fit(weights[name], nnx.to_pure_dict(nnx.state(network)), name)
            _, parameters = PureNetwork.split(network)
            self.parameters[name] = jax.device_put(fill(parameters, weights[name]), self._everywhere)
        self._compiled: dict[tuple, Any] = {}

    @classmethod
    def from_checkpoint(cls, path: str | os.PathLike, *, dtype: str = "bfloat16", **options: Any) -> "ChampPipeline":
        """Loads a converted checkpoint, a training work folder or a packed model; `options` as for the constructor.

        Raises:
          InputError: no weights, damaged ones, or ones of another architecture (every misfit is named).
        """
        return cls.from_weights(open_weights(path), dtype=dtype, **options)

    @classmethod
    def from_weights(cls, weights: Weights, *, dtype: str = "bfloat16", **options: Any) -> "ChampPipeline":
        """Loads weights that `open_weights` found; options and errors are those of `from_checkpoint`."""
        return cls(weights.model, weights.load(COMPONENTS, check_dtype(dtype)), dtype=dtype, **options)

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
        windows: Windows = Windows(),  # noqa: B008 (frozen)
        batch: int = 1,
        chunk: int = 4,
        noise: np.ndarray | None = None,
        fps: float | None = None,
        quiet: bool = False,
    ) -> Animation:
        """Animates a picture (H, W, 3) uint8.

        `conditions` is a source of frames (a `MotionFolder`) or {condition: (F, H, W, 3) uint8}. `noise` and `fps` are
        as in `animate`, `quiet` keeps progress off stderr, the rest is described in `Settings`.

        Raises:
          InputError: an argument that cannot work, before anything is compiled.
        """
        if isinstance(conditions, Mapping):
            conditions = ArrayConditions(conditions)
        settings = Settings(width, height, steps, guidance_scale, seed, sampler, eta, windows, batch, chunk)
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
        shape = settings.latent_shape(self.config, reference.shape, len(conditions))
        if noise is not None:
            noise = check_noise(noise, shape)
        schedule = Schedule.of(self.config.inference)
        path = Path.of(schedule, settings.steps, settings.eta)
        with progress.stage("compile"):
            run = self.compile(size, conditions.conditions, settings, len(conditions))
        with progress.stage("encode picture"):
            seen = jax.block_until_ready(self._encode_picture(run, reference, size))
        features = self._encode_conditions(run, conditions, size, settings.chunk, progress)
        if noise is None:
            x = programs.initial_noise(settings.seed, shape, self._everywhere)
        else:
            x = jax.device_put(noise, self._everywhere)
        memory = SAMPLERS[settings.sampler].start(x)
        update = programs.make_update(schedule, settings.sampler, path, settings.seed, self._everywhere)
        weights = self.parameters["denoising_unet"]
        with progress.bar("denoise", settings.steps, "step") as bar:
            for i, timestep in enumerate(path.timesteps):
                plan = plan_windows(settings.windows, shape[0], i)
                prediction = run.denoiser(weights, seen, x, features, plan, int(timestep), settings.guidance_scale)
                x, memory = jax.block_until_ready(update(np.int32(i), x, prediction, memory))
                bar.update()
        frames = partial(self._decode, run, x, settings.chunk, progress)
        return Animation(x, size, float(fps or conditions.fps or 24.0), frames)

    def compile(self, size: tuple[int, int], conditions: Sequence[str], settings: Settings, length: int) -> Programs:
        """The programs for videos of size (width, height) and `length` frames, compiled where they are not there yet.

        Each is JAX's `Compiled`, with `memory_analysis()` and so on. They are compiled side by side.
        """
        windows = len(plan_windows(settings.windows, length).frames)
        mesh = denoising_mesh(self.devices, windows, settings.batch, settings.guided)
        slots, frames = settings.batch * mesh.shape[WINDOWS], min(settings.windows.frames, length)
        chunk = settings.chunk * len(self.devices)
        kernels = self.kernels(size)
        networks = {
            name: PureNetwork.split(abstract_network(name, self.config, self.dtype, kernels))[0] for name in COMPONENTS
        }
        weights, config = self.parameters, self.config
        recipes = {
            ("picture", size): lambda: programs.lower_picture_encoder(networks, weights, config, size, self._mesh),
            ("conditions", size, chunk, tuple(conditions)): lambda: programs.lower_condition_encoder(
                networks["guidance"], weights["guidance"], conditions, size, chunk, self._mesh
            ),
            ("denoiser", size, slots, frames, settings.guided, mesh): lambda: self._lower_denoiser(
                networks, size, slots, frames, settings.guided, mesh
            ),
            ("decoder", size, chunk): lambda: programs.lower_decoder(
                networks["vae"], weights["vae"], config, size, chunk, self._mesh
            ),
        }
        missing = {key: recipe() for key, recipe in recipes.items() if key not in self._compiled}
        with ThreadPoolExecutor() as pool:
            done = pool.map(lambda lowered: lowered.compile(self._options), missing.values())
            self._compiled.update(zip(missing, done))
        picture, encoder, denoiser, decoder = (self._compiled[key] for key in recipes)
        return Programs(picture, encoder, WindowDenoiser(mesh, slots, denoiser), decoder)

    def kernels(self, size: tuple[int, int]) -> AttentionKernels:
        """The attention kernels of the programs for videos of size (width, height)."""
        return self._kernels or programs.fitting_kernels(self.config, size, self.dtype, self.devices[0])

    @property
    def compiled(self) -> dict[tuple, Any]:
        """The programs compiled so far, {(what, picture size, ...): JAX's `Compiled`}."""
        return dict(self._compiled)

    def _lower_denoiser(
        self,
        networks: programs.Networks,
        size: tuple[int, int],
        slots: int,
        frames: int,
        guided: bool,
        mesh: Mesh,
    ) -> jax.stages.Lowered:
        config, weights = self.config, self.parameters
        shape = (slots, frames, *programs.latent_size(config, size))
        shapes = programs.reference_shapes(networks, weights, config, size)
        reference = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=self._everywhere), shapes)
        return lower_denoiser(
            networks["denoising_unet"],
            weights["denoising_unet"],
            reference,
            (*shape, config.unet.in_channels),
            jax.ShapeDtypeStruct((*shape, config.guidance.out_channels), self.dtype),
            mesh=mesh,
            guided=guided,
        )

    def _encode_picture(self, run: Programs, picture: np.ndarray, size: tuple[int, int]) -> Reference:
        """The image encoder sees the whole picture squashed to a square, as the released weights do."""
        side = self.config.image_encoder.image_size
        small, fitted = resize_image(picture, (side, side)), resize_image(picture, size, "lanczos")
        return run.picture(self.parameters, *jax.device_put((small[None], fitted[None]), self._everywhere))

    def _encode_conditions(
        self, run: Programs, source: Conditions, size: tuple[int, int], chunk: int, progress: Progress
    ) -> jax.Array:
        """Guidance of every frame, (F rounded up to whole chunks, h, w, C0); the next chunk is read meanwhile."""
        length, chunk = len(source), chunk * len(self.devices)
        starts = range(0, length, chunk)
        shape = (len(starts) * chunk, *programs.latent_size(self.config, size), self.config.guidance.out_channels)
        clip = jnp.zeros(shape, self.dtype, device=self._everywhere)
        split = NamedSharding(self._mesh, P(EVERY))

        def read(start: int) -> dict[str, np.ndarray]:
            frames = source.read(start, min(start + chunk, length), size)
            return {name: _repeat_last(x, chunk) for name, x in frames.items()}

        with progress.bar("encode", length, "frame") as bar, ThreadPoolExecutor(1) as reader:
            coming = reader.submit(read, 0)
            for start in starts:
                frames = coming.result()
                if start + chunk < length:
                    coming = reader.submit(read, start + chunk)
                encoded = run.conditions(self.parameters["guidance"], jax.device_put(frames, split))
                clip = programs.write_frames(clip, encoded, np.int32(start))
                bar.update(min(chunk, length - start))
            return jax.block_until_ready(clip)

    def _decode(self, run: Programs, latents: jax.Array, chunk: int, progress: Progress) -> Iterator[np.ndarray]:
        """Yields (n, H, W, 3) float32 in [0, 1]; the next chunk is decoded while the caller works on one."""
        length, chunk = len(latents), chunk * len(self.devices)

        def decode(start: int) -> jax.Array:
            taken = programs.take_frames(self._mesh, chunk, latents, np.int32(start))
            return run.decoder(self.parameters["vae"], taken)

        with progress.bar("decode", length, "frame") as bar:
            coming = decode(0)
            for start in range(0, length, chunk):
                pictures = coming
                if start + chunk < length:
                    coming = decode(start + chunk)
                count = min(chunk, length - start)
                yield np.asarray(pictures)[:count]
                bar.update(count)


def abstract_network(name: str, config: ChampConfig, dtype: Any, kernels: AttentionKernels | None = None) -> nnx.Module:
    """One of COMPONENTS without values: its parameters are shapes, in `dtype` as is its computation."""
    return build_component(name, config, NetworkOptions(dtype, dtype, kernels or AttentionKernels()))


def check_dtype(dtype: str) -> Any:
    """The JAX dtype of a name of DTYPES; raises InputError for another."""
    if dtype not in DTYPES:
        raise InputError(f"dtype={dtype}: not one of {', '.join(DTYPES)}")
    return DTYPES[dtype]


def _repeat_last(frames: np.ndarray, count: int) -> np.ndarray:
    """Pads (n, ...) to (count, ...)."""
    return np.concatenate([frames, np.repeat(frames[-1:], count - len(frames), axis=0)])
