"""A z-buffer rasterizer in JAX: which triangle of a mesh each pixel of a frame sees.

Every shape is static and nothing depends on the device, so that one program serves CPU, GPU and TPU, alone or under
`jax.vmap`. The triangles' bounding boxes are laid out one after the other as one long list of (triangle, pixel) pairs,
which a loop works through in pieces of fixed length: as many pieces as the frame needs, whatever the triangles' sizes.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

NEAR = 0.01
"""Triangles with a corner nearer than this, in meters, are left out."""

PAIRS_PER_STEP = 1 << 16

# A mesh with more pairs than this is drawn in several rounds; counted in floating point, so far from what 32 bits hold.
_MAX_PAIRS = 1 << 29
_NO_TRIANGLE = jnp.iinfo(jnp.int32).max


class Raster(NamedTuple):
    """What each pixel sees: `triangle` (H * W,) int32, -1 for nothing; `depth` (H * W,) planar z, 0 for nothing."""

    triangle: jax.Array
    depth: jax.Array


def project(vertices: jax.Array, focal: jax.Array, image_size: tuple[int, int]) -> jax.Array:
    """Camera-space points (V, 3) to (V, 3) u = W/2 + f_x x/z, v = H/2 + f_y y/z in pixels, and z; `focal` is (2,)."""
    z = vertices[:, 2:]
    # Points behind the camera get harmless coordinates: their triangles are left out.
    slope = vertices[:, :2] / jnp.where(z < NEAR, jnp.inf, z)
    return jnp.concatenate([jnp.array(image_size, z.dtype) / 2 + focal * slope, z], axis=-1)


@partial(jax.jit, static_argnames=("image_size", "pairs_per_step"))
def rasterize(
    points: jax.Array, faces: jax.Array, image_size: tuple[int, int], pairs_per_step: int = PAIRS_PER_STEP
) -> Raster:
    """Finds the nearest triangle at every pixel's center.

    Pixel (i, j) is sampled once, at (i + 0.5, j + 0.5), without anti-aliasing. Triangles of either orientation count.
    Neighbors share no sample and leave none out: an edge is evaluated in one direction whatever triangle asks, and a
    sample on it belongs to one side (as if moved right by less than any distance, then up by less still). Of equally
    near triangles the first wins.

    Args:
      points: (V, 3) float32 u, v in pixels and planar z, as `project` gives them.
      faces: (M, 3) int32.
      image_size: (W, H), at most 2**28 pixels.
      pairs_per_step: how many (triangle, pixel) pairs are tested at a time.
    """
    width, height = image_size
    corners = points[faces]
    boxes = _bounding_boxes(corners, image_size)
    counts = boxes[:, 2] * boxes[:, 3]
    # Everything a pair needs in two rows: six coordinates and three 1/z; box and place in the list.
    shapes = jnp.concatenate([corners[..., 0], corners[..., 1], 1 / corners[..., 2]], axis=-1)
    numbers = jnp.arange(len(faces), dtype=jnp.int32)

    def draw_round(state):
        first, nearest, owner = state
        left = jnp.where(numbers >= first, counts, 0)
        many = jnp.cumsum(left.astype(jnp.float32)) > _MAX_PAIRS
        after = jnp.where(jnp.any(many), jnp.argmax(many), len(faces)).astype(jnp.int32)
        left = jnp.where(numbers < after, left, 0)
        ends = jnp.cumsum(left)
        starts, total = ends - left, ends[-1]
        layout = jnp.concatenate([boxes[:, :3], starts[:, None]], axis=-1)

        def draw_pairs(state):
            base, nearest, owner = state
            pair = base + jnp.arange(pairs_per_step, dtype=jnp.int32)
            triangle = _owners(starts, base, pairs_per_step)
            pixel, inverse_depth = _sample(shapes[triangle], layout[triangle], pair, width)
            pixel = jnp.where((pixel >= 0) & (pair < total), pixel, width * height)
            # 1/z is positive, so its bits are ordered as it is; integers are compared exactly and atomically. The
            # barrier keeps both uses below on the same bits.
            key = jax.lax.bitcast_convert_type(inverse_depth, jnp.int32)
            pixel, key, triangle = jax.lax.optimization_barrier((pixel, key, triangle))
            new_nearest = nearest.at[pixel].max(key, mode="drop")
            owner = jnp.where(new_nearest > nearest, _NO_TRIANGLE, owner)
            wins = new_nearest.at[pixel].get(mode="fill", fill_value=-1) == key
            owner = owner.at[jnp.where(wins, pixel, width * height)].min(triangle, mode="drop")
            return base + pairs_per_step, new_nearest, owner

        _, nearest, owner = jax.lax.while_loop(lambda s: s[0] < total, draw_pairs, (jnp.int32(0), nearest, owner))
        return after, nearest, owner

    empty = (
        jnp.int32(0),
        jnp.zeros(width * height, jnp.int32),
        jnp.full(width * height, _NO_TRIANGLE),
    )
    _, nearest, owner = jax.lax.while_loop(lambda s: s[0] < len(faces), draw_round, empty)
    depth = 1 / jax.lax.bitcast_convert_type(nearest, jnp.float32)
    visible = owner != _NO_TRIANGLE
    return Raster(jnp.where(visible, owner, -1), jnp.where(visible, depth, 0))


def barycentrics(corners: jax.Array, x: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Where sample points lie in their triangles.

    Args:
      corners: (..., 3, 2) u, v of the triangle's corners.
      x, y: (...,) sample points.

    Returns:
      Screen-space weights (..., 3) of the corners (they sum to 1; any sign), whether the point is inside, and whether
      the corners turn clockwise on the screen (y down), which a face seen from its back does.
    """
    areas, sides = [], []
    for a, b in ((1, 2), (2, 0), (0, 1)):
        area, side = _edge(corners[..., a, :], corners[..., b, :], x, y)
        areas.append(area)
        sides.append(side)
    area = areas[0] + areas[1] + areas[2]
    inside = (sides[0] == sides[1]) & (sides[1] == sides[2]) & (area != 0)
    weights = jnp.stack(areas, axis=-1) / jnp.where(area == 0, 1, area)[..., None]
    return weights, inside, area > 0


