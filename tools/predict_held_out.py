"""Animates held-out people by their own motions from their first frames, or makes the baselines of that.

  python tools/predict_held_out.py --held_out=DIR/test --weights=WEIGHTS --output=OUT
      # OUT/VIDEO/NNNN.png, OUT_videos/VIDEO.mp4
  python tools/predict_held_out.py --held_out=DIR/test --train=DIR/train --output=OUT
      # OUT/copy/VIDEO/NNNN.png: the first frame; OUT/nearest/VIDEO/NNNN.png: the nearest frame of the training videos

DIR was made by tools/make_people.py. Compare with python -m champ_jax.evaluate --config.ground_truth=DIR/test.
"""

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from champ_jax import animate
from champ_jax.common.cli import Parser, run
from champ_jax.common.condition_names import CONDITIONS
from champ_jax.common.errors import InputError
from champ_jax.common.files import atomic_path
from champ_jax.common.outputs import FRAMES, Output, claim
from champ_jax.common.pictures import list_images, read_image, write_image
from champ_jax.common.ranges import Choice, Integer, Items, Number
from champ_jax.conditions.sources import open_conditions
from champ_jax.evaluation.baselines import IMAGES, find_people, write_copies, write_nearest
from champ_jax.inference import builtin


def main(argv: Sequence[str]) -> int:
    parser = Parser(description=__doc__)
    parser.add_argument("--held_out", required=True, help="folder of the videos")
    parser.add_argument("--output", required=True, help="folder for the frames")
    parser.add_argument("--weights", help="a checkpoint directory or work folder")
    parser.add_argument("--motions", help="folder of other motions, VIDEO.npz (tools/make_drivers.py)")
    parser.add_argument("--train", help="folder of the training videos, to make the baselines")
    parser.add_argument(
        "--conditions",
        type=Items(Choice(*CONDITIONS), 1, distinct=True),
        default=",".join(CONDITIONS),
        help="(%(default)s)",
    )
    parser.add_argument(
        "--steps",
        type=Integer(minimum=1, maximum=1000),
        default=builtin.SAMPLING["steps"],
        help="denoising steps (%(default)s)",
    )
    parser.add_argument(
        "--guidance_scale",
        type=Number(minimum=0, maximum=100),
        default=builtin.SAMPLING["guidance_scale"],
        help="(%(default)s)",
    )
    parser.add_argument("--no_videos", action="store_true", help="write frames alone, which needs no PyAV")
    options = parser.parse_args(argv)
    if (options.weights is None) == (options.train is None):
        parser.error("name either --weights or --train")
    videos, output = find_people(options.held_out), Path(options.output)
    if not output.name:
        raise InputError(f"--output={options.output}: name a new folder")
    if options.train is not None:
        train = find_people(options.train)
        folders = [output / kind / video.name for kind in ("copy", "nearest") for video in videos]
        claim([Output("--output", folder, FRAMES) for folder in folders], [*videos, *train])
        write_copies(videos, output / "copy")
        write_nearest(videos, train, output / "nearest")
        return 0
    if options.no_videos:
        _write_frames(videos, output, options)
        return 0
    settings = {
        "weights": options.weights,
        "windows.batch": 1,
        "steps": options.steps,
        "guidance_scale": options.guidance_scale,
        "conditions": ",".join(options.conditions),
    }
    with tempfile.TemporaryDirectory() as folder:
        jobs = Path(folder) / "jobs.jsonl"
        jobs.write_text("".join(json.dumps(_job(video, output, options.motions)) + "\n" for video in videos))
        overrides = [f"--config.{name}={value}" for name, value in settings.items()]
        return animate.main([f"--config.jobs={jobs}", *overrides])


def _job(video: Path, output: Path, motions: str | None) -> dict:
    return {
        "reference": str(list_images(video / IMAGES)[0]),
        "motion": str(video if motions is None else Path(motions) / f"{video.name}.npz"),
        "output": str(output.with_name(f"{output.name}_videos") / f"{video.name}.mp4"),
        "frames_output": str(output / video.name),
        "height": _picture(video).shape[0],
        "fps": 24,
    }


def _picture(video: Path) -> np.ndarray:
    """The reference picture of a video: its first frame."""
    return read_image(list_images(video / IMAGES)[0])


def _write_frames(videos: Sequence[Path], output: Path, options: argparse.Namespace) -> None:
    """OUT/VIDEO/NNNN.png alone."""
    import jax  # loads after the arguments are read

    from champ_jax.inference.pipeline import ChampPipeline

    claim([Output("--output", output / video.name, FRAMES) for video in videos], videos)
    dtype = "float32" if jax.default_backend() == "cpu" else "bfloat16"  # as animate chooses
    pipeline = ChampPipeline.from_checkpoint(options.weights, dtype=dtype)
    settings = {"steps": options.steps, "guidance_scale": options.guidance_scale, "batch": 1}
    for video in tqdm(videos, unit="video"):
        picture = _picture(video)
        source = video if options.motions is None else Path(options.motions) / f"{video.name}.npz"
        size = picture.shape[1], picture.shape[0]
        conditions, _ = open_conditions(source, conditions=options.conditions, picture_size=size)
        frames = pipeline(picture, conditions, width=size[0], height=size[1], quiet=True, **settings).frames
        with atomic_path(output / video.name, folder=True) as folder:
            folder.mkdir()
            for number, frame in enumerate(frames, start=1):
                write_image(folder / f"{number:04}.png", frame)


if __name__ == "__main__":
    run(main)
