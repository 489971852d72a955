"""From a posed body to the motion conditions: depth, normal and semantic maps, mask, skeleton picture."""

from champ_jax.conditions.render import MapRenderer, render
from champ_jax.conditions.skeleton import coco_to_openpose, draw_skeleton

__all__ = ["MapRenderer", "coco_to_openpose", "draw_skeleton", "render"]
