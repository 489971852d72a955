"""Training: one optimizer step of each stage, as the loop takes it, from a batch that is on the device."""

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path
from runpy import run_path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from benchmarks.sizes import model_config, random_weights
from benchmarks.timing import Row, device_peak, measure, program_bytes, program_moved
from champ_jax.diffusion.schedules import Schedule
from champ_jax.models.champ import ChampConfig
from champ_jax.models.network_flops import training_sample_flops
from champ_jax.training.batches import shard_batch
from champ_jax.training.config import DTYPES
from champ_jax.training.initial_weights import build_network
from champ_jax.training.objective import Batch, Objective
from champ_jax.training.optimizer import make_optimizer
from champ_jax.training.sharding import make_mesh
from champ_jax.training.state import abstract_frozen, abstract_state, create_state, shardings_of
from champ_jax.training.step import StepOptions, jit_step, make_step

# The PyTorch reference on one H100 80 GB (PyTorch 2.11, fp16, fused attention, checkpointing, the frozen networks too):
# seconds, peak GiB. Stage 1 on 4 samples, stage 2 on one clip of 24 frames.
REFERENCE = {(1, 512): (0.559, 33.6), (1, 768): (0.828, 36.1), (2, 512): (0.765, 35.1)}
STAGE_2_SIZE = 512  # the largest that stage 2 is trained at


def run(
    model: str,
    size: int,
    *,
    frames: int,
    dtype: str,
    remat: str,
    cached: bool,
    repeats: int,
    stages: Sequence[int] = (1, 2),
) -> list[Row]:
    """Measures stage 1 at `size` x `size`, and stage 2 where it is trained at that size.

    Args:
      model: 'full', Champ's sizes, or 'toy', those of configs/people/smoke.py.
      size: side of the pictures.
      frames: The frames of stage 2's clip.
      dtype: 'bfloat16' or 'float32', of the computation and the frozen parameters.
      remat: 'none', 'full', 'dots' or 'all_dots': what the backward pass recomputes.
      cached: take cached latents and embeddings: no VAE, no image encoder in the step.
      repeats: counted steps.
      stages: those that are measured.
    """
    options = {"dtype": dtype, "remat": remat, "cached": cached, "repeats": repeats}
    rows = []
    if 1 in stages:
        rows.append(_measure(model, size, stage=1, samples=4, frames=1, **options))
    if 2 in stages and size <= STAGE_2_SIZE:
        rows.append(_measure(model, size, stage=2, samples=1, frames=frames, **options))
    return rows


def _config(name: str) -> ConfigDict:
    """The config of configs/NAME.py."""
    return run_path(str(Path(__file__).parents[2] / "configs" / f"{name}.py"))["get_config"]()


def _measure(
    model: str, size: int, *, stage: int, samples: int, frames: int, dtype: str, remat: str, cached: bool, repeats: int
) -> Row:
    toy = model == "toy"
    config = _config(f"stage{stage}")
    config.dtype = config.frozen_dtype = dtype
    config.remat = remat
    config.data.batch_size = samples
    sizes = ChampConfig.from_json(_config("people/smoke").model.to_dict()) if toy else model_config(model)
    network = build_network(config, sizes)
    optimizer = make_optimizer(config.optimizer, config.steps)
    options = StepOptions(config.seed)
    mesh = make_mesh(1, 1, jax.devices()[:1])
    with jax.set_mesh(mesh):
        like = abstract_state(network, optimizer, mesh, averaged=False)
        state = create_state(random_weights(like.params), optimizer, like)
        frozen = random_weights(abstract_frozen(network, DTYPES[config.frozen_dtype], mesh))
        batch = shard_batch(_batch(network.config, size, samples, frames, cached), mesh)
        objective = Objective(Schedule.of(network.config.training), **config.loss.to_dict())
        step = make_step(network, optimizer, objective, options)
        compiled = jit_step(step, shardings_of(like), mesh, fast_compile=toy).lower(state, frozen, batch).compile()

        def work() -> Any:
            nonlocal state
            state, metrics = compiled(state, frozen, batch)
            return state, metrics

        latent = size // network.config.vae.downscale
        trained = frozenset(network.trainable)
        flop = samples * training_sample_flops(network.config, latent, latent, frames=frames, trained=trained)
        comparable = model == "full" and remat == "full" and not cached and (stage == 1 or frames == 24)
        seconds, gib = REFERENCE.get((stage, size), (None, None)) if comparable else (None, None)
        before, program = device_peak(), program_bytes(compiled)
        row = measure(
            f"stage {stage}" + (", cached latents" if cached else ""),
            work,
            repeats=repeats,
            per=f"{samples} samples" if stage == 1 else f"{frames} frames",
            flop=flop,
            reference_seconds=seconds,
            memory=program,
            moved=program_moved(compiled),
        )
    # A peak that an earlier case reached is not this one's.
    memory = program if row.memory == before else row.memory
    return dataclasses.replace(row, memory=memory, reference_memory=None if gib is None else int(gib * 2**30))


def _batch(model: ChampConfig, size: int, samples: int, frames: int, cached: bool) -> Batch:
    """A batch as `champ_jax.data.pipeline` gives them, of random numbers."""
    rng = np.random.default_rng(0)
    pictures = functools.partial(rng.integers, 0, 256, dtype=np.uint8)
    batch: Batch = {"conditions": {name: pictures((samples, frames, size, size, 3)) for name in model.conditions}}
    if not cached:
        side = model.image_encoder.image_size
        return batch | {
            "pixels": pictures((samples, frames, size, size, 3)),
            "reference": pictures((samples, size, size, 3)),
            "clip_pixels": pictures((samples, side, side, 3)),
        }
    latent = size // model.vae.downscale
    shape = (samples, frames, latent, latent, model.vae.latent_channels)
    normal = functools.partial(rng.standard_normal, dtype=np.float32)
    return batch | {
        "latents_mean": normal(shape),
        "latents_std": np.full(shape, 0.1, np.float32),
        "reference_mean": normal((samples, *shape[2:])),
        "reference_std": np.full((samples, *shape[2:]), 0.1, np.float32),
        "embedding": normal((samples, model.image_encoder.projection_dim)),
    }
