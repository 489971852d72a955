"""Rendering the motion conditions: every map of the open body (13,718 vertices), posing it, its skeleton."""

import dataclasses

import numpy as np

from benchmarks.timing import Row, measure
from champ_jax.body.authored import load_authored
from champ_jax.body.motion import camera_points
from champ_jax.body.smpl import load_body
from champ_jax.conditions.map_renderer import MapRenderer
from champ_jax.conditions.maps import MAPS
from champ_jax.conditions.rendered_motion import render_motion

# Blender's Cycles, which the reference renders with, on two CPU cores at 512 x 512: seconds a frame, the fastest seen.
BLENDER = {512: 0.26}


def run(size: int, frames: int, repeats: int, backend: str) -> list[Row]:
    """Times a frame of `size` x `size`; the person's height is about four fifths of the picture's."""
    body, motion = load_body(), load_authored("wave")
    motion = motion[np.arange(frames) % len(motion)]
    vertices = np.asarray(camera_points(body, motion)[0])
    focal = 0.8 * size * vertices[..., 2].mean() / np.ptp(vertices[..., 1], axis=1).min()
    renderer = MapRenderer(np.asarray(body.faces), np.asarray(body.parts), (size, size), backend=backend)
    skeletons = render_motion(motion, body, image_size=(size, size), conditions=("dwpose",))
    rows = [
        (measure(", ".join(MAPS), lambda: renderer(vertices, focal), repeats=repeats), BLENDER.get(size)),
        (measure("posing, dwpose", lambda: skeletons.read(0, frames), repeats=repeats), None),
    ]
    return [
        dataclasses.replace(
            row,
            seconds=row.seconds / frames,
            fastest=row.fastest / frames,
            slowest=row.slowest / frames,
            per=f"1 frame, {backend}",
            reference_seconds=blender,
        )
        for row, blender in rows
    ]
