"""Draws the maps that guide the animation: depth, normal, semantic_map, dwpose and mask.

  python tools/render_conditions.py --motion=motion.npz --output=DIR
  python tools/render_conditions.py --motion=mesh_sequence.npz --output=DIR
  python tools/render_conditions.py --motion=FOLDER_OF_REFERENCE_NPY --output=DIR --body=SMPL_NEUTRAL.pkl
  python tools/render_conditions.py --motion=A.npz,B.npz,... --output=DIR --workers=8

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


def main(argv: Sequence[str]) -> None:
    parser = Parser(description=__doc__)
    parser.add_argument(
        "--motion", required=True, help="motion.npz, mesh_sequence.npz or a folder of reference .npy; several by commas"
    )
    parser.add_argument("--output", required=True, help="the motion folder to write, or the folder for several")
    parser.add_argument("--body", help="body file (SMPL_NEUTRAL.pkl, ...); the open body by default")
    parser.add_argument("--backend", choices=BACKENDS, default="jax", help="what draws (%(default)s)")
    parser.add_argument("--conditions", help=f"comma-separated, of {','.join(RENDERED)}; all by default")
    parser.add_argument("--size", type=picture_size, help="WxH of the maps; the motion's own by default")
    parser.add_argument("--picture", help="a picture to show the shaded body over in overview.mp4")
    parser.add_argument(
        "--workers",
        type=Integer(minimum=1, maximum=4096),
        default=os.cpu_count(),
        help="processes for several (%(default)s)",
    )
    parser.add_argument("--runner", help="an Apache Beam runner instead of processes of this machine")
    parser.add_argument("--runner_options", default="", help="Beam's pipeline options, separated by spaces")
    arguments = parser.parse_args(argv)

    common = {
        "body": arguments.body,
        "backend": arguments.backend,
        "image_size": arguments.size,
        "conditions": None if arguments.conditions is None else arguments.conditions.split(","),
        "picture": arguments.picture,
    }
    if common["conditions"] is not None:
        Items(Choice(*RENDERED), minimum=1, distinct=True).check("--conditions", common["conditions"])
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
