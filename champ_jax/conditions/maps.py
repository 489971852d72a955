"""The depth, normal and semantic maps and the mask of one frame, by the formulas Champ's weights were trained on.

The training maps came from Blender Cycles (one sample, camera axes x right, y down, z forward); its ordered dither
adds 0.42 levels on average to the two color maps, which `_COLOR_OFFSET` keeps.
"""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from champ_jax.conditions.colors import PART_COLORS
from champ_jax.conditions.rasterizer import Raster, barycentrics, project, rasterize

MAPS = ("depth", "normal", "semantic_map", "mask")

PIXELS_PER_STEP = 1 << 14

_COLOR_OFFSET = 0.42


def srgb_to_linear(color: np.ndarray) -> np.ndarray:
    """sRGB in 0..1 to linear light (IEC 61966-2-1)."""
    return np.where(color <= 0.04045, color / 12.92, ((color + 0.055) / 1.055) ** 2.4)


def linear_to_srgb(color: jax.Array) -> jax.Array:
    """Linear light in 0..1 to sRGB (IEC 61966-2-1)."""
    return jnp.where(color <= 0.0031308, color * 12.92, 1.055 * jnp.maximum(color, 0.0031308) ** (1 / 2.4) - 0.055)


LINEAR_PART_COLORS = srgb_to_linear(PART_COLORS / 255).astype(np.float32)


def vertex_normals(vertices: jax.Array, faces: jax.Array, valence: jax.Array) -> jax.Array:
    """Unit normals (V, 3): the sum of the faces' unit normals, each weighted by its angle at the vertex.

    Summed in fixed point, which no order of additions changes: the maps are the same bytes on every run of a GPU too.

    Args:
      vertices: (V, 3).
      faces: (M, 3) int32.
      valence: () how many corners of faces the vertex of most faces has; bounds the sums.
    """
    corners = vertices[faces]
    ahead, behind = jnp.roll(corners, -1, axis=1) - corners, jnp.roll(corners, 1, axis=1) - corners
    crosses = jnp.cross(ahead, behind)
    lengths = jnp.linalg.norm(crosses, axis=-1)
    angles = jnp.arctan2(lengths, jnp.sum(ahead * behind, axis=-1))
    normals = crosses[:, 0] / jnp.maximum(lengths[:, :1], jnp.finfo(jnp.float32).tiny)
    scale = (1 << 30) / (math.pi * valence)
    weighted = jnp.rint(normals[:, None] * (angles * scale)[..., None]).astype(jnp.int32)
    sums = jnp.zeros(vertices.shape, jnp.int32).at[faces].add(weighted)
    return _normalize(sums / scale)


@partial(jax.jit, static_argnames=("image_size", "maps"))
def draw_maps(
    vertices: jax.Array,
    focal: jax.Array,
    faces: jax.Array,
    colors: jax.Array,
    valence: jax.Array,
    image_size: tuple[int, int],
    maps: tuple[str, ...] = MAPS,
) -> dict[str, jax.Array]:
    """Draws the maps of a batch of frames of one mesh.

    Args:
      vertices: (B, V, 3) float32 meters, camera space.
      focal: (B, 2) px, along x and y.
      faces: (M, 3) int32.
      colors: (V, 3) part colors in linear light.
      valence: see `vertex_normals`.
      image_size: (W, H).
      maps: which of `MAPS` to draw.

    Returns:
      For each map uint8 (B, H, W, 3), or (B, H, W) for 'depth' and 'mask'; 0 where there is no body.
    """

    def draw(frame_vertices, frame_focal):
        raster = rasterize(project(frame_vertices, frame_focal, image_size), faces, image_size)
        return shade(raster, frame_vertices, frame_focal, faces, colors, valence, image_size, maps)

    if len(vertices) == 1:  # XLA's CPU backend is slower at a batch of one than at none
        return jax.tree.map(lambda image: image[None], draw(vertices[0], focal[0]))
    return jax.vmap(draw)(vertices, focal)


