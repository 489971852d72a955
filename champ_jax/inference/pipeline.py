"""ChampPipeline: a picture and motion conditions -> a video (Zhu et al., Champ, ECCV 2024, section 3).

Example:
  pipe = ChampPipeline.from_checkpoint("weights")
  animation = pipe(read_image("person.png"), MotionFolder("motion"), width=512, height=512)
  animation.save("person.mp4")
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from champ_jax.common.errors import InputError
from champ_jax.common.pictures import resize_image
from champ_jax.common.profiler import OFF, Profiler
from champ_jax.common.progress import Progress
from champ_jax.common.ranges import Choice, Integer
from champ_jax.conditions.protocol import ArrayConditions, Conditions
from champ_jax.diffusion.samplers import SAMPLERS, Path
from champ_jax.diffusion.schedules import Schedule
from champ_jax.diffusion.windows import plan_windows
from champ_jax.inference import programs
from champ_jax.inference.denoiser import EVERY
from champ_jax.inference.programs import ProgramCache, Programs, abstract_network
from champ_jax.inference.result import Animation
from champ_jax.inference.settings import Settings, check_noise
from champ_jax.inference.stages import to_bytes
from champ_jax.models.champ import COMPONENTS, ChampConfig
from champ_jax.models.functional import PureNetwork, fill
from champ_jax.models.options import AttentionKernels
from champ_jax.models.unet import Reference
from champ_jax.weights.checkpoint import DTYPES, check_fit
from champ_jax.weights.lora import with_lora
from champ_jax.weights.opening import Weights, open_weights


class ChampPipeline:
    """The networks with their weights on devices, and the programs compiled for them so far.

    Attributes:
      config: sizes of the networks and noise schedules.
      dtype: The dtype of parameters and computation; latents stay float32.
      devices: The devices that it runs on.
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
        compiler_options: Mapping[str, Any] | None = None,
    ):
        """Puts the weights on the devices.

        Args:
          config: The model's sizes and noise schedules.
          weights: {component: pure nested dict of arrays}, as `weights.opening.Weights.load` gives them.
          dtype: 'bfloat16' or 'float32'.
          devices: The devices to run on; None takes all of this process.
          kernels: attention kernels; None takes the recommended ones wherever they can run and XLA's elsewhere.
          compiler_options: Options for XLA, for example {"xla_gpu_deterministic_ops": True}.

        Raises:
          InputError: the weights are of another architecture (every misfit is named).
        """
        self.config, self.dtype = config, check_dtype(dtype)
        self.devices = list(devices or jax.local_devices())
        self._programs = ProgramCache(config, self.dtype, self.devices, kernels, compiler_options)
        self._everywhere = self._programs.everywhere
        self.parameters = {}
        for name in COMPONENTS:
            network = abstract_network(name, config, self.dtype)
            check_fit(weights[name], nnx.to_pure_dict(nnx.state(network)), name)
            _, parameters = PureNetwork.split(network)
            self.parameters[name] = jax.device_put(fill(parameters, weights[name]), self._everywhere)

    @classmethod
    def from_checkpoint(
        cls, path: str | os.PathLike, *, lora: str = "", dtype: str = "bfloat16", **options: Any
    ) -> "ChampPipeline":
        """Loads a converted checkpoint, a training work folder or a packed model; `options` as for the constructor.

        Args:
          path: The weights.
          lora: LoRA files to add, 'FILE[:SCALE],...' (`champ_jax.weights.lora`).
          dtype: 'bfloat16' or 'float32'.
          options: as for the constructor.

        Raises:
          InputError: no weights, damaged ones, or ones of another architecture (every misfit is named); a LoRA that
            does not fit them.
        """
        return cls.from_weights(with_lora(open_weights(path), lora)[0], dtype=dtype, **options)

    @classmethod
    def from_weights(cls, weights: Weights, *, dtype: str = "bfloat16", **options: Any) -> "ChampPipeline":
        """Loads weights that `open_weights` found; options and errors are those of `from_checkpoint`."""
        return cls(weights.model, weights.load(COMPONENTS, check_dtype(dtype)), dtype=dtype, **options)

    def __call__(
        self,
        reference: np.ndarray,
        conditions: Conditions | Mapping[str, np.ndarray],
        *,
        noise: np.ndarray | None = None,
        fps: float | None = None,
        quiet: bool = False,
        **settings: Any,
    ) -> Animation:
        """Animates a picture.

        Args:
          reference: the person, (H, W, 3) uint8.
          conditions: a source of frames (a `MotionFolder`) or {condition: (F, H, W, 3) uint8}.
          noise: (F, h, w, C) in place of the seed's.
          fps: frames per second of the result; None takes the motion's, or 24.
          quiet: keeps progress off stderr.
          settings: fields of `Settings`: width, height, steps, guidance_scale, seed, sampler, ...

        Raises:
          InputError: an argument that cannot work, before anything is compiled.
          TypeError: `Settings` has no such field.
        """
        if isinstance(conditions, Mapping):
            conditions = ArrayConditions(conditions)
        return self.animate(reference, conditions, Settings(**settings), noise=noise, fps=fps, progress=Progress(quiet))

    def animate(
        self,
        reference: np.ndarray,
        conditions: Conditions,
        settings: Settings,
        *,
        noise: np.ndarray | None = None,
        fps: float | None = None,
        progress: Progress,
        profiler: Profiler = OFF,
    ) -> Animation:
        """Animates a picture: encodes it and the motion, denoises the clip, and decodes frames when they are asked for.

        Args:
          reference: the person, (H, W, 3) uint8.
          conditions: the motion.
          settings: how the clip is made.
          noise: (F, h, w, C) in place of the seed's.
          fps: frames per second of the result; None takes the motion's, or 24.
          progress: where to report.
          profiler: traces denoising steps.

        Raises:
          InputError: an argument that cannot work, before anything is compiled; or latents that are not finite after a
            step (the step is named).
        """
        check_reference(reference)
        settings.check(self.config, conditions.conditions)
        size = settings.size(self.config, reference.shape)
        shape = settings.latent_shape(self.config, reference.shape, len(conditions))
        noise = None if noise is None else check_noise(noise, shape)

        with progress.stage("compile"):
            run = self.compile(size, conditions.conditions, settings, len(conditions))
        with progress.stage("encode picture"):
            seen = self._encode_picture(run, reference, size)
        features = self._encode_conditions(run, conditions, size, settings.chunk, progress)
        if noise is None:
            start = programs.initial_noise(settings.seed, shape, self._everywhere)
        else:
            start = jax.device_put(noise, self._everywhere)
        latents = self._denoise(run, seen, features, start, settings, progress, profiler)
        decode = partial(self._decode, run, latents, settings.chunk, progress)
        return Animation(latents, size, float(fps or conditions.fps or 24.0), decode)

    def restore(
        self,
        latents: np.ndarray,
        reference: np.ndarray,
        conditions: Conditions,
        settings: Settings,
        timestep: int,
        *,
        progress: Progress,
    ) -> Animation:
        """Adds noise to the latents of a true video and takes it away in one step: a ceiling of `animate`.

        Args:
          latents: (F, h, w, C) scaled latents of the true frames (`autoencoder.Autoencoder.encode`).
          reference: the person, (H, W, 3) uint8.
          conditions: the motion of those frames.
          settings: how the clip is cut and guided; its steps and sampler do not matter.
          timestep: the noise level, of the schedule of inference.
          progress: where to report.

        Raises:
          InputError: an argument that cannot work, before anything is compiled.
        """
        check_reference(reference)
        settings.check(self.config, conditions.conditions)
        schedule = Schedule.of(self.config.inference)
        Integer(minimum=0, maximum=schedule.length - 1).check("timestep", timestep)
        size = settings.size(self.config, reference.shape)
        shape = settings.latent_shape(self.config, reference.shape, len(conditions))
        clean = check_noise(latents, shape)
        run = self.compile(size, conditions.conditions, settings, len(conditions))
        seen = self._encode_picture(run, reference, size)
        features = self._encode_conditions(run, conditions, size, settings.chunk, progress)
        noise = programs.initial_noise(settings.seed, shape, self._everywhere)
        t = jnp.full(len(clean), timestep)
        noisy = jax.device_put(schedule.add_noise(clean, noise, t), self._everywhere)
        plan = plan_windows(settings.windows, len(clean), 0)
        weights = self.parameters["denoising_unet"]
        prediction = run.denoiser(weights, seen, noisy, features, plan, timestep, settings.guidance_scale)
        restored = jax.device_put(schedule.denoised(prediction, noisy, t), self._everywhere)
        decode = partial(self._decode, run, restored, settings.chunk, progress)
        return Animation(restored, size, float(conditions.fps or 24.0), decode)

    def compile(self, size: tuple[int, int], conditions: Sequence[str], settings: Settings, length: int) -> Programs:
        """The programs for videos of size (width, height) and `length` frames; those that are new are compiled."""
        return self._programs.get(self.parameters, size, conditions, settings, length)

    def kernels(self, size: tuple[int, int]) -> AttentionKernels:
        """The attention kernels of the programs for videos of size (width, height)."""
        return self._programs.kernels(size)

    @property
    def compiled(self) -> dict[tuple, Any]:
        """The programs compiled so far, {(what, picture size, ...): JAX's `Compiled`}."""
        return dict(self._programs.compiled)

    def _encode_picture(self, run: Programs, picture: np.ndarray, size: tuple[int, int]) -> Reference:
        """What the denoiser reads of the picture. The image encoder sees the whole picture squashed to a square, as the
        released weights do."""
        side = self.config.image_encoder.image_size
        small, fitted = resize_image(picture, (side, side)), resize_image(picture, size, "lanczos")
        pictures = jax.device_put((small[None], fitted[None]), self._everywhere)
        return jax.block_until_ready(run.picture(self.parameters, *pictures))

    def _encode_conditions(
        self, run: Programs, source: Conditions, size: tuple[int, int], chunk: int, progress: Progress
    ) -> jax.Array:
        """Guidance of every frame, (F rounded up to whole chunks, h, w, C0); the next chunk is read meanwhile."""
        length, chunk = len(source), chunk * len(self.devices)
        starts = range(0, length, chunk)
        shape = (len(starts) * chunk, *programs.latent_size(self.config, size), self.config.guidance.out_channels)
        clip = jnp.zeros(shape, self.dtype, device=self._everywhere)
        split = NamedSharding(self._programs.mesh, P(EVERY))

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

    def _denoise(
        self,
        run: Programs,
        seen: Reference,
        features: jax.Array,
        x: jax.Array,
        settings: Settings,
        progress: Progress,
        profiler: Profiler,
    ) -> jax.Array:
        """The clean latents (F, h, w, C) that the sampler comes to from noise x."""
        schedule = Schedule.of(self.config.inference)
        path = Path.of(schedule, settings.steps, settings.eta)
        update = programs.make_update(schedule, settings.sampler, path, settings.seed, self._everywhere)
        memory = SAMPLERS[settings.sampler].start(x)
        weights = self.parameters["denoising_unet"]
        with progress.bar("denoise", settings.steps, "step") as bar:
            for i, timestep in enumerate(path.timesteps):
                plan = plan_windows(settings.windows, len(x), i)
                with profiler.step(i + 1):
                    prediction = run.denoiser(weights, seen, x, features, plan, int(timestep), settings.guidance_scale)
                    progress.offer(partial(self._glimpse, run, x, prediction, int(timestep), settings.chunk))
                    x, memory = update(np.int32(i), x, prediction, memory)
                profiler.end(i + 1, x)
                if not programs.all_finite(x):
                    raise InputError(
                        f"step {i + 1} of {settings.steps}: the latents are not finite (guidance_scale="
                        f"{settings.guidance_scale:g}, dtype={self.dtype.name}); lower guidance_scale, take "
                        "dtype=float32, or check whether the weights are damaged"
                    )
                bar.update()
        return x

    def _glimpse(self, run: Programs, x: jax.Array, prediction: jax.Array, timestep: int, chunk: int) -> np.ndarray:
        """The middle frame, (H, W, 3) uint8, of what a prediction at noisy latents x makes of the clip."""
        clean = Schedule.of(self.config.inference).denoised(prediction, x, jnp.full(len(x), timestep))
        clean = jax.device_put(clean, self._everywhere)
        middle = np.int32(len(x) // 2)
        taken = programs.take_frames(self._programs.mesh, chunk * len(self.devices), clean, middle)
        return to_bytes(np.asarray(run.decoder(self.parameters["vae"], taken)[0]))

    def _decode(self, run: Programs, latents: jax.Array, chunk: int, progress: Progress) -> Iterator[np.ndarray]:
        """Yields (n, H, W, 3) float32 in [0, 1]; the next chunk is decoded while the caller works on one."""
        length, chunk = len(latents), chunk * len(self.devices)

        def decode(start: int) -> jax.Array:
            taken = programs.take_frames(self._programs.mesh, chunk, latents, np.int32(start))
            return run.decoder(self.parameters["vae"], taken)

        with progress.bar("decode", length, "frame") as bar:
            coming = decode(0)
            for start in range(0, length, chunk):
                pictures = coming
                if start + chunk < length:
                    coming = decode(start + chunk)
                count = min(chunk, length - start)
                frames = np.asarray(pictures)[:count]
                if not np.isfinite(frames).all():
                    raise InputError(f"frames {start + 1} to {start + count}: decode to numbers that are not finite")
                yield frames
                bar.update(count)


def check_dtype(dtype: str) -> Any:
    """The JAX dtype of a name; raises InputError for another than 'bfloat16' and 'float32'."""
    Choice(*DTYPES).check("dtype", dtype)
    return jnp.dtype(dtype)


def check_reference(reference: Any) -> None:
    """Raises InputError unless `reference` is a picture (H, W, 3) uint8."""
    shape, dtype = np.shape(reference), getattr(reference, "dtype", None)
    if len(shape) != 3 or shape[-1] != 3 or 0 in shape or dtype != np.uint8:
        raise InputError(f"reference: is {shape} {dtype}, give a picture (H, W, 3) uint8")


def _repeat_last(frames: np.ndarray, count: int) -> np.ndarray:
    """Pads (n, ...) to (count, ...)."""
    return np.concatenate([frames, np.repeat(frames[-1:], count - len(frames), axis=0)])
