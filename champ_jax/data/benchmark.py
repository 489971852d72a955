"""Measures the samples a second that the pipelines give: `python -m champ_jax.data.benchmark --workers=4`.

Without --data it makes videos, whose PNG files are about as large as those of photographs and motion maps.
"""

import json
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from champ_jax.common.cli import Parser, run
from champ_jax.common.condition_names import CONDITIONS
from champ_jax.common.ranges import Integer, Number
from champ_jax.data.build import build_dataset
from champ_jax.data.folders import kinds_for
from champ_jax.data.pipeline import make_stage1, make_stage2
from champ_jax.data.records import GRAY


def measure(
    path: str | os.PathLike, stage: int, *, batch_size: int, workers: int = 0, seconds: float = 10.0, **options: Any
) -> dict[str, Any]:
    """Takes batches as fast as they come. That keeps the batches made ahead used up, so the rate can be sustained.

    Args:
      path: a dataset.
      stage: 1 or 2.
      batch_size: samples of a batch.
      workers: processes; 0 reads in threads of this one.
      seconds: shortest time measured, after one batch of every worker.
      options: Options of `champ_jax.data.pipeline.make_batches`, and of `make_stage1` or `make_stage2`.

    Returns:
      {'stage', 'batch_size', 'workers', 'samples_per_second', 'pictures_per_second'}; pictures are files decoded.
    """
    make = make_stage1 if stage == 1 else make_stage2
    iterator = make(path, seed=0, batch_size=batch_size, workers=workers, **options)
    try:
        for _ in range(max(workers, 1) + 1):
            batch = next(iterator)
        batches, start = 0, time.perf_counter()
        while time.perf_counter() - start < seconds:
            batch = next(iterator)
            batches += 1
        rate = batches * batch_size / (time.perf_counter() - start)
    finally:
        iterator.close()
    frames = batch["conditions"][next(iter(batch["conditions"]))].shape[1]
    kinds = kinds_for(tuple(batch["conditions"]))
    cached = "pixels" not in batch
    files = frames * (len(kinds) - cached) + (not cached)
    return {
        "stage": stage,
        "batch_size": batch_size,
        "workers": workers,
        "samples_per_second": round(rate, 3),
        "pictures_per_second": round(rate * files, 1),
    }


def write_example(folder: str | os.PathLike, size: tuple[int, int], videos: int = 1, frames: int = 100) -> None:
    """Videos in the training layout: a disc for a person, on detail and grain that make PNG files as large as a
    photograph's (about 1.5 bytes a pixel)."""
    width, height = size
    rng = np.random.default_rng(0)
    x, y = np.meshgrid(np.linspace(-1, 1, width), np.linspace(-1, 1, height))
    for video in range(videos):
        coarse = Image.fromarray(rng.integers(0, 256, (height // 16, width // 16, 3), dtype=np.uint8))
        scene = np.asarray(coarse.resize(size, Image.Resampling.BICUBIC)).astype(np.int16)
        for frame in range(frames):
            distance = (x - 0.3 * np.sin(frame / 10)) ** 2 + y**2
            body = distance < 0.3
            shape = (255 * np.clip(1 - distance, 0, 1)).astype(np.uint8)
            smooth = np.stack([shape, shape // 2, 255 - shape], axis=-1) * body[..., None]
            pictures = dict.fromkeys((*CONDITIONS, "mask"), smooth)
            pictures["images"] = np.clip(scene + rng.integers(-3, 4, scene.shape), 0, 255).astype(np.uint8)
            pictures |= {"depth": shape * body, "mask": body * np.uint8(255)}
            for kind, picture in pictures.items():
                path = Path(folder) / f"video{video}" / kind / f"{frame + 1:04d}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(picture, "L" if kind in GRAY else "RGB").save(path, compress_level=4)


def main(argv: Sequence[str]) -> int:
    parser = Parser(description=__doc__)
    parser.add_argument("--data", help="a dataset; one is made if none is named")
    side, workers, seconds = Integer(minimum=16, maximum=8192), Integer(minimum=0, maximum=1024), Number(above=0)
    parser.add_argument("--size", type=side, default=512, help="side of the pictures (%(default)s)")
    parser.add_argument("--workers", type=workers, default=os.cpu_count(), help="processes (%(default)s)")
    parser.add_argument("--seconds", type=seconds, default=10.0, help="seconds to measure each stage (%(default)s)")
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        path = options.data
        if path is None:
            write_example(Path(folder) / "videos", (options.size, options.size))
            path = Path(folder) / "dataset"
            build_dataset([Path(folder) / "videos"], path, workers=max(options.workers, 1))
        for stage, batch_size in ((1, 4), (2, 1)):
            result = measure(
                path,
                stage,
                batch_size=batch_size,
                workers=options.workers,
                seconds=options.seconds,
                image_size=(options.size, options.size),
            )
            print(json.dumps(result))
    return 0


if __name__ == "__main__":
    run(main)
