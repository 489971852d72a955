"""Motion files to motion folders, many at once: the unit of work for processes or Beam workers."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from champ_jax.common.errors import InputError
from champ_jax.common.pictures import read_image
from champ_jax.conditions.motion_folder_writer import OVERVIEW, write_motion_folder, write_overview
from champ_jax.conditions.rendered_motion import RenderedMotion
from champ_jax.conditions.sources import open_conditions


def render_folder(item: Mapping[str, Any]) -> dict[str, Any]:
    """Draws one motion; items and results are what JSON can hold, as `champ_jax.common.parallel.map_items` wants them.

    Args:
      item: motion (any that `open_conditions` draws), output (the motion folder), and optionally
        body, backend, conditions (list), image_size ([W, H]), picture (to show the body over).

    Returns:
      output, frames, drawn (of them in this call), conditions, image_size, notes (list of lines for people).

    Raises:
      InputError: as the readers and the renderer.
    """
    picture = None if item.get("picture") is None else read_image(item["picture"])
    rendered, notes = open_conditions(
        item["motion"],
        conditions=item.get("conditions"),
        body=item.get("body"),
        backend=item.get("backend", "jax"),
        image_size=item.get("image_size"),
    )
    if not isinstance(rendered, RenderedMotion):
        raise InputError(f"{item['motion']}: is a folder of maps already; give the motion to draw")
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
