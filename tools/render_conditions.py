"""Draws the maps that guide the animation: depth, normal, semantic_map, dwpose and mask.

  python tools/render_conditions.py --motion=motion.npz --output=DIR
  python tools/render_conditions.py --motion=mesh_sequence.npz --output=DIR
  python tools/render_conditions.py --motion=FOLDER_OF_REFERENCE_NPY --output=DIR --body=SMPL_NEUTRAL.pkl

DIR becomes a motion folder ({depth,normal,semantic_map,dwpose,mask}/NNNN.png, from 0001) with overview.mp4 beside
them. A run that was cut off goes on where it was. A mesh sequence has no poses and gets no dwpose.
"""

import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

from champ_jax.body.importers import import_motion
from champ_jax.body.smpl import load_body
from champ_jax.cli import Parser, run
from champ_jax.conditions import (
    BACKENDS,
    CONDITIONS,
    MeshSequence,
    RenderedMotion,
    render_mesh_sequence,
    render_motion,
)
from champ_jax.conditions.folder import OVERVIEW, write_motion_folder, write_overview
from champ_jax.errors import InputError
from champ_jax.media import read_image


def main(argv: Sequence[str]) -> None:
    parser = Parser(description=__doc__)
    parser.add_argument("--motion", required=True, help="motion.npz, mesh_sequence.npz or a folder of reference .npy")
    parser.add_argument("--output", required=True, help="the motion folder to write")
    parser.add_argument("--body", help="body file (SMPL_NEUTRAL.pkl, ...); the open body by default")
    parser.add_argument("--backend", default="jax", help=f"one of {', '.join(BACKENDS)}")
    parser.add_argument("--conditions", help=f"comma-separated, of {','.join(CONDITIONS)}; all by default")
    parser.add_argument("--image-size", help="WxH of the maps; the motion's own by default")
    parser.add_argument("--picture", help="a picture to show the shaded body over in overview.mp4")
    arguments = parser.parse_args(argv)

    picture = None if arguments.picture is None else read_image(arguments.picture)
    rendered = _open(
        Path(arguments.motion),
        arguments.body,
        backend=arguments.backend,
        image_size=_size(arguments.image_size),
        conditions=None if arguments.conditions is None else arguments.conditions.split(","),
    )
    drawn = write_motion_folder(rendered, arguments.output)
    if drawn or not (Path(arguments.output) / OVERVIEW).is_file():
        write_overview(arguments.output, rendered, picture)
    width, height = rendered.image_size
    print(
        f"{arguments.output}: {len(rendered)} frames of {', '.join(rendered.conditions)} at {width}x{height}, "
        f"{drawn} drawn now, {len(rendered) - drawn} there before"
    )


def _open(path: Path, body: str | None, *, conditions: list[str] | None, **options) -> RenderedMotion:
    if _is_mesh_sequence(path):
        if conditions is None:
            conditions = [name for name in CONDITIONS if name != "dwpose"]
            print(f"{path}: a mesh sequence has no poses; dwpose is left out", file=sys.stderr)
        return render_mesh_sequence(MeshSequence.load(path), conditions=conditions, **options)
    motion, notes = import_motion(path)
    for note in notes:
        print(note, file=sys.stderr)
    return render_motion(motion, load_body(body), conditions=conditions or CONDITIONS, **options)


def _is_mesh_sequence(path: Path) -> bool:
    if not path.is_file() or not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return {"vertices.npy", "faces.npy"} <= set(archive.namelist())


def _size(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    sides = text.lower().split("x")
    if len(sides) != 2 or not all(side.isdigit() for side in sides):
        raise InputError(f"--image-size={text}: want WxH, for example 512x768")
    return int(sides[0]), int(sides[1])


if __name__ == "__main__":
    run(main)
