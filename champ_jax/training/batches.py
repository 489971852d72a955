"""The batches of a run, from its config."""

from typing import Any

from jax.sharding import Mesh
from ml_collections import ConfigDict

from champ_jax.data.pipeline import Batches, make_stage1, make_stage2
from champ_jax.training.sharding import own_rows


def make_batches(config: ConfigDict, path: str, mesh: Mesh, **changes: Any) -> Batches:
    """This process's share of the batches of the dataset at `path`.

    Args:
      config: of the run.
      path: of the dataset.
      mesh: that the batches go to; this process reads the rows that its devices get.
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
