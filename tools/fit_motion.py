"""Fits a body to a person's key points: what a tracker saw becomes a motion.npz.

    python tools/fit_motion.py --input=keypoints.npz --output=motion.npz
    python tools/fit_motion.py --input=openpose_json/ --image_size=1280x720 --fps=30 --output=motion.npz
    python tools/fit_motion.py --input=joints.npz --layout=h36m17 --image_size=1280x720 --output=motion.npz

The input holds `keypoints` of 17 (COCO), 25 (BODY_25), 133 (COCO-WholeBody) or 134 points a frame, or `joints3d`;
docs/fitting.md has the formats. The shape is fitted to the whole clip, planted feet stay where they are. A run that was
interrupted goes on where it was when it is started again.
"""

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from champ_jax.body.aspect import picture_size
from champ_jax.body.fields import FOCAL, FPS
from champ_jax.body.smpl import load_body
from champ_jax.common.cli import Parser, run
from champ_jax.common.errors import InputError
from champ_jax.common.locks import hold
from champ_jax.common.outputs import NPZ, Output, claim
from champ_jax.common.progress import Progress
from champ_jax.common.ranges import Choice, Integer
from champ_jax.fitting.advice import advise
from champ_jax.fitting.fit import Fit, FitSettings, Report, fit_joints, fit_keypoints
from champ_jax.fitting.keypoints import Keypoints
from champ_jax.fitting.layouts import LAYOUTS_3D
from champ_jax.fitting.sources import SourceOptions, read_points


def main(argv: Sequence[str]) -> None:
    parser = Parser(description=__doc__)
    parser.add_argument("--input", type=Path, required=True, help="key points or 3D joints (file or folder)")
    parser.add_argument("--output", type=Path, required=True, help="the motion.npz to write")
    parser.add_argument("--body", type=Path, help="a body file to fit (default: the open body)")
    parser.add_argument("--focal", default=None, help="px, or auto to estimate it (the file's, else auto)")
    parser.add_argument("--image_size", type=picture_size, help="WxH of the video, where the file does not say it")
    parser.add_argument("--fps", type=FPS, help="frame rate of the video, where the file does not say it")
    parser.add_argument("--layout", type=Choice(*LAYOUTS_3D), help="the order of 3D joints, if the file lacks it")
    parser.add_argument("--person", type=Integer(minimum=0, maximum=999), help="which of several people of OpenPose's")
    parser.add_argument("--no_ground", action="store_true", help="no ground: swimming, trampolines, moving cameras")
    parser.add_argument("--quiet", action="store_true", help="no progress")
    options = parser.parse_args(argv)
    focal, estimate = _focal(options.focal)
    body = load_body(options.body)
    inputs = [path for path in (options.input, options.body) if path is not None]
    claim([Output("--output", options.output, NPZ)], inputs)
    points, notes = read_points(
        options.input,
        SourceOptions(options.image_size, options.fps, focal, estimate, options.layout, options.person),
    )
    print("".join(f"{note}\n" for note in notes), end="", flush=True)
    store = options.output.with_name(f".{options.output.name}.fitting")
    with hold(options.output), _progress(Progress(options.quiet), len(points)) as report:
        settings = FitSettings(ground=not options.no_ground)
        if isinstance(points, Keypoints):
            fit = fit_keypoints(points, body, settings, report, store)
        else:
            fit = fit_joints(points, body, settings, report, store)
        fit.motion.save(options.output)
        with contextlib.suppress(OSError):
            os.remove(store)
    _print(options.output, fit, isinstance(points, Keypoints))


def _focal(text: str | None) -> tuple[float | None, bool]:
    """A focal length in px, or None; and whether it is to be estimated whatever the file says."""
    if text is None or text == "auto":
        return None, text == "auto"
    if text == "exif":
        raise InputError("--focal=exif: is for pictures and videos, key points carry no such data; give px or auto")
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if FOCAL.problem(value) is not None:
        raise InputError(f"--focal={text[:40]}: should be auto, exif, or {FOCAL}")
    return value, False


@contextlib.contextmanager
def _progress(progress: Progress, frames: int) -> Iterator[Report]:
    with progress.bar("fit", 1000, "step") as bar:

        def report(stage: str, share: float) -> None:
            place = 300 * share if stage == "start" else 300 + 700 * share
            bar.update(max(int(place) - bar.n, 0))

        yield report


def _print(path: Path, fit: Fit, in_pictures: bool) -> None:
    motion = fit.motion
    width, height = motion.image_size.tolist()
    error = float(np.median(fit.errors[motion.valid]))
    missed = f"{error:.1f} px" if in_pictures else f"{1000 * error:.0f} mm"
    print("".join(f"{line}\n" for line in advise(fit)), end="")
    print(
        f"{path}: {len(motion)} frames at {motion.fps:g} fps, {width}x{height}, focal {fit.focal:.0f} px, "
        f"points missed by {missed}, body '{motion.body}'"
    )


if __name__ == "__main__":
    run(main)
