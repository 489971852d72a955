"""Fits a body to a person: a video, a picture, or what another tracker saw becomes a motion.npz.

    champ fit --input=dance.mp4 --output=motion.npz
    champ fit --input=person.png --output=person.npz
    champ fit --input=keypoints.npz --output=motion.npz
    champ fit --input=openpose_json/ --image_size=1280x720 --fps=30 --output=motion.npz
    champ fit --input=joints.npz --layout=h36m17 --image_size=1280x720 --output=motion.npz

Of points, the input holds `keypoints` of 17 (COCO), 25 (BODY_25), 133 (COCO-WholeBody) or 134 points a frame, or
`joints3d`; docs/fitting.md has the formats. The shape is fitted to the whole clip, planted feet stay where they are. A
video of several shots gives motion_1.npz, motion_2.npz and so on. A run that was interrupted goes on where it was.
"""

import contextlib
import dataclasses
import functools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from champ_jax.body.aspect import picture_size
from champ_jax.body.fields import FOCAL, FPS
from champ_jax.body.smpl import BodyModel, load_body
from champ_jax.common.cli import Parser
from champ_jax.common.errors import InputError
from champ_jax.common.locks import hold
from champ_jax.common.outputs import NPZ, PNG, VIDEO, Output, claim
from champ_jax.common.pictures import write_image
from champ_jax.common.progress import Progress
from champ_jax.common.ranges import Choice
from champ_jax.common.videos import VideoWriter
from champ_jax.fitting.advice import advise
from champ_jax.fitting.edits import apply_edits
from champ_jax.fitting.fit import Fit, FitSettings
from champ_jax.fitting.frames import Frames
from champ_jax.fitting.hmr2.predict import Network, predict
from champ_jax.fitting.joints import Joints3D
from champ_jax.fitting.keypoints import Keypoints
from champ_jax.fitting.layouts import LAYOUTS_3D
from champ_jax.fitting.options import CUTS, DETECTORS, Options
from champ_jax.fitting.pictures_of_fit import chart, overlay
from champ_jax.fitting.sources import SourceOptions, is_points_file, read_points
from champ_jax.fitting.steps import find_shots, fit_points


@dataclasses.dataclass(frozen=True)
class _Part:
    """One shot: its points, the numbers of the video's frames that they are of, and where its results go."""

    points: Keypoints | Joints3D
    frames: np.ndarray
    motion: Path
    overlay: Path
    chart: Path
    keypoints: Path


MOVEMENTS = Choice("static", "moving")
"""What a video's camera does."""

_Found = tuple[np.ndarray, Keypoints | Joints3D]
"""The numbers of a shot's frames, and its points."""


def parser() -> Parser:
    """What the command takes."""
    parser = Parser(description=__doc__)
    files = parser.add_argument_group("inputs and outputs")
    files.add_argument("--input", type=Path, required=True, help="a video, a picture, a folder, or points")
    files.add_argument("--output", type=Path, required=True, help="the motion.npz to write")
    files.add_argument("--body", type=Path, help="a body file to fit (default: the open body)")
    files.add_argument("--edit", type=Path, help="a JSON file of corrected points (docs/fitting.md)")
    files.add_argument("--no_pictures", action="store_true", help="no overlay and no chart beside the motion")
    files.add_argument("--debug", action="store_true", help="also keep the points, as MOTION_keypoints.npz")
    files.add_argument("--quiet", action="store_true", help="no progress")
    camera = parser.add_argument_group("the camera and the file of points")
    camera.add_argument(
        "--camera", default="static", type=MOVEMENTS, help="moving: it pans, tilts or zooms, as the background says"
    )
    camera.add_argument(
        "--focal",
        metavar="PX",
        help="focal length in pixels, exif (a picture's), or auto to estimate it (default: the file's, else auto)",
    )
    camera.add_argument(
        "--image_size", metavar="WxH", type=picture_size, help="pixels of the video, where a file of points lacks them"
    )
    camera.add_argument("--fps", type=FPS, help="frames per second, where the file does not say it, or instead")
    camera.add_argument("--layout", type=Choice(*LAYOUTS_3D), help="the order of 3D joints, if the file lacks it")
    people = parser.add_argument_group("who is fitted")
    people.add_argument(
        "--person", default="largest", metavar="WHO", help="of several: largest, longest, or K from the list printed"
    )
    people.add_argument("--at", metavar="X,Y[,FRAME]", help="the person at this pixel of a frame")
    people.add_argument(
        "--tiles", default="auto", metavar="N", help="auto, none, or N: looks for people that are small"
    )
    people.add_argument("--cuts", default="split", type=CUTS, help="what to do with a video of several shots")
    how = parser.add_argument_group("how they are found and fitted")
    how.add_argument("--detector", default="mediapipe", type=DETECTORS, help="mediapipe is in the package")
    how.add_argument("--dwpose_weights", metavar="FOLDER", help="the folder of yolox_l.onnx and dw-ll_ucoco_384.onnx")
    how.add_argument("--hmr2", type=Path, help="HMR2's weights, converted: its poses are a start and a weak prior")
    how.add_argument("--no_ground", action="store_true", help="no ground: swimming, trampolines")
    return parser


