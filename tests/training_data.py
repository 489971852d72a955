"""A tiny dataset in the training layout, and the smoke config on it."""

import dataclasses
from pathlib import Path
from runpy import run_path

import numpy as np
from ml_collections import ConfigDict
from PIL import Image

from champ_jax.data.build import build_dataset
from champ_jax.models.champ import ChampConfig

smoke = run_path(str(Path(__file__).parents[1] / "configs/people/smoke.py"))["get_config"]

KINDS = ("images", "depth", "normal", "semantic_map", "dwpose", "mask")


def write_dataset(folder: Path, videos: int = 3, frames: int = 8, size: int = 64) -> Path:
    """Videos of colored noise, smooth enough to look like pictures, as a dataset at FOLDER/dataset."""
    rng = np.random.default_rng(0)
    for video in range(videos):
        for kind in KINDS:
            for frame in range(frames):
                path = folder / "videos" / f"video{video}" / kind / f"{frame + 1:04d}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                coarse = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
                picture = Image.fromarray(coarse).resize((size, size), Image.Resampling.BILINEAR)
                if kind == "mask":
                    picture = Image.fromarray(np.full((size, size), 255, np.uint8))
                picture.save(path)
    build_dataset([folder / "videos"], folder / "dataset")
    return folder / "dataset"


def tiny_model() -> ConfigDict:
    """The smoke config's model with a UNet of one level: the least that compiles fast and has every kind of layer."""
    model = ChampConfig.from_json(smoke().model.to_dict())
    unet = dataclasses.replace(model.unet, block_out_channels=(16,), attention_levels=(True,), heads=(2,))
    return ConfigDict(dataclasses.replace(model, unet=unet, conditions=("depth",)).to_json())


def tiny_config(dataset: str | Path, **fields) -> ConfigDict:
    """The smoke config with `tiny_model` and one condition on one device."""
    fields = {"mesh__data": 1, "conditions": ("depth",), "model": tiny_model(), "checkpoint__every": 2, **fields}
    return smoke_config(dataset, **fields)


def smoke_config(dataset: str | Path, **fields) -> ConfigDict:
    """The smoke config on `dataset`, with fields ('checkpoint__every=2') changed."""
    config = smoke()
    config.data.path = str(dataset)
    config.steps = 4
    for name, value in fields.items():
        node = config
        *groups, leaf = name.split("__")
        for group in groups:
            node = node[group]
        node[leaf] = value
    return config
