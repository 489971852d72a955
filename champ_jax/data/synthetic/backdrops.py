"""Draws backdrops by one ray a sample, which meets a floor, a wall or the sky."""

import numpy as np

from champ_jax.data.synthetic.patterns import noise, step
from champ_jax.data.synthetic.scene import Backdrop, Camera, Light

_FAR = 60.0


def rays(camera: Camera, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """World directions (..., 3) through picture coordinates in px, of unit depth along the camera's z."""
    width, height = camera.image_size
    x, y = (u - width / 2) / camera.focal, (v - height / 2) / camera.focal
    return np.stack([x, y, np.ones_like(x)], axis=-1) @ camera.rotation


def paint_backdrop(
    backdrop: Backdrop, light: Light, camera: Camera, u: np.ndarray, v: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Draws the background of a person.

    Args:
      u, v: (N,) picture coordinates of the samples, px.

    Returns:
      (N, 3) linear light and (N,) where the ray meets the floor: depth along the camera's z, inf where it does not.
    """
    color = 0.0
    offsets = (np.arange(4) + 0.5) / 8 - 0.25  # anti-aliased by 4 x 4 samples over half a pixel
    for du in offsets[::2]:
        for dv in offsets[1::2]:
            color = color + _sample(backdrop, light, camera, u + du, v + dv)[0] / 4
    return color, _sample(backdrop, light, camera, u, v)[1]


def _sample(backdrop: Backdrop, light: Light, camera: Camera, u: np.ndarray, v: np.ndarray):
    direction = rays(camera, u, v)
    down = direction[:, 1]
    floor = np.where(down < -1e-6, -camera.position[1] / np.minimum(down, -1e-6), np.inf)
    # A wall behind the person, as the camera sees it.
    facing = np.array([camera.rotation[2, 0], 0, camera.rotation[2, 2]])
    facing /= np.linalg.norm(facing)
    c, s = np.cos(backdrop.yaw), np.sin(backdrop.yaw)
    normal = np.array([c * facing[0] + s * facing[2], 0, -s * facing[0] + c * facing[2]])
    toward = direction @ normal
    wall = (backdrop.wall - camera.position @ normal) / np.where(toward > 1e-6, toward, np.nan)
    wall = np.nan_to_num(wall, nan=np.inf)
    side = np.array([-normal[2], 0, normal[0]])
    number, tint = backdrop.numbers, backdrop.colors
    height = 0.5 + 0.5 * v / camera.image_size[1]

    if backdrop.kind == "bokeh":
        color = _bokeh(backdrop, u / camera.image_size[0], v / camera.image_size[1])
        return color, np.full(len(u), np.inf)
    outdoors = backdrop.kind in ("street", "meadow")
    if outdoors:
        wall = np.full_like(wall, _FAR)
    ground = floor < wall
    depth = np.where(ground, floor, wall)
    depth = np.where(np.isfinite(depth), depth, _FAR)
    points = camera.position + depth[:, None] * direction
    across = points @ side
    color = np.empty((len(u), 3))
    lit = light.key * max(light.direction[1], 0) + light.sky
    color[ground] = _floor(backdrop, across[ground], (points @ normal)[ground]) * lit
    if outdoors:
        color[~ground] = _horizon(backdrop, direction[~ground], across[~ground], camera)
        haze = np.clip(depth / _FAR, 0, 1)[ground, None] ** 0.7
        color[ground] += 0.6 * haze * (0.55 - color[ground])
    else:
        lit = light.key * max(-normal @ light.direction, 0.12) + 0.8 * light.sky
        color[~ground] = _wall(backdrop, across[~ground], points[~ground, 1]) * lit
        if backdrop.kind == "studio":  # paper that bends from floor to wall
            bend = np.clip(np.abs(np.where(ground, backdrop.wall - points @ normal, points[:, 1])) / 0.9, 0, 1)
            mean = 0.5 * (tint[0] * lit + tint[0] * (light.key * light.direction[1] + light.sky))
            color = mean + bend[:, None] ** 0.8 * (color - mean)
        else:
            corner = np.where(ground, backdrop.wall - points @ normal, points[:, 1])
            color *= 1 - 0.35 * np.exp(-np.clip(corner, 0, None) / 0.12)[:, None]
    middle = np.hypot(u / camera.image_size[0] - 0.5, v / camera.image_size[1] - 0.5)
    color = color * (1 - (0.15 + 0.25 * number[0]) * middle**2)[:, None] * (1.06 - 0.08 * height)[:, None]
    return color, np.where(ground, floor, np.inf)


def _floor(backdrop: Backdrop, x: np.ndarray, z: np.ndarray) -> np.ndarray:
    number, tint = backdrop.numbers, backdrop.colors
    points = np.stack([x, np.zeros_like(x), z], axis=-1)
    grain = noise(points, 0.7, 6 * number[1])[:, None]
    if backdrop.kind == "studio":
        return np.broadcast_to(tint[0], points.shape)
    if backdrop.kind == "meadow":
        fresh, dry, sand = np.array([(0.09, 0.22, 0.05), (0.30, 0.27, 0.10), (0.55, 0.45, 0.30)])
        ground = fresh + number[2] * (dry - fresh) if number[6] < 0.7 else sand * (0.7 + 0.5 * number[2])
        return ground * (1 + 0.25 * grain + 0.12 * noise(points, 0.19, 1 + number[3])[:, None])
    if backdrop.kind == "street":
        size = 0.5 + 0.6 * number[2]
        edge = np.minimum(np.abs((x / size) % 1 - 0.5), np.abs((z / size) % 1 - 0.5)) * size
        stone = 0.22 + 0.25 * number[3] + 0.04 * grain
        return stone * (1 - 0.4 * step(0.012 - edge, 0.01))[:, None] * np.array([1.0, 0.98, 0.94])
    if number[4] < 0.4:  # planks
        width = 0.12 + 0.1 * number[5]
        plank = np.floor(x / width)
        shade = 0.85 + 0.3 * ((np.sin(plank * 12.9898) * 43758.5453) % 1)
        gap = step(0.004 - np.abs((x / width) % 1 - 0.5) * width, 0.006)
        wood = np.array([0.34, 0.20, 0.10]) * (0.6 + 0.9 * number[6])
        return wood * (shade * (1 - 0.5 * gap))[:, None] * (1 + 0.06 * grain)
    if number[4] < 0.75:  # tiles
        size = 0.25 + 0.35 * number[5]
        odd = (np.floor(x / size) + np.floor(z / size)) % 2 * (1.0 if number[6] < 0.6 else 0.0)
        color = tint[1] + odd[:, None] * (tint[2] - tint[1])
        edge = (0.5 - np.maximum(np.abs((x / size) % 1 - 0.5), np.abs((z / size) % 1 - 0.5))) * size
        return color * (1 - 0.35 * step(0.008 - edge, 0.008))[:, None]
    return tint[1] * (1 + 0.08 * grain + 0.05 * noise(points, 0.06, 2.0)[:, None])  # carpet


def _wall(backdrop: Backdrop, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    number, tint = backdrop.numbers, backdrop.colors
    color = np.broadcast_to(tint[0], (len(x), 3)).copy()
    if backdrop.kind == "studio":
        return color
    if number[7] < 0.25:  # striped paper
        color += step(np.abs((x / (0.2 + 0.3 * number[8])) % 1 - 0.5) - 0.25, 0.05)[:, None] * 0.35 * (tint[3] - color)
    elif number[7] < 0.45:  # bricks
        row = np.floor(y / 0.12)
        edge = np.minimum(0.06 - np.abs(y - 0.12 * row - 0.06), 0.15 - np.abs((x + 0.15 * (row % 2)) % 0.3 - 0.15))
        tone = 0.85 + 0.3 * ((np.sin(row * 3.1 + np.floor((x + 0.15 * (row % 2)) / 0.3) * 7.7) * 4375.85) % 1)
        color = color * tone[:, None]
        color += step(0.008 - edge, 0.008)[:, None] * (0.5 * (0.6 + color) - color)
    elif number[7] < 0.65:  # dado
        color += step(0.95 + 0.3 * number[8] - y, 0.02)[:, None] * (tint[3] - color)
    for k in range(3):  # pictures, a window, a door
        if number[9 + k] < 0.45:
            continue
        center = (k - 1) * 1.1 + (number[12 + k] - 0.5)
        middle, half = 1.55 + 0.3 * (number[15 + k] - 0.5), np.array([0.25 + 0.3 * number[18 + k], 0.3])
        if k == 1 and number[21] < 0.5:
            middle, half = 1.0, np.array([0.45, 1.0])  # a door
        dx, dy = half[0] - np.abs(x - center), half[1] - np.abs(y - middle)
        inside = np.minimum(dx, dy)
        frame, pane = step(inside, 0.01)[:, None], step(inside - 0.05, 0.01)[:, None]
        color = color + frame * (tint[4] - color)
        if middle > 1.0:
            view = tint[5] + (0.5 + 0.5 * np.sin(7 * (y - middle) + 5 * (x - center) + 6 * number[22]))[:, None] * 0.3
        else:
            view = tint[4] * 0.8
        color = color + pane * (view - color)
    color += step(0.09 - y, 0.01)[:, None] * (np.clip(tint[4] + 0.2, 0, 0.9) - color)  # skirting board
    return color


def _horizon(backdrop: Backdrop, direction: np.ndarray, across: np.ndarray, camera: Camera) -> np.ndarray:
    """Sky above houses or trees, out of focus."""
    number = backdrop.numbers
    up = direction[:, 1] / np.linalg.norm(direction, axis=1)
    sky = np.array([0.42, 0.60, 0.86]) * (0.7 + 0.5 * number[2])
    pale = np.array([0.80, 0.84, 0.86])
    color = pale + np.clip(up / 0.45, 0, 1)[:, None] * (sky - pale)
    angle = across / _FAR
    if backdrop.kind == "meadow":
        crown = 0.10 + 0.05 * np.sin(9 * angle + 6 * number[3]) + 0.03 * np.sin(23 * angle + 6 * number[4])
        crown = (0.5 + number[7]) * crown
        tree = (np.array([0.07, 0.14, 0.05]) if number[8] < 0.6 else 0.5 * backdrop.colors[0]) * (0.7 + 0.8 * number[5])
        shade = 1 + 0.25 * np.sin(31 * angle + 40 * up) * np.sin(17 * angle - 50 * up)
        return color + step(crown - up, 0.05)[:, None] * (tree * shade[:, None] - color)
    block = np.floor(angle / 0.22 + number[3])
    roof = 0.12 + 0.22 * ((np.sin(block * 12.9898 + number[4]) * 43758.5453) % 1)
    tone = ((np.sin(block * 78.233 + number[5]) * 12543.21) % 1)[:, None]
    house = backdrop.colors[0] + tone * (backdrop.colors[1] - backdrop.colors[0])
    rows = np.minimum(np.abs((up / 0.045) % 1 - 0.5), np.abs((angle / 0.05) % 1 - 0.5))
    house = house * (1 - 0.35 * step(rows - 0.2, 0.3))[:, None] * 0.8
    return color + step(roof - up, 0.03)[:, None] * (house - color)


def _bokeh(backdrop: Backdrop, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Soft discs over a gradient: everything behind is far out of focus."""
    number, tint = backdrop.numbers, backdrop.colors
    color = 0.6 * (tint[0] + (0.2 + 0.8 * v)[:, None] * (tint[1] - tint[0]))
    for k in range(8):
        x, y, radius = number[k], number[k + 8], 0.08 + 0.22 * number[k + 16]
        share = 0.45 * step(radius - np.hypot(u - x, v - y), 0.5 * radius)
        color = color + share[:, None] * (tint[2 + k % 4] - color)
    return color
