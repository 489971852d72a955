"""Draws dressed people: the project's rasterizer finds the triangle that each sample sees; this module shades it.

Samples lie on a lattice of half pixels, (2 W + 1) x (2 H + 1), which a tent filter halves to the picture. So edges are
smooth, and the center of every pixel, where the condition maps are sampled, is one of the samples.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from champ_jax.conditions.maps import vertex_normals
from champ_jax.conditions.rasterizer import project, rasterize
from champ_jax.data.synthetic.backdrops import paint_backdrop, rays
from champ_jax.data.synthetic.identity import Identity
from champ_jax.data.synthetic.outfit import Outfit
from champ_jax.data.synthetic.paint import paint
from champ_jax.data.synthetic.scene import Backdrop, Camera, Light

_SHADOW_SIZE = 128
_SHADOW_EXTENT = 2.6  # meters
_SHADOW_BIAS = 0.035
_LAMP_DISTANCE = 20.0
_WRAP = 0.25
_PAIRS_PER_STEP = 1 << 14


class PersonRenderer:
    """Draws one person in one scene.

    Args:
      identity: the person.
      outfit: the person's meshes (`outfit.dress`).
      camera, light, backdrop: the scene.
    """

    def __init__(self, identity: Identity, outfit: Outfit, camera: Camera, light: Light, backdrop: Backdrop):
        self._identity, self._outfit, self._camera, self._light = identity, outfit, camera, light
        self._faces = np.asarray(outfit.model.faces)
        self._valence = jnp.float32(np.bincount(self._faces.ravel()).max())
        width, height = camera.image_size
        self._lattice = 2 * width + 1, 2 * height + 1
        u, v = np.meshgrid(np.arange(self._lattice[0]) / 2, np.arange(self._lattice[1]) / 2)
        self._backdrop, self._floor = paint_backdrop(backdrop, light, camera, u.ravel(), v.ravel())
        self._lamp = _lamp_axes(light.direction)
        self._on_floor = np.flatnonzero(np.isfinite(self._floor) & (self._floor < 40))
        floor = self._floor[self._on_floor, None] * rays(camera, u.ravel()[self._on_floor], v.ravel()[self._on_floor])
        self._floor_points = floor + camera.position  # world
        lit = light.key * max(light.direction[1], 0) + light.sky
        self._shade_of_floor = light.sky * 0.85 / lit

    def draw(self, vertices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Draws a frame.

        Args:
          vertices: (N, 3) of the posed outfit, meters, camera space.

        Returns:
          The picture (H, W, 3) uint8, and (H, W) bool: whether the pixel's center sees the person.
        """
        camera = self._camera
        seen = _see(
            jnp.asarray(vertices, jnp.float32),
            jnp.float32(camera.focal),
            self._outfit.model.faces,
            self._valence,
            jnp.asarray(self._lamp @ camera.rotation.T, jnp.float32),
            self._lattice,
        )
        triangle, normals, middle, lamp_depth = (np.asarray(array) for array in seen)
        color = self._backdrop.copy()
        shadow = _blurred(lamp_depth.reshape(_SHADOW_SIZE, _SHADOW_SIZE) > 0, 3)
        if len(self._on_floor):
            place = self._to_lamp(self._floor_points - camera.position, middle)
            share = _bilinear(shadow, place[:, 0], place[:, 1]) * 0.9
            color[self._on_floor] *= 1 - share[:, None] * (1 - self._shade_of_floor)
        hit = np.flatnonzero(triangle >= 0)
        if len(hit):
            color[hit] = self._shade(vertices, normals, triangle[hit], hit, middle, lamp_depth)
        lattice = color.reshape(self._lattice[1], self._lattice[0], 3)
        return _encode(_tent(lattice)), (triangle >= 0).reshape(self._lattice[::-1])[1::2, 1::2]

    def _to_lamp(self, points: np.ndarray, middle: np.ndarray) -> np.ndarray:
        """World points relative to the camera -> (N, 3) column and row in the shadow map, and depth from the lamp."""
        place = points @ self._lamp.T - middle
        place[:, :2] = _SHADOW_SIZE / 2 + place[:, :2] * (_SHADOW_SIZE / _SHADOW_EXTENT)
        place[:, 2] += _LAMP_DISTANCE
        return place

    def _shade(self, vertices, normals, triangle, hit, middle, lamp_depth) -> np.ndarray:
        identity, light, camera = self._identity, self._light, self._camera
        corner = self._faces[triangle]
        weights = corner_weights(vertices, corner, hit, camera.focal, self._lattice)
        mix = lambda values: np.einsum("nk,nkc->nc", weights, values[corner])  # noqa: E731
        points = mix(vertices)
        normal = mix(normals)
        normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-9)
        view = -points / np.linalg.norm(points, axis=1, keepdims=True)
        normal = np.where(np.sum(normal * view, axis=1, keepdims=True) < -0.1, -normal, normal)
        albedo, gloss = paint(identity, mix(self._outfit.points), self._outfit.pieces[triangle])
        direction = (camera.rotation @ light.direction).astype(np.float32)
        up = (camera.rotation @ np.array([0, 1, 0])).astype(np.float32)
        place = self._to_lamp(points @ camera.rotation, middle)
        visible = _lit(lamp_depth.reshape(_SHADOW_SIZE, _SHADOW_SIZE), place)
        facing = normal @ direction
        diffuse = np.clip((facing + _WRAP) / (1 + _WRAP), 0, 1) * (0.25 + 0.75 * visible)
        open_sky = (0.5 + 0.5 * normal @ up)[:, None]
        ambient = light.ground + open_sky * (light.sky - light.ground)
        # Creases see less of the surroundings; grazing views a little more light, as cloth and skin have.
        rim = 0.10 * (1 - np.clip(np.sum(normal * view, axis=1), 0, 1)) ** 3
        half = view + direction
        half /= np.linalg.norm(half, axis=1, keepdims=True)
        shine = gloss * visible * np.clip(np.sum(normal * half, axis=1), 0, 1) ** 24 * 0.35
        return albedo * (ambient + diffuse[:, None] * light.key + rim[:, None]) + shine[:, None] * light.key


