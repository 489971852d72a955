"""Where garments and hair lie on the canonical body: signed fields, positive inside, about meters from the edge."""

import numpy as np

from champ_jax.data.synthetic.identity import Garment, Identity

_EARLOBES = 0.57  # nothing worn on the trunk reaches higher


def top(garment: Garment, points: np.ndarray) -> np.ndarray:
    """A garment of the upper body over canonical points (N, 3)."""
    x, y, z = np.abs(points[:, 0]), points[:, 1], points[:, 2]
    front = np.clip(z / 0.06, 0, 1)
    if garment.kind == "tank":
        neck = 0.42 + 1.1 * np.maximum(x - 0.04, 0) - 0.05 * front - y
        straps = np.maximum(neck, np.minimum(0.035 - np.abs(x - 0.105), _EARLOBES - y))
        return np.minimum.reduce([garment.sleeve - x, y - garment.lower, np.maximum(straps, 0.40 - y)])
    dip = 0.16 * np.clip(1 - x / 0.07, 0, 1) if garment.kind == "shirt" else 0.05 * np.clip(1 - (x / 0.085) ** 2, 0, 1)
    # A neckline is a height, lower in front; beyond the neck everything is covered.
    neck = np.maximum(garment.upper - dip * front - y, np.minimum(x - 0.085, _EARLOBES - y))
    return np.minimum.reduce([garment.sleeve - x, y - garment.lower, neck])


def opening(points: np.ndarray) -> np.ndarray:
    """The strip in front that an open jacket leaves free."""
    x, y, z = np.abs(points[:, 0]), points[:, 1], points[:, 2]
    return np.where(z > 0.02, 0.045 + 0.05 * np.clip(y / 0.5, 0, 1) - x, -1.0)


def bottom(garment: Garment, points: np.ndarray) -> np.ndarray:
    """A garment of the lower body; of skirts and dresses the close part that is worn under the skirt's mesh."""
    y = points[:, 1]
    lower = max(garment.lower, -0.14) if garment.kind in ("skirt", "dress") else garment.lower
    return np.minimum(garment.upper - y, y - lower)


def hair(identity: Identity, points: np.ndarray) -> np.ndarray:
    """The hair on the head's own surface."""
    x, y, z = np.abs(points[:, 0]), points[:, 1], points[:, 2]
    back = np.clip((0.05 - z) / 0.07, 0, 1)
    temple = np.clip((z - 0.045) / 0.07, 0, 1)
    low = {"buzz": 0.62, "short": 0.615, "cap": 0.62, "bun": 0.60, "ponytail": 0.60}.get(identity.hair_style, 0.585)
    if identity.hair_style == "bald":
        return np.full(len(points), -1.0)
    ears = 0.705
    line = (1 - back) * (ears + (0.757 - ears) * temple**1.5) + back * low
    line = line + 0.010 * np.cos(x * 55) * temple
    return y - line


def cap(points: np.ndarray) -> np.ndarray:
    """A cap's crown."""
    return points[:, 1] - (0.735 + 0.12 * (points[:, 2] - 0.1) * 0.5)


def beard(points: np.ndarray) -> np.ndarray:
    """Cheeks, chin and upper lip."""
    x, y, z = np.abs(points[:, 0]), points[:, 1], points[:, 2]
    cheeks = 0.628 + 0.55 * np.maximum(x - 0.03, 0) - y
    moustache = np.minimum(0.638 - y, 0.033 - x)
    return np.minimum.reduce([np.maximum(cheeks, moustache), y - 0.565, z - 0.03])


def smooth(field: np.ndarray, width: float) -> np.ndarray:
    """0 outside, 1 deeper inside than `width`, a smooth rise between."""
    share = np.clip(field / width, 0, 1)
    return share * share * (3 - 2 * share)
