"""Inference: every network by itself, one denoising step, the whole pipeline."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from benchmarks.sizes import COMPONENTS, model_config, random_weights
from benchmarks.timing import Row, measure, program_bytes, program_moved
from champ_jax.common.progress import Progress
from champ_jax.conditions.protocol import ArrayConditions
from champ_jax.diffusion.windows import plan_windows
from champ_jax.inference.pipeline import ChampPipeline
from champ_jax.inference.programs import abstract_network
from champ_jax.inference.settings import Settings
from champ_jax.models import network_flops
from champ_jax.models.functional import PureNetwork

# The PyTorch reference on one H100 80 GB (PyTorch 2.11, fp16, fused attention), seconds: 24 frames, guidance 3.5.
REFERENCE = {
    512: {"denoising step": 0.292, "decode": 0.579, "guidance encoders": 0.041, "pipeline, per frame": 0.284},
    768: {"denoising step": 0.789, "decode": 1.25, "pipeline, per frame": 0.733},
}


class Prepared:
    """A pipeline of random weights with its programs, and one clip on the device."""

    def __init__(self, model: str, size: int, frames: int, settings: Settings, dtype: str):
        """Args: as those of `run`."""
        self.config = config = model_config(model)
        kind = jnp.dtype(dtype)
        weights = {
            name: random_weights(nnx.to_pure_dict(nnx.state(abstract_network(name, config, kind))))
            for name in COMPONENTS
        }
        self.pipe = ChampPipeline(config, weights, dtype=dtype)
        del weights
        rng = np.random.default_rng(0)
        self.picture = rng.integers(0, 256, (size, size, 3), np.uint8)
        self.maps = {name: rng.integers(0, 256, (frames, size, size, 3), np.uint8) for name in config.conditions}
        self.settings = settings
        self.programs = self.pipe.compile((size, size), config.conditions, settings, frames)
        self.latent = latent = size // config.vae.downscale
        chunk = settings.chunk
        self._batches = [{name: jnp.asarray(x[:chunk]) for name, x in self.maps.items()}] * -(-frames // chunk)
        self._features = jnp.concatenate([self.encode_conditions()[0]] * len(self._batches))
        self._latents = jax.random.normal(jax.random.key(0), (frames, latent, latent, config.unet.in_channels))
        self._seen = self.programs.picture(self.pipe.parameters, *_pictures(config, self.picture))
        self.plan = plan_windows(settings.windows, frames)

    def encode_conditions(self) -> list[jax.Array]:
        """The guidance features of the clip, chunk by chunk."""
        return [self.programs.conditions(self.pipe.parameters["guidance"], batch) for batch in self._batches]

    def step(self) -> jax.Array:
        """One denoising step."""
        weights, scale = self.pipe.parameters["denoising_unet"], self.settings.guidance_scale
        return self.programs.denoiser(weights, self._seen, self._latents, self._features, self.plan, 500, scale)

    def decode(self) -> list[jax.Array]:
        """The pictures of the clip, chunk by chunk."""
        latents = self._latents[: self.settings.chunk]
        return [self.programs.decoder(self.pipe.parameters["vae"], latents) for _ in self._batches]

    def animate(self) -> np.ndarray:
        """The frames of the whole pipeline."""
        conditions = ArrayConditions(self.maps)
        return self.pipe.animate(self.picture, conditions, self.settings, progress=Progress(quiet=True)).frames


def run(model: str, size: int, frames: int, settings: Settings, dtype: str, repeats: int) -> list[Row]:
    """Measures a model of random weights at `size` x `size`.

    Args:
      model: 'full' or 'toy'.
      size: side of the pictures.
      frames: length of the clip.
      settings: The settings of the run.
      dtype: 'bfloat16' or 'float32'.
      repeats: counted runs of each piece.
    """
    comparable = model == "full" and frames == 24 and settings.steps == 20 and settings.guided
    reference = REFERENCE.get(size, {}) if comparable else {}
    prepared = Prepared(model, size, frames, settings, dtype)
    config, programs, latent = prepared.config, prepared.programs, prepared.latent
    rows = _networks(prepared.pipe, size, latent, repeats)

    def add(name: str, work: Callable[[], Any], per: str, flop: float, compiled: Any, runs: int) -> None:
        moved = program_moved(compiled)
        rows.append(
            measure(
                name,
                work,
                repeats=repeats,
                per=per,
                flop=flop,
                reference_seconds=reference.get(name),
                memory=program_bytes(compiled),
                moved=None if moved is None else runs * moved,
            )
        )

    clip = f"{frames} frames"
    guidance = frames * network_flops.guidance_flops(config, size, size)
    chunks = -(-frames // settings.chunk)
    add("guidance encoders", prepared.encode_conditions, clip, guidance, programs.conditions, chunks)
    window = prepared.plan.frames.shape[1]
    work = len(prepared.plan.frames) * network_flops.denoising_step_flops(
        config, latent, latent, window, classifier_free=settings.guided
    )
    batches = -(-len(prepared.plan.frames) // programs.denoiser.slots)
    add("denoising step", prepared.step, clip, work, programs.denoiser.program, batches)
    decoding = frames * network_flops.vae_decode_flops(config, size, size)
    add("decode", prepared.decode, clip, decoding, programs.decoder, chunks)

    total = settings.steps * work + decoding + guidance + sum(1e12 * row.tflop for row in rows[:3])
    repeats = max(1, repeats // 2)
    row = measure("pipeline, per frame", prepared.animate, repeats=repeats, per="1 frame", flop=total)
    rows.append(
        dataclasses.replace(
            row,
            seconds=row.seconds / frames,
            fastest=row.fastest / frames,
            slowest=row.slowest / frames,
            tflop=row.tflop / frames,
            reference_seconds=reference.get(row.name),
        )
    )
    return rows


def _pictures(config: Any, picture: np.ndarray) -> Sequence[jax.Array]:
    side = config.image_encoder.image_size
    return jnp.zeros((1, side, side, 3), jnp.uint8), jnp.asarray(picture[None])


def _networks(pipe: ChampPipeline, size: int, latent: int, repeats: int) -> list[Row]:
    """Image encoder, VAE encoder and ReferenceNet, each compiled by itself, on one picture."""
    config, kind = pipe.config, pipe.dtype
    token = jnp.zeros((1, config.unet.cross_attention_dim), kind)
    cases = [
        (
            "image encoder",
            "image_encoder",
            lambda model, x: model(x),
            [jnp.zeros((1, *(config.image_encoder.image_size,) * 2, 3))],
            network_flops.image_encoder_flops(config),
        ),
        (
            "VAE encode",
            "vae",
            lambda model, x: model.encode(x).mean,
            [jnp.zeros((1, size, size, 3))],
            network_flops.vae_encode_flops(config, size, size),
        ),
        (
            "ReferenceNet",
            "reference_unet",
            lambda model, x, token: model.bank(x, token),
            [jnp.zeros((1, latent, latent, config.unet.in_channels)), token],
            network_flops.reference_flops(config, latent, latent),
        ),
    ]
    rows = []
    for name, component, call, arrays, flop in cases:
        network, _ = PureNetwork.split(abstract_network(component, config, kind, pipe.kernels((size, size))))
        parameters = pipe.parameters[component]
        compiled = (
            jax.jit(lambda parameters, *arrays, n=network, c=call: c(n.bind(parameters), *arrays))
            .lower(parameters, *arrays)
            .compile()
        )
        work = lambda c=compiled, p=parameters, a=arrays: c(p, *a)  # noqa: E731
        counted = {"flop": flop, "memory": program_bytes(compiled), "moved": program_moved(compiled)}
        rows.append(measure(name, work, repeats=repeats, per="1 picture", **counted))
    return rows
