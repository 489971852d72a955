"""Motion files to motion folders, many at once: the unit of work that processes or Beam workers share out."""

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from champ_jax.body.importers import import_motion
from champ_jax.body.smpl import load_body
from champ_jax.common.errors import InputError
from champ_jax.common.media import read_image
from champ_jax.conditions import MeshSequence, RenderedMotion, render_mesh_sequence, render_motion
from champ_jax.conditions.motion_folder_writer import OVERVIEW, write_motion_folder, write_overview
from champ_jax.conditions.rendered_motion import RENDERED


def render_folder(item: Mapping[str, Any]) -> dict[str, Any]:
    """Draws one motion; items and results are what JSON can hold, as `beam.map_items` wants them.

    Args:
      item: motion (motion.npz, mesh_sequence.npz or a folder of the reference's .npy), output (the motion folder),
        and optionally body, backend, conditions (list), image_size ([W, H]), picture (to show the body over).

    Returns:
      output, frames, drawn (of them in this call), conditions, image_size, notes (list of lines for people).

    Raises:
      InputError: as the readers and the renderer.
    """
    picture = None if item.get("picture") is None else read_image(item["picture"])
    rendered, notes = open_rendered(
        Path(item["motion"]),
        item.get("body"),
        conditions=item.get("conditions"),
        backend=item.get("backend", "jax"),
        image_size=item.get("image_size"),
    )
    output = item["output"]
    drawn = write_motion_folder(rendered, output)
    if drawn or not (Path(output) / OVERVIEW).is_file():
        write_overview(output, rendered, picture)
    return {
        "output": str(output),
        "frames": len(rendered),
        "drawn": drawn,
        "conditions": list(rendered.conditions),
        "image_size": [int(side) for side in rendered.image_size],
        "notes": notes,
    }


def open_rendered(
    path: Path, body: str | None, *, conditions: list[str] | None, **options: Any
) -> tuple[RenderedMotion, list[str]]:
    """The maps of a motion file, drawn as they are read, and what there is to say about the file."""
    if _is_mesh_sequence(path):
        notes = []
        if conditions is None:
            conditions = [name for name in RENDERED if name != "dwpose"]
            notes.append(f"{path}: a mesh sequence has no poses; dwpose is left out")
        return render_mesh_sequence(MeshSequence.load(path), conditions=conditions, **options), notes
    try:
        motion, notes = import_motion(path)
    except InputError as error:
        if " give --" in str(error):  # an option that rendering has not
            raise InputError(f"{error} to tools/import_motion.py, and render what it writes") from error
        raise
    return render_motion(motion, load_body(body), conditions=conditions or RENDERED, **options), list(notes)


def _is_mesh_sequence(path: Path) -> bool:
    if not path.is_file() or not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return {"vertices.npy", "faces.npy"} <= set(archive.namelist())