@partial(jax.jit, static_argnames=("image_size", "maps"))
def shade(
    raster: Raster,
    vertices: jax.Array,
    focal: jax.Array,
    faces: jax.Array,
    colors: jax.Array,
    valence: jax.Array,
    image_size: tuple[int, int],
    maps: tuple[str, ...],
) -> dict[str, jax.Array]:
    """The maps of one frame from what each pixel sees; arguments and result as `draw_maps`, without the batch."""
    width, height = image_size
    visible = raster.triangle >= 0
    drawn = {}
    if "mask" in maps:
        drawn["mask"] = jnp.where(visible, jnp.uint8(255), jnp.uint8(0))
    if "depth" in maps:
        drawn["depth"] = _depth_map(raster.depth, visible)
    if "normal" in maps or "semantic_map" in maps:
        points = project(vertices, focal, image_size)
        normals = vertex_normals(vertices, faces, valence) if "normal" in maps else None
        drawn |= _color_maps(raster, points, faces, normals, colors if "semantic_map" in maps else None, width)
    return {name: image.reshape(height, width, *image.shape[1:]) for name, image in drawn.items()}


def _depth_map(depth: jax.Array, visible: jax.Array) -> jax.Array:
    """Planar z as bytes: 255 at the frame's nearest visible pixel, 0 at its farthest."""
    near = jnp.min(depth, where=visible, initial=jnp.inf)
    far = jnp.max(depth, where=visible, initial=-jnp.inf)
    closeness = 1 - (depth - near) / jnp.where(far > near, far - near, 1)
    return jnp.where(visible, jnp.floor(255 * closeness + 0.5), 0).astype(jnp.uint8)


def _color_maps(
    raster: Raster,
    points: jax.Array,
    faces: jax.Array,
    normals: jax.Array | None,
    colors: jax.Array | None,
    width: int,
) -> dict[str, jax.Array]:
    """The normal and the semantic map, interpolated at the visible pixels alone, in pieces of a fixed length."""
    pixels = len(raster.triangle)
    visible = raster.triangle >= 0
    rank = jnp.cumsum(visible, dtype=jnp.int32)
    seen = jnp.full(pixels + PIXELS_PER_STEP, pixels, jnp.int32)  # the visible pixels, then `pixels` for none
    seen = seen.at[jnp.where(visible, rank - 1, len(seen))].set(jnp.arange(pixels, dtype=jnp.int32), mode="drop")
    screen = jnp.concatenate([points[:, :2], 1 / points[:, 2:]], axis=-1)

    def shade_pixels(state):
        start, images = state
        pixel = jax.lax.dynamic_slice(seen, (start,), (PIXELS_PER_STEP,))
        corner = faces[raster.triangle.at[pixel].get(mode="clip")]
        shape = screen[corner]
        x, y = (pixel % width).astype(jnp.float32) + 0.5, (pixel // width).astype(jnp.float32) + 0.5
        weights, _, back = barycentrics(shape[..., :2], x, y)
        weights = weights * shape[..., 2]  # perspective-correct
        weights = weights / jnp.sum(weights, axis=-1, keepdims=True)
        images = dict(images)
        if normals is not None:
            normal = _normalize(jnp.sum(weights[..., None] * normals[corner], axis=-2))
            normal = jnp.where(back[:, None], -normal, normal)
            color = (1 + normal * jnp.array([1, -1, -1], jnp.float32)) / 2
            images["normal"] = images["normal"].at[pixel].set(_bytes(color), mode="drop")
        if colors is not None:
            color = linear_to_srgb(jnp.sum(weights[..., None] * colors[corner], axis=-2))
            images["semantic_map"] = images["semantic_map"].at[pixel].set(_bytes(color), mode="drop")
        return start + PIXELS_PER_STEP, images

    names = [name for name, wanted in (("normal", normals), ("semantic_map", colors)) if wanted is not None]
    images = {name: jnp.zeros((pixels, 3), jnp.uint8) for name in names}
    _, images = jax.lax.while_loop(lambda s: s[0] < rank[-1], shade_pixels, (jnp.int32(0), images))
    return images


def _normalize(vectors: jax.Array) -> jax.Array:
    lengths = jnp.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / jnp.maximum(lengths, jnp.finfo(jnp.float32).tiny)


def _bytes(color: jax.Array) -> jax.Array:
    return jnp.clip(jnp.floor(255 * color + (_COLOR_OFFSET + 0.5)), 0, 255).astype(jnp.uint8)
