"""A video in place of a motion: the picture's person and the video's are fitted, and one is put onto the other.

Every step's file stays beside the animation, and is used again while what it was made of has not changed.
"""

import dataclasses
from pathlib import Path

import ml_collections

from champ_jax.body.alignment import AlignOptions, align
from champ_jax.body.interpolation import fill_gaps
from champ_jax.body.motion import Motion
from champ_jax.body.smpl import BodyModel, load_body
from champ_jax.common.errors import InputError
from champ_jax.common.files import find_type
from champ_jax.common.locks import hold
from champ_jax.common.outputs import NPZ, Output, claim, json_with
from champ_jax.common.progress import Progress
from champ_jax.fitting.advice import advise
from champ_jax.fitting.fit import FitSettings
from champ_jax.fitting.keypoints import Keypoints
from champ_jax.fitting.options import Options
from champ_jax.fitting.sources import is_points_file, read_points
from champ_jax.fitting.steps import find_shots, fit_points, is_current, keep_record, made_of, record_path
from champ_jax.inference import builtin

GAP = 10  # frames in which the person was lost, at most, that are bridged
_RECORD = json_with("the record of a fit", "version", "inputs", "settings")
STEPS = ("reference", "driving", "aligned")
"""What is kept: OUTPUT_reference.npz, OUTPUT_driving.npz and OUTPUT_aligned.npz."""


def places(output: str | Path) -> dict[str, Path]:
    """Where each step's motion is, beside the animation."""
    video = Path(output)
    return {step: video.with_name(f"{video.stem}_{step}.npz") for step in STEPS}


def prepare(config: ml_collections.ConfigDict, progress: Progress) -> None:
    """Makes the motion of `config.driving` and sets `config.motion` to it.

    Raises:
      InputError: a motion is given too, nobody is seen, a file cannot be read or written, or the person would walk into
        the camera.
    """
    steps = places(config.output)
    if config.motion and Path(config.motion) != steps["aligned"]:
        raise InputError("--config.driving, --config.motion: give one of them, a video or a motion")
    reference = Path(config.reference or builtin.REFERENCE)
    inputs = [Path(path) for path in (reference, config.driving, config.body) if path]
    for path in inputs:  # before the first of them has cost a minute
        if find_type(path) is None:
            raise InputError(f"{path}: no such file or folder")
    outputs = [Output("--config.output", path, NPZ) for path in steps.values()]
    outputs += [Output("--config.output", record_path(path), _RECORD) for path in steps.values()]
    claim(outputs, inputs)
    body = load_body(config.body or None)
    with hold(*steps.values()):
        person = fitted(reference, steps["reference"], config.body, body, progress)
        driver = fitted(Path(config.driving), steps["driving"], config.body, body, progress)
        made = made_of(
            {"reference": steps["reference"], "driving": steps["driving"], "body": config.body or None},
            dataclasses.asdict(AlignOptions()),
        )
        if not is_current(steps["aligned"], made):
            driver, lines = fill_gaps(driver, GAP)
            for line in lines:
                progress.note(line)
            align(driver, person, body, body, AlignOptions()).save(steps["aligned"])
            keep_record(steps["aligned"], made)
            progress.log(f"written: {steps['aligned']}")
    with config.unlocked():
        config.motion = str(steps["aligned"])


def fitted(source: Path, output: Path, body_path: str, body: BodyModel, progress: Progress) -> Motion:
    """The motion of a picture, a video or points, from its file where that is current.

    Args:
      source: the picture, the video (of whose shots the longest is taken) or the points.
      output: where the motion is kept, with a record of what it was made of beside it.
      body_path: the body's file; '' for the open body.
      body: the body.
      progress: where to report.

    Raises:
      InputError: nobody is seen, or a file cannot be read or written.
    """
    settings = FitSettings()
    made = made_of({"input": source, "body": body_path or None}, [settings.ground, settings.shape_growth])
    if is_current(output, made):
        progress.log(f"{output}: made of the same {source.name} before, used again")
        return Motion.load(output)
    if is_points_file(source):
        points, lines = read_points(source)
    else:
        shots, lines = find_shots(source, Options(), None, None, progress)
        shot = max(shots, key=lambda one: int(one.keypoints.valid.sum()))
        points = shot.keypoints
        if len(shots) > 1:
            lines = [*lines, f"{source}: the longest shot was taken, from frame {shot.frames[0]} on"]
    for line in lines:
        progress.note(line)
    fit = fit_points(points, body, settings, progress)
    if isinstance(points, Keypoints):
        for line in advise(fit):
            progress.note(line)
    fit.motion.save(output)
    keep_record(output, made)
    progress.log(f"written: {output}")
    return fit.motion
