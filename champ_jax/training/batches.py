"""The batches of a run: read by each process for its own devices, laid out over the mesh, described by their shapes.

A batch is split over both axes of the mesh.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.typing import DTypeLike
from ml_collections import ConfigDict

from champ_jax.common.errors import InputError
from champ_jax.data.pipeline import Batches, make_stage1, make_stage2
from champ_jax.models.champ import ChampConfig
from champ_jax.training.objective import Batch
from champ_jax.training.sharding import BATCH


def check_batch(mesh: Mesh, batch_size: int, accumulate: int) -> None:
    """Raises InputError, with the numbers, if a global batch does not spread over the mesh and the pieces."""
    if batch_size < 1 or accumulate < 1:
        raise InputError(f"data.batch_size={batch_size}, optimizer.accumulate={accumulate}: both are at least 1")
    if batch_size % (mesh.size * accumulate):
        pieces = f" x {accumulate} accumulated pieces" if accumulate > 1 else ""
        raise InputError(
            f"data.batch_size={batch_size} is not a multiple of {mesh.size} devices "
            f"(mesh {mesh.shape['data']} x {mesh.shape['fsdp']}){pieces}; "
            f"take {-(-batch_size // (mesh.size * accumulate)) * mesh.size * accumulate} or another mesh"
        )


def make_batches(config: ConfigDict, path: str, mesh: Mesh, **changes: Any) -> Batches:
    """This process's share of the batches of the dataset at `path`.

    Args:
      config: The config of the run.
      path: The dataset's folder.
      mesh: The mesh that the batches go to; this process reads the rows that its devices get.
      changes: options of `champ_jax.data.pipeline.make_batches` that differ from the config's.
    """
    data = config.data
    options = {
        "seed": config.seed,
        "batch_size": data.batch_size,
        "image_size": tuple(data.image_size),
        "conditions": tuple(config.conditions) if config.stage else (),
        "crop": data.crop,
        "resize": data.resize,
        "area": tuple(data.area),
        "box_scale": tuple(data.box_scale),
        "recolored": data.recolored,
        "workers": data.workers,
        "read_ahead": data.read_ahead,
        "cached": data.cached,
        "cached_embeddings": data.cached_embeddings,
        **changes,
    }
    options["rows"] = own_rows(mesh, options["batch_size"])
    if config.stage < 2:
        return make_stage1(path, margin=data.margin, **options)
    return make_stage2(path, frames=data.frames, stride=data.stride, **options)


def own_rows(mesh: Mesh, batch_size: int) -> np.ndarray:
    """The rows of a global batch that are on this process's devices, ascending.

    On a TPU slice they need not be consecutive: the mesh follows the physical links.
    """
    places = NamedSharding(mesh, BATCH).addressable_devices_indices_map((batch_size,))
    return np.sort(np.concatenate([np.arange(batch_size)[index] for index in places.values()]))


def shard_batch(batch: Any, mesh: Mesh) -> Any:
    """Global arrays, split over the mesh, from this process's share of a batch: numpy, leading axis `own_rows`."""
    sharding = NamedSharding(mesh, BATCH)

    def place(x: np.ndarray) -> jax.Array:
        size = len(x) * mesh.size // len(sharding.addressable_devices)
        rows = own_rows(mesh, size)

        def piece(index: tuple[slice, ...]) -> np.ndarray:
            first = np.searchsorted(rows, index[0].start or 0)
            return x[first : first + size // mesh.size]

        return jax.make_array_from_callback((size, *x.shape[1:]), sharding, piece)

    return jax.tree.map(lambda x: place(np.asarray(x)), batch)


def abstract_batch(config: ConfigDict, model: ChampConfig, mesh: Mesh) -> Batch:
    """A global batch as `champ_jax.data.pipeline` makes it, as jax.ShapeDtypeStructs."""
    samples, (width, height) = config.data.batch_size, config.data.image_size
    frames = config.data.frames if config.stage == 2 else 1
    sharding = NamedSharding(mesh, BATCH)

    def array(*shape: int, dtype: DTypeLike = jnp.uint8) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((samples, *shape), dtype, sharding=sharding)

    batch: Batch = {"conditions": {name: array(frames, height, width, 3) for name in config.conditions if config.stage}}
    size = model.image_encoder.image_size
    if config.data.cached:
        shrink = model.vae.downscale
        latent = (height // shrink, width // shrink, model.vae.latent_channels)
        for name, shape in (("latents", (frames, *latent)), ("reference", latent)):
            batch |= {f"{name}_{kind}": array(*shape, dtype=jnp.float32) for kind in ("mean", "std")}
        if config.data.cached_embeddings:
            return batch | {"embedding": array(model.image_encoder.projection_dim, dtype=jnp.float32)}
        return batch | {"clip_pixels": array(size, size, 3)}
    batch["pixels"], batch["reference"] = array(frames, height, width, 3), array(height, width, 3)
    batch["clip_pixels"] = array(size, size, 3)
    return batch