@partial(jax.jit, static_argnames="lattice")
def _see(vertices, focal, faces, valence, lamp, lattice):
    """The triangle seen by each sample, the vertices' normals, the middle of the shadow map and the shadow map."""
    points = project(vertices, jnp.stack([2 * focal, 2 * focal]), lattice)
    seen = rasterize(points, faces, lattice, _PAIRS_PER_STEP).triangle
    normals = vertex_normals(vertices, faces, valence)
    turned = jnp.matmul(vertices, lamp.T, precision="highest")
    middle = (turned.max(axis=0) + turned.min(axis=0)) / 2
    place = turned - middle
    place = jnp.concatenate(
        [_SHADOW_SIZE / 2 + place[:, :2] * (_SHADOW_SIZE / _SHADOW_EXTENT), place[:, 2:] + _LAMP_DISTANCE], axis=1
    )
    depth = rasterize(place, faces, (_SHADOW_SIZE, _SHADOW_SIZE), _PAIRS_PER_STEP).depth
    return seen, normals, middle, depth


def _lamp_axes(direction: np.ndarray) -> np.ndarray:
    """(3, 3) rows: two axes across the light, and the way it travels."""
    right = np.cross(np.array([0, 1, 0]), direction)
    right /= np.linalg.norm(right)
    return np.stack([right, np.cross(direction, right), -direction])