def main(argv: Sequence[str]) -> None:
    """Parses the arguments and fits."""
    options = parser().parse_args(argv)
    focal = _focal(options.focal)
    people = Options(options.person, options.at, options.tiles, options.cuts, options.detector, options.dwpose_weights)
    people.check()
    body = load_body(options.body)
    inputs = [path for path in (options.input, options.body, options.edit, options.hmr2) if path is not None]
    from_points = is_points_file(options.input)
    if from_points and options.hmr2 is not None:
        raise InputError(f"--hmr2: looks at pictures, {options.input} holds points; give the video or the picture")
    if from_points and options.detector == "dwpose":
        raise InputError(f"--detector=dwpose: looks at pictures, {options.input} holds points; give the video")
    moving = options.camera == "moving"
    if from_points and moving:
        raise InputError(
            f"--camera=moving: looks at the background, {options.input} holds points; give the video, or points with "
            "camera_rotations and focal"
        )
    _claim(options, inputs, from_points, 1)
    hmr2 = None if options.hmr2 is None else Network.load(options.hmr2)
    progress = Progress(options.quiet)
    with hold(options.output):
        if from_points:
            points, notes = read_points(options.input, _source_options(options, focal))
            found: list[_Found] = [(np.arange(len(points)), points)]
        else:
            shots, notes = find_shots(options.input, people, options.fps, focal, progress, moving_camera=moving)
            found = [(shot.frames, shot.keypoints) for shot in shots]
        print("".join(f"{note}\n" for note in notes), end="", flush=True)
        if options.edit is not None:
            found = [_edited(options.edit, found)]
        _claim(options, inputs, from_points, len(found))
        settings = FitSettings(ground=not options.no_ground)
        for part in _parts(options.output, found):
            store = part.motion.with_name(f".{part.motion.name}.fitting")
            poses = None
            if hmr2 is not None and isinstance(part.points, Keypoints):
                pictures = map(np.asarray, Frames(options.input, options.fps).at(part.frames))
                seen = predict(hmr2, pictures, part.points, progress)
                poses = functools.partial(seen.in_picture, space=body.space)
            fit = fit_points(part.points, body, settings, progress, store, poses)
            fit.motion.save(part.motion)
            with contextlib.suppress(OSError):
                os.remove(store)
            if options.debug and isinstance(part.points, Keypoints):
                part.points.save(part.keypoints)
            if not options.no_pictures:
                _draw(part, fit, body, None if from_points else Frames(options.input, options.fps), progress)
            _print(part, fit)


def _source_options(options, focal: float | str | None) -> SourceOptions:
    """How a file of points is read; options that are for pictures are refused."""
    if focal == "exif":
        raise InputError("--focal=exif: is for pictures, points carry no such data; give px or auto")
    if options.person == "longest" or options.at is not None:
        raise InputError("--person=longest, --at: are for pictures and videos; of points give --person=K")
    person = None if options.person == "largest" else int(options.person) - 1
    pixels = focal if isinstance(focal, float) else None
    return SourceOptions(options.image_size, options.fps, pixels, focal == "auto", options.layout, person)


def _focal(text: str | None) -> float | str | None:
    """px, 'auto', 'exif' or None."""
    if text in (None, "auto", "exif"):
        return text
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if FOCAL.problem(value) is not None:
        raise InputError(f"--focal={text[:40]}: should be auto, exif, or {FOCAL}")
    return value


def _edited(path: Path, found: Sequence[_Found]) -> _Found:
    if len(found) != 1 or not isinstance(found[0][1], Keypoints):
        raise InputError(f"--edit={path}: is for key points of one shot")
    points, count = apply_edits(found[0][1], path)
    print(f"{path}: {count} corrections")
    return found[0][0], points


def _parts(output: Path, found: Sequence[tuple[Any, Any]]) -> list[_Part]:
    """Where each shot's results go: beside the output, numbered where there are several."""
    parts = []
    for number, (frames, points) in enumerate(found, 1):
        stem = output.stem if len(found) == 1 else f"{output.stem}_{number}"
        ends = (output.suffix, "_overlay.mp4", "_fit.png", "_keypoints.npz")
        motion, over, drawn, keypoints = (output.with_name(f"{stem}{end}") for end in ends)
        parts.append(_Part(points, frames, motion, over, drawn, keypoints))
    return parts


def _claim(options, inputs: Sequence[Path], from_points: bool, shots: int) -> None:
    """Checks that everything may be written, before the work and again when the number of shots is known."""
    wanted = []
    for part in _parts(options.output, [(None, None)] * shots):
        wanted.append(Output("--output", part.motion, NPZ))
        if not options.no_pictures:
            wanted.append(Output("--output", part.chart, PNG))
            wanted += [] if from_points else [Output("--output", part.overlay, VIDEO)]
        if options.debug:
            wanted.append(Output("--output", part.keypoints, NPZ))
    claim(wanted, inputs)


def _draw(part: _Part, fit: Fit, body: BodyModel, frames: Frames | None, progress: Progress) -> None:
    """The chart, and over the frames of a video the body."""
    write_image(part.chart, chart(fit))
    if frames is None:
        return
    pictures = map(np.asarray, frames.at(part.frames))
    with VideoWriter(part.overlay, fit.motion.fps) as writer, progress.bar("overlay", len(fit.motion), "frame") as bar:
        for picture in overlay(fit.motion, body, pictures):
            writer.write(picture)
            bar.update()


def _print(part: _Part, fit: Fit) -> None:
    motion = fit.motion
    width, height = motion.image_size.tolist()
    error = float(np.median(fit.errors[motion.valid]))
    missed = f"{error:.1f} px" if isinstance(part.points, Keypoints) else f"{1000 * error:.0f} mm"
    print("".join(f"{line}\n" for line in advise(fit)), end="")
    print(
        f"{part.motion}: {len(motion)} frames at {motion.fps:g} fps, {width}x{height}, focal {fit.focal:.0f} px, "
        f"points missed by {missed}, body '{motion.body}'"
    )
