"""Puts a driving motion onto the body of a reference picture (parametric shape alignment).

    champ align --motion=motion.npz --reference=ref_motion.npz --output=aligned.npz

The reference's shape does the driver's poses. By default the person starts where he or she stands in the reference
picture, in that picture's camera, and moves from there as the driver does, the path scaled by the ratio of the two
bodies' heights, feet on the ground. docs/motion.md says when to choose otherwise.
"""

from collections.abc import Sequence
from pathlib import Path

from champ_jax.body.alignment import ANGLE, CAMERAS, DEPTHS, AlignOptions, align, frames_outside
from champ_jax.body.aspect import FITS
from champ_jax.body.interpolation import GAP, fill_gaps
from champ_jax.body.mirror import mirror
from champ_jax.body.motion import Motion, change_space
from champ_jax.body.smoothing import STRENGTH, smooth
from champ_jax.body.smpl import BodyModel, load_body
from champ_jax.common.cli import Parser
from champ_jax.common.errors import InputError
from champ_jax.common.outputs import NPZ, Output, claim


def parser() -> Parser:
    """What the command takes."""
    parser = Parser(description=__doc__)
    files = parser.add_argument_group("inputs and outputs")
    files.add_argument("--motion", type=Path, required=True, help="the driver's motion.npz")
    files.add_argument("--reference", type=Path, required=True, help="motion.npz of the reference picture's person")
    files.add_argument("--output", type=Path, required=True, help="the aligned motion.npz")
    files.add_argument("--body", type=Path, help="the reference's body file (default: the open body)")
    files.add_argument("--motion_body", type=Path, help="the driver's body file, if it is another")
    place = parser.add_argument_group("where the person stands and moves")
    place.add_argument(
        "--scale",
        default="height",
        metavar="X",
        help="scale of the driver's path: height (the ratio of the bodies' heights) or a number; 0 stays in place",
    )
    place.add_argument("--no_ground_contact", action="store_true", help="keep the pelvis's height, not the feet's")
    place.add_argument("--anchor", type=GAP, help="the driver's frame that stands at the reference's place")
    place.add_argument("--turn", type=ANGLE, default=0.0, help="degrees to turn the motion about the vertical")
    place.add_argument("--mirror", action="store_true", help="swap left and right first")
    camera = parser.add_argument_group("the camera")
    camera.add_argument("--camera", choices=CAMERAS, default="reference", help="the camera of the result")
    camera.add_argument("--depth", choices=DEPTHS, default="apparent", help="how distances to the camera are taken")
    camera.add_argument("--tilt", type=ANGLE, default=0.0, help="degrees to look down on the motion")
    camera.add_argument(
        "--fit", choices=FITS, default="crop", help="with --camera=driver: how its picture gets the aspect"
    )
    repair = parser.add_argument_group("repairs")
    repair.add_argument("--fill_gaps", type=GAP, default=0, metavar="N", help="fill gaps of at most N frames")
    repair.add_argument("--smooth", type=STRENGTH, default=0.0, metavar="N", help="smooth by N frames")
    return parser


def main(argv: Sequence[str]) -> None:
    """Parses the arguments and aligns."""
    options = parser().parse_args(argv)
    choices = AlignOptions(
        camera=options.camera,
        scale=_scale(options.scale),
        ground_contact=not options.no_ground_contact,
        depth=options.depth,
        anchor=options.anchor,
        turn=options.turn,
        tilt=options.tilt,
        fit=options.fit,
    )
    choices.validate()
    inputs = [options.motion, options.reference, options.body, options.motion_body]
    claim([Output("--output", options.output, NPZ)], [path for path in inputs if path is not None])
    driver, reference = Motion.load(options.motion), Motion.load(options.reference)
    reference_body = _body(reference, options.body, "--body")
    if options.motion_body is not None:
        driver_body = _body(driver, options.motion_body, "--motion_body")
    else:
        driver_body = reference_body
        if driver.body != reference.body:
            print(f"the driver's body ('{driver.body}') is not given (--motion_body): its height is taken as the mean")
            driver = change_space(driver, reference.body)
    driver, lines = fill_gaps(driver, options.fill_gaps)
    print("".join(f"{line}\n" for line in lines), end="")
    driver = smooth(mirror(driver) if options.mirror else driver, options.smooth)
    aligned = align(driver, reference, driver_body, reference_body, choices)
    outside = frames_outside(reference_body, aligned)
    if outside.any():
        print(f"the body is outside the picture in {int(outside.sum())} frames, first in {int(outside.argmax())}")
    aligned.save(options.output)
    width, height = aligned.image_size.tolist()
    print(f"{options.output}: {len(aligned)} frames, {width}x{height}, body '{aligned.body}'")


def _scale(text: str) -> float | str:
    try:
        return text if text == "height" else float(text)
    except ValueError:
        raise InputError(f"--scale={text}: should be 'height' or a number") from None


def _body(motion: Motion, path: Path | None, option: str) -> BodyModel:
    if path is None and motion.body != "open":
        raise InputError(f"the reference's betas are of the '{motion.body}' body; give its file with {option}=FILE")
    body = load_body(path)
    if body.space != motion.body:
        raise InputError(f"{option}={path}: is a body of '{body.space}', the motion's betas are of '{motion.body}'")
    return body
