"""Draws the maps that guide the animation: depth, normal, semantic_map, dwpose and mask.

  champ render --motion=motion.npz --output=DIR
  champ render --motion=mesh_sequence.npz --output=DIR
  champ render --motion=FOLDER_OF_REFERENCE_NPY --output=DIR --body=SMPL_NEUTRAL.pkl
  champ render --motion=A.npz,B.npz,... --output=DIR --workers=8

DIR becomes a motion folder ({depth,normal,semantic_map,dwpose,mask}/NNNN.png, from 0001) with overview.mp4 beside
them. A run that was cut off resumes where it was. A mesh sequence has no poses and gets no dwpose. Several motions go
to DIR/A, DIR/B, ..., spread over processes, or over an Apache Beam runner (--runner) whose machines see the same files.
"""

import os
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from champ_jax.body.aspect import picture_size
from champ_jax.common.cli import Parser
from champ_jax.common.errors import InputError
from champ_jax.common.outputs import Output, claim
from champ_jax.common.parallel import map_items
from champ_jax.common.ranges import Choice, Integer, Items
from champ_jax.conditions.map_renderer import BACKENDS
from champ_jax.conditions.motion_folder_writer import MOTION_FOLDER
from champ_jax.conditions.rendered_motion import RENDERED
from champ_jax.conditions.rendering_jobs import render_folder


def parser() -> Parser:
    """What the command takes."""
    parser = Parser(description=__doc__)
    files = parser.add_argument_group("inputs and outputs")
    files.add_argument(
        "--motion",
        required=True,
        metavar="PATH",
        help="motion.npz, mesh_sequence.npz or a folder of reference .npy; several by commas",
    )
    files.add_argument(
        "--output", required=True, metavar="PATH", help="the motion folder to write, or the folder for several"
    )
    files.add_argument("--body", metavar="PATH", help="body file (SMPL_NEUTRAL.pkl, ...) (default: the open body)")
    files.add_argument("--picture", metavar="PATH", help="a picture to show the shaded body over in overview.mp4")
    maps = parser.add_argument_group("the maps")
    maps.add_argument(
        "--conditions",
        type=Items(Choice(*RENDERED), minimum=1, distinct=True),
        metavar="LIST",
        help="what is drawn (default: all)",
    )
    maps.add_argument(
        "--size", metavar="WxH", type=picture_size, help="pixels of the maps (default: the motion's own size)"
    )
    maps.add_argument("--backend", choices=BACKENDS, default="jax", help="what draws")
    processes = parser.add_argument_group("several motions")
    processes.add_argument(
        "--workers", type=Integer(minimum=1, maximum=4096), default=os.cpu_count(), help="processes of this machine"
    )
    processes.add_argument("--runner", help="an Apache Beam runner instead of processes of this machine")
    processes.add_argument(
        "--runner_options", default="", metavar="OPTIONS", help="Beam's pipeline options, separated by spaces"
    )
    return parser


def main(argv: Sequence[str]) -> None:
    """Parses the arguments and draws."""
    arguments = parser().parse_args(argv)

    common = {
        "body": arguments.body,
        "backend": arguments.backend,
        "image_size": arguments.size,
        "conditions": None if arguments.conditions is None else list(arguments.conditions),
        "picture": arguments.picture,
    }
    outputs = _outputs(arguments.motion, arguments.output)
    inputs = [path for path in (*outputs, arguments.body, arguments.picture) if path is not None]
    claim([Output("--output", path, MOTION_FOLDER) for path in outputs.values()], inputs)
    items = [{**common, "motion": motion, "output": output} for motion, output in outputs.items()]
    scratch = Path(arguments.output).absolute().parent
    if arguments.runner is not None:
        scratch.mkdir(parents=True, exist_ok=True)
    spread = {"workers": arguments.workers, "runner": arguments.runner, "options": arguments.runner_options.split()}
    for result in map_items(render_folder, items, scratch=scratch, **spread):
        for note in result["notes"]:
            print(note, file=sys.stderr)
        width, height = result["image_size"]
        frames, drawn = result["frames"], result["drawn"]
        print(
            f"{result['output']}: {frames} frames of {', '.join(result['conditions'])} at {width}x{height}, "
            f"{drawn} drawn now, {frames - drawn} there before"
        )


def _outputs(motions: str, output: str) -> dict[str, str]:
    """{motion: its folder}: `output` itself for one, a folder in it, named as the file, for several."""
    paths = [path for path in motions.split(",") if path]
    if not paths:
        raise InputError("--motion: names no file")
    if len(paths) == 1 or Path(motions).exists():
        return {motions: output}
    for name, count in Counter(Path(path).stem for path in paths).items():
        if count > 1:
            raise InputError(
                f"--motion: {count} of them are named {name}; their folders would be the same, rename them"
            )
    return {path: str(Path(output) / Path(path).stem) for path in paths}
