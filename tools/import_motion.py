"""Makes a motion.npz from what other programs write.

    python tools/import_motion.py --input=FILE_OR_FOLDER --output=motion.npz

Reads, recognized by content: the reference implementation's per-frame .npy folder and smpls_group.npz; 4D-Humans and
PHALP .pkl; WHAM's wham_output.pkl; TRAM's hps_track_*.npy; GVHMR's .pt; PromptHMR's results.pkl; NLF's pose, betas and
trans; AMASS and SMPL-X .npz; and motion.npz itself, to change one. Nothing inside a pickle is ever run.
"""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from champ_jax.body.aspect import picture_size
from champ_jax.body.fields import FOCAL, FPS
from champ_jax.body.importers import import_motion
from champ_jax.body.interpolation import GAP, fill_gaps, resample
from champ_jax.body.mirror import mirror
from champ_jax.body.motion import SPACES, change_space
from champ_jax.body.smoothing import STRENGTH, smooth
from champ_jax.common.cli import Parser, run
from champ_jax.common.errors import InputError
from champ_jax.common.outputs import NPZ, Output, claim


def main(argv: Sequence[str]) -> None:
    parser = Parser(description=__doc__)
    parser.add_argument("--input", type=Path, required=True, help="file or folder")
    parser.add_argument("--output", type=Path, required=True, help="the motion.npz to write")
    parser.add_argument(
        "--person", help="which of several people (default: the one seen longest); ID,ID,... joins tracks"
    )
    parser.add_argument("--image_size", type=picture_size, help="WxH of the video, where the file does not say it")
    parser.add_argument("--focal", type=FOCAL, help="focal length in px, in place of the file's")
    parser.add_argument("--fps", type=FPS, help="frame rate of the video, where the file does not say it")
    parser.add_argument("--frames", default=":", metavar="A:B", help="a slice of the frames")
    parser.add_argument("--resample", type=FPS, metavar="FPS", help="change the frame rate")
    parser.add_argument("--space", choices=SPACES, help="bring the poses to another body's mean shape")
    parser.add_argument("--mirror", action="store_true", help="swap left and right")
    parser.add_argument("--fill_gaps", type=GAP, default=10, metavar="N", help="fill gaps of at most N frames (10)")
    parser.add_argument("--trim", action="store_true", help="drop frames before the first and after the last valid one")
    parser.add_argument("--smooth", type=STRENGTH, default=0.0, metavar="N", help="smooth by N frames (0: not at all)")
    options = parser.parse_args(argv)
    claim([Output("--output", options.output, NPZ)], [options.input])
    motion, notes = import_motion(
        options.input,
        person=options.person,
        image_size=options.image_size,
        focal=options.focal,
        fps=options.fps,
    )
    motion = motion[parse_slice(options.frames)]
    motion.validate(str(options.input))
    motion, lines = fill_gaps(motion, options.fill_gaps)
    if options.trim:
        valid = np.flatnonzero(motion.valid)
        motion = motion[int(valid[0]) : int(valid[-1]) + 1]
    if options.resample is not None:
        motion = resample(motion, options.resample)
    motion = smooth(mirror(motion) if options.mirror else motion, options.smooth)
    if options.space is not None and options.space != motion.body:
        lines.append(
            f"the shape ('{motion.body}') was left behind: betas are now the mean of the '{options.space}' body"
        )
        motion = change_space(motion, options.space)
    motion.save(options.output)
    print("".join(f"{line}\n" for line in [*notes, *lines]), end="")
    width, height = motion.image_size.tolist()
    print(f"{options.output}: {len(motion)} frames at {motion.fps:g} fps, {width}x{height}, body '{motion.body}'")


def parse_slice(text: str) -> slice:
    """The Python slice that A:B or A:B:STEP writes."""
    match = re.fullmatch(r"(-?[0-9]{1,9})?:(-?[0-9]{1,9})?(?::([1-9][0-9]{0,8})?)?", text)
    if match is None:
        raise InputError(f"--frames={text[:40]}: should be a slice such as 10:100")
    return slice(*(None if part is None else int(part) for part in match.groups()))


if __name__ == "__main__":
    run(main)
