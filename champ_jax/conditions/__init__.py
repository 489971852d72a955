"""From a posed body to the motion conditions: depth, normal and semantic maps, mask, skeleton picture."""

from champ_jax.conditions.mesh_sequence import MeshSequence
from champ_jax.conditions.render import BACKENDS, render
from champ_jax.conditions.rendered_motion import RENDERED, RenderedMotion, render_mesh_sequence, render_motion
from champ_jax.conditions.skeleton import coco_to_openpose, draw_skeleton

__all__ = [
    "BACKENDS",
    "RENDERED",
    "MeshSequence",
    "RenderedMotion",
    "coco_to_openpose",
    "draw_skeleton",
    "render",
    "render_mesh_sequence",
    "render_motion",
]