def _bounding_boxes(corners: jax.Array, image_size: tuple[int, int]) -> jax.Array:
    """The pixels whose centers may lie in each triangle (M, 3, 3): (M, 4) int32 of left, top, width, height."""
    limit = jnp.array(image_size, jnp.float32)
    low = jnp.clip(jnp.ceil(corners[..., :2].min(axis=1) - 0.5), 0, limit).astype(jnp.int32)
    high = jnp.clip(jnp.floor(corners[..., :2].max(axis=1) - 0.5), -1, limit - 1).astype(jnp.int32)
    drawn = jnp.all(corners[..., 2] >= NEAR, axis=-1)
    return jnp.concatenate([low, jnp.where(drawn[:, None], jnp.maximum(high - low + 1, 0), 0)], axis=-1)


def _owners(starts: jax.Array, base: jax.Array, length: int) -> jax.Array:
    """The triangle of each of `length` pairs from `base` on: the last whose pairs start at it or before."""
    place = starts - base
    later = jnp.where((place > 0) & (place < length), place, length)
    marks = jnp.zeros(length, jnp.int32).at[later].add(1, mode="drop")
    return jnp.sum(starts <= base, dtype=jnp.int32) - 1 + jnp.cumsum(marks)


def _sample(shape: jax.Array, layout: jax.Array, pair: jax.Array, width: int) -> tuple[jax.Array, jax.Array]:
    """Tests pairs: the flat pixel number where a pair's pixel lies in its triangle, else -1; and 1/z there."""
    place, box_width = pair - layout[:, 3], jnp.maximum(layout[:, 2], 1)
    row = place // box_width
    x, y = layout[:, 0] + place - row * box_width, layout[:, 1] + row
    corners = jnp.stack([shape[:, 0:3], shape[:, 3:6]], axis=-1)
    weights, inside, _ = barycentrics(corners, x.astype(jnp.float32) + 0.5, y.astype(jnp.float32) + 0.5)
    return jnp.where(inside, y * width + x, -1), jnp.sum(weights * shape[:, 6:9], axis=-1)


def _edge(a: jax.Array, b: jax.Array, x: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Twice the signed area of (a, b, sample), and whether the sample is on its positive side.

    Computed from the upper end to the lower (the left one to the right if level), so that both triangles at an edge
    get the same number but for the sign; and relative to the sample, so that it is exactly 0 at an end of the edge.
    """
    ax, ay, bx, by = a[..., 0], a[..., 1], b[..., 0], b[..., 1]
    swap = (by < ay) | ((by == ay) & (bx < ax))
    x0, y0 = jnp.where(swap, bx, ax), jnp.where(swap, by, ay)
    x1, y1 = jnp.where(swap, ax, bx), jnp.where(swap, ay, by)
    area = (x0 - x) * (y1 - y) - (y0 - y) * (x1 - x)
    return jnp.where(swap, -area, area), (area > 0) ^ swap
