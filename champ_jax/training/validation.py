"""Validation: videos sampled from a fixed set with the parameters of the moment, and how near they come.

The set, its noise and its draws depend on the config alone; nothing is taken from the training's data, keys or state.
"""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from ml_collections import ConfigDict

from champ_jax.common.pictures import write_image
from champ_jax.common.synchronization import SynchronizedJit
from champ_jax.common.videos import write_video
from champ_jax.diffusion.guidance import guided_prediction
from champ_jax.diffusion.samplers import SAMPLERS
from champ_jax.diffusion.samplers import Path as SamplingPath
from champ_jax.diffusion.schedules import Schedule
from champ_jax.evaluation.frames import pairwise
from champ_jax.inference.stages import (
    decode_latents,
    embed_pictures,
    encode_conditions,
    picture_latents,
    read_reference,
    to_bytes,
)
from champ_jax.training.autoencoder import reconstruct
from champ_jax.training.batches import make_batches, shard_batch
from champ_jax.training.objective import Batch
from champ_jax.training.parameters import Network
from champ_jax.training.step import fast_compiler_options
from champ_jax.weights.flat import Flat

_SEED = 2**31  # seed of the set and of its noise, separate from the seeds of runs


@dataclasses.dataclass(frozen=True)
class Validator:
    """A fixed set and the jitted sampler for it.

    Attributes:
      batches: the set, pieces of whole samples a device; numpy, this process's share.
      sample: (trained, frozen, batch, key) -> (B, F, H, W, 3) uint8 on every device.
      count: samples that are measured; the last piece may hold more.
      fps: Frames per second of the videos.
      mesh: The mesh that it runs on.
    """

    batches: tuple[Batch, ...]
    sample: Callable[[Flat, Flat, Batch, jax.Array], jax.Array]
    count: int
    fps: float
    mesh: Mesh

    @classmethod
    def make(cls, config: ConfigDict, network: Network, mesh: Mesh) -> "Validator":
        """Reads the set; nothing is compiled yet.

        Raises:
          InputError: there is no such dataset.
        """
        settings = config.validation
        path = settings.path or config.data.path
        # As many samples at a time as there are devices.
        source = make_batches(
            config, path, mesh, seed=_SEED, batch_size=mesh.size, cached=False, recolored=0.0, workers=0
        )
        batches = tuple(next(source) for _ in range(-(-settings.samples // mesh.size)))
        source.close()
        if config.stage:
            sample = make_sampler(network, settings.steps, settings.guidance_scale)
        else:
            sample = make_reconstructor(network)
        everywhere = NamedSharding(mesh, PartitionSpec())
        options = fast_compiler_options(mesh.devices.flat[0].platform) if config.fast_compile else None
        jitted = jax.jit(sample, out_shardings=everywhere, compiler_options=options)
        return cls(batches, SynchronizedJit(jitted), settings.samples, settings.fps, mesh)

    def run(self, trained: Flat, frozen: Flat) -> tuple[dict[str, float], list[np.ndarray]]:
        """Samples the set.

        Returns:
          {'psnr', 'ssim'}, means over all frames (`champ_jax.evaluation.frames`), and for each sample a video
          (F, H, 3 W, 3) uint8: reference, sampled, true, side by side.
        """
        videos: list[np.ndarray] = []
        measures: dict[str, list[np.ndarray]] = {"psnr": [], "ssim": []}
        for number, batch in enumerate(self.batches):
            batch = {name: value for name, value in batch.items() if name != "names"}
            placed = shard_batch(batch, self.mesh)
            made = np.asarray(self.sample(trained, frozen, placed, jax.random.key(_SEED + number)))
            gather = jax.jit(lambda x: x, out_shardings=NamedSharding(self.mesh, PartitionSpec()))
            true, reference = (np.asarray(gather(placed[name])) for name in ("pixels", "reference"))
            for i in range(min(len(made), self.count - len(videos))):
                frames = pairwise(true[i], made[i])
                for name, values in measures.items():
                    values.append(frames[name])
                still = np.broadcast_to(reference[i], made[i].shape)
                videos.append(np.concatenate([still, made[i], true[i]], axis=2))
        return {name: float(np.concatenate(values).mean()) for name, values in measures.items()}, videos

    def write(self, folder: Path, step: int, videos: list[np.ndarray]) -> None:
        """Writes FOLDER/STEP/INDEX.mp4, or .png where there is one frame."""
        if jax.process_index():
            return
        for index, video in enumerate(videos):
            place = folder / f"{step:07d}" / f"{index:02d}"
            if len(video) == 1:
                write_image(place.with_suffix(".png"), video[0])
            else:
                write_video(place.with_suffix(".mp4"), video, self.fps)


def make_reconstructor(network: Network) -> Callable[[Flat, Flat, Batch, jax.Array], jax.Array]:
    """The target pictures through the autoencoder and back, called as `make_sampler`'s function is; draws nothing."""

    def sample(trained: Flat, frozen: Flat, batch: Batch, key: jax.Array) -> jax.Array:
        del key
        return reconstruct(network.merge(trained, frozen), batch)

    return sample


def make_sampler(
    network: Network, steps: int, guidance_scale: float
) -> Callable[[Flat, Flat, Batch, jax.Array], jax.Array]:
    """The sampler of a batch: DDIM on the schedule trained on, classifier-free guidance, one window.

    Returns:
      (trained parameters, frozen parameters, batch, key) -> (B, F, H, W, 3) uint8.
    """
    schedule = Schedule.of(network.config.training)
    path = SamplingPath.of(schedule, steps)

    def sample(trained: Flat, frozen: Flat, batch: Batch, key: jax.Array) -> jax.Array:
        champ = network.merge(trained, frozen)
        reference = picture_latents(champ.vae, batch["reference"])
        token = embed_pictures(champ.image_encoder, batch["clip_pixels"])
        seen = read_reference(champ.reference_unet, champ.denoising_unet, reference, token)
        guidance = encode_conditions(champ.guidance, batch["conditions"])
        count, frames, height, width, channels = batch["pixels"].shape[0], *guidance.shape[1:4], reference.shape[-1]
        x = jax.random.normal(key, (count, frames, height, width, channels))
        timesteps = jnp.asarray(path.timesteps)

        def denoise(x: jax.Array, i: jax.Array) -> tuple[jax.Array, None]:
            def predict(x: jax.Array, guidance: jax.Array, unconditional: int) -> jax.Array:
                return champ.denoising_unet(x, timesteps[i], seen, guidance, unconditional=unconditional)

            prediction = guided_prediction(predict, x, guidance, guidance_scale)
            denoised = schedule.denoised(prediction, x, jnp.broadcast_to(timesteps[i], (count,)))
            x, _ = SAMPLERS["ddim"].step(path, i, x, denoised, (), None)
            return x, None

        x, _ = jax.lax.scan(denoise, x, jnp.arange(steps))
        return to_bytes(decode_latents(champ.vae, x))

    return sample