def corner_weights(
    vertices: np.ndarray, corner: np.ndarray, hit: np.ndarray, focal: float, lattice: tuple[int, int]
) -> np.ndarray:
    """Perspective-correct weights of the corners of the triangles that samples see.

    Args:
      vertices: (V, 3) meters, camera space.
      corner: (N, 3) vertices of each sample's triangle.
      hit: (N,) the samples' numbers on a lattice of (width, height) samples, two a pixel.
      focal: focal length, px.
      lattice: (width, height).

    Returns:
      (N, 3) float32, rows that add up to 1.
    """
    points = vertices[corner].astype(np.float64)
    ray = np.stack(
        [
            (hit % lattice[0] + 0.5 - lattice[0] / 2) / (2 * focal),
            (hit // lattice[0] + 0.5 - lattice[1] / 2) / (2 * focal),
        ],
        axis=-1,
    )
    ray = np.concatenate([ray, np.ones((len(hit), 1))], axis=1)
    # Volumes spanned by the ray and two corners are in the ratio of the barycentric coordinates.
    volumes = np.stack(
        [np.sum(ray * np.cross(points[:, (k + 1) % 3], points[:, (k + 2) % 3]), axis=1) for k in range(3)], axis=1
    )
    total = volumes.sum(axis=1, keepdims=True)
    return (volumes / np.where(total == 0, 1, total)).astype(np.float32)


def _lit(depth: np.ndarray, place: np.ndarray) -> np.ndarray:
    """(N,) share of the lamp's light at places in the shadow map, averaged over 3 x 3 texels."""
    column, row = (np.floor(place[:, k]).astype(int) for k in range(2))
    share = np.zeros(len(place), np.float32)
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            texel = depth[np.clip(row + dy, 0, len(depth) - 1), np.clip(column + dx, 0, len(depth) - 1)]
            share += (texel == 0) | (texel > place[:, 2] - _SHADOW_BIAS)
    return share / 9


def _blurred(mask: np.ndarray, radius: int) -> np.ndarray:
    """Box blur, twice, along both axes: soft shadows."""
    image = mask.astype(np.float32)
    for axis in (0, 1, 0, 1):
        total = np.cumsum(np.pad(image, [(radius + 1, radius) if k == axis else (0, 0) for k in (0, 1)]), axis=axis)
        count = image.shape[axis]
        image = (np.take(total, np.arange(count) + 2 * radius + 1, axis) - np.take(total, np.arange(count), axis)) / (
            2 * radius + 1
        )
    return image


def _bilinear(image: np.ndarray, column: np.ndarray, row: np.ndarray) -> np.ndarray:
    """Samples (H, W) at pixel coordinates; 0 outside."""
    padded = np.pad(image, 1)
    x, y = np.clip(column + 0.5, 0, image.shape[1] + 0.999), np.clip(row + 0.5, 0, image.shape[0] + 0.999)
    i, j = x.astype(int), y.astype(int)
    fx, fy = x - i, y - j
    top = padded[j, i] * (1 - fx) + padded[j, i + 1] * fx
    bottom = padded[j + 1, i] * (1 - fx) + padded[j + 1, i + 1] * fx
    return top * (1 - fy) + bottom * fy


def _tent(lattice: np.ndarray) -> np.ndarray:
    """(2 H + 1, 2 W + 1, 3) half-pixel samples -> (H, W, 3), weights 1/4, 1/2, 1/4 along each axis."""
    rows = 0.25 * lattice[:-1:2] + 0.5 * lattice[1::2] + 0.25 * lattice[2::2]
    return 0.25 * rows[:, :-1:2] + 0.5 * rows[:, 1::2] + 0.25 * rows[:, 2::2]


def _encode(color: np.ndarray) -> np.ndarray:
    """Linear light to sRGB bytes; highlights roll off in place of clipping."""
    color = np.clip(color, 0, None)
    color = np.where(color > 0.7, 0.7 + 0.3 * np.tanh((color - 0.7) / 0.3), color)
    srgb = np.where(color <= 0.0031308, color * 12.92, 1.055 * np.maximum(color, 0.0031308) ** (1 / 2.4) - 0.055)
    return np.floor(255 * srgb + 0.5).astype(np.uint8)
