"""Light, backdrop and camera of a video. The world has y up, its floor at y = 0, and people around the origin.

The camera looks along its z axis, with x to the right and y down, and does not move during a video.
"""

import dataclasses

import numpy as np

from champ_jax.data.synthetic import palette

SHOTS = ("full", "half", "close")
BACKDROPS = ("studio", "studio", "room", "room", "room", "street", "meadow", "bokeh")
_MARGIN = {"full": 0.90, "half": 0.92, "close": 0.86}  # shares of half the picture


@dataclasses.dataclass(frozen=True)
class Camera:
    """A pinhole camera.

    Attributes:
      rotation: (3, 3) from world directions to camera directions.
      position: (3,) in the world, meters.
      focal: focal length, px.
      image_size: (width, height), px.
    """

    rotation: np.ndarray
    position: np.ndarray
    focal: float
    image_size: tuple[int, int]


@dataclasses.dataclass(frozen=True)
class Light:
    """A distant lamp and ambient light, in linear light.

    Attributes:
      direction: (3,) unit vector from the scene to the lamp, in the world.
      key: (3,) light of the lamp.
      sky: (3,) ambient light from above.
      ground: (3,) ambient light from below.
    """

    direction: np.ndarray
    key: np.ndarray
    sky: np.ndarray
    ground: np.ndarray


def draw_light(rng: np.random.Generator) -> Light:
    """A lamp somewhere above and on the camera's side (the camera stands towards +z), warm to cool."""
    azimuth, height = rng.uniform(-1.2, 1.2), rng.uniform(0.5, 1.15)
    direction = np.array([np.sin(azimuth) * np.cos(height), np.sin(height), np.cos(azimuth) * np.cos(height)])
    warm = rng.uniform(-0.12, 0.16)
    strength = rng.uniform(0.65, 1.05)
    ambient = rng.uniform(0.30, 0.48)
    return Light(
        direction=direction,
        key=strength * np.array([1 + warm, 1, 1 - warm]),
        sky=ambient * np.array([1 - 0.5 * warm, 1, 1 + 0.6 * warm]),
        ground=0.55 * ambient * np.array([1.05, 1, 0.92]),
    )


def draw_camera(
    rng: np.random.Generator, shot: str, joints: np.ndarray, tops: np.ndarray, image_size: tuple[int, int]
) -> Camera:
    """A camera that sees a person for a whole motion.

    Args:
      shot: 'full' (all of the body), 'half' (from the hips up) or 'close' (head and shoulders).
      joints: (T, 24, 3) of the person in the world, meters.
      tops: (T, 3) the crown of the head in the world, meters.
      image_size: (width, height), px.
    """
    yaw = rng.uniform(-0.55, 0.55) if rng.uniform() < 0.88 else rng.uniform(-np.pi, np.pi)
    pitch = rng.uniform(-0.02, 0.16) if shot == "full" else rng.uniform(-0.06, 0.12)
    view = rng.uniform(0.22, 0.55)  # across the picture's longer side, radians
    spare = rng.uniform(1.0, 1.15)
    shift = rng.uniform(-0.5, 0.5, 2)
    forward = np.array([-np.sin(yaw) * np.cos(pitch), -np.sin(pitch), -np.cos(yaw) * np.cos(pitch)])
    right = np.array([np.cos(yaw), 0.0, -np.sin(yaw)])
    rotation = np.stack([right, np.cross(forward, right), forward])
    focal = max(image_size) / 2 / np.tan(view / 2)
    seen = {
        "full": np.concatenate([joints, tops[:, None]], axis=1),
        "half": np.concatenate([joints[:, [1, 2, 3, 9, 16, 17, 18, 19]], tops[:, None]], axis=1),
        "close": np.concatenate([joints[:, [9, 16, 17]], tops[:, None]], axis=1),
    }[shot].reshape(-1, 3)
    points = seen @ rotation.T
    # Joints lie inside of the body: leave room for hands, feet and hair.
    reach = {"full": 0.10, "half": 0.08, "close": 0.07}[shot]
    low, high = points[:, :2].min(axis=0) - reach, points[:, :2].max(axis=0) + reach
    middle = np.array([*(low + high) / 2, np.median(points[:, 2])])
    margins = np.array(image_size) / 2 * _MARGIN[shot]
    away = np.abs(points[:, :2] - middle[:2]) + reach
    distance = (focal * away / margins - (points[:, 2:] - middle[2])).max() * spare
    slack = (1 - 1 / spare) * distance * margins / focal  # the person needs not be in the middle
    middle[:2] += shift * slack
    position = rotation.T @ (middle - [0, 0, distance])
    if position[1] < 0.25:  # not below the floor
        position[1] = 0.25
    return Camera(rotation, position, float(focal), tuple(image_size))


@dataclasses.dataclass(frozen=True)
class Backdrop:
    """The background of a video; `backdrops.paint_backdrop` draws it.

    Attributes:
      kind: one of `BACKDROPS`.
      colors: (6, 3) in linear light; each kind uses some of them.
      numbers: (24,) in 0..1, which choose details; each kind uses some of them.
      wall: distance of the wall behind the origin, seen from the camera, meters.
      yaw: The yaw of the wall, radians.
    """

    kind: str
    colors: np.ndarray
    numbers: np.ndarray
    wall: float
    yaw: float


def draw_backdrop(rng: np.random.Generator, joints: np.ndarray) -> Backdrop:
    """A random backdrop, its wall behind wherever the joints (T, 24, 3) go."""
    tints = np.stack([palette.cloth(rng) for _ in range(6)])
    # Walls and floors are paler than clothes.
    pale = rng.uniform(0.25, 0.85, 6)[:, None]
    gray = rng.uniform(0.12, 0.75, 6)[:, None]
    return Backdrop(
        kind=str(rng.choice(BACKDROPS)),
        colors=tints * (1 - pale) + pale * gray,
        numbers=rng.uniform(0, 1, 24),
        wall=float(np.hypot(joints[..., 0], joints[..., 2]).max() + rng.uniform(0.4, 2.4)),
        yaw=float(rng.normal(0, 0.15)),
    )
