"""From a posed body to the motion conditions: depth, normal and semantic maps, mask, skeleton picture."""

import importlib
from typing import Any

_HOMES = {
    "BACKENDS": "map_renderer",
    "MeshSequence": "mesh_sequence",
    "RENDERED": "rendered_motion",
    "RenderedMotion": "rendered_motion",
    "coco_to_openpose": "skeleton",
    "draw_skeleton": "skeleton",
    "open_conditions": "sources",
    "render": "map_renderer",
    "render_mesh_sequence": "rendered_motion",
    "render_motion": "rendered_motion",
}


def __getattr__(name: str) -> Any:
    """Imports public names when they are used: readers of motion folders and datasets do without JAX."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return [*globals(), *_HOMES]
