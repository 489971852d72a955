"""The color of every point of a dressed person: skin, face, hair and cloth as functions of canonical coordinates."""

import numpy as np

from champ_jax.data.synthetic import regions
from champ_jax.data.synthetic.anatomy import BODY, EYE, MOUTH
from champ_jax.data.synthetic.identity import Garment, Identity
from champ_jax.data.synthetic.outfit import BRIM, KNOT, LOCKS, SKIRT
from champ_jax.data.synthetic.patterns import LOGOS, PATTERNS, noise, step

_EYES = np.array([0.0302, 0.6885])  # the middle of the left iris on the canonical head, (x, y)
_LOGO_HEIGHT = 0.31
_SOFT = 0.004  # meters over which one cloth ends and the next begins
_FRONT = 0.022  # canonical z between front and back


def paint(identity: Identity, points: np.ndarray, pieces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Colors of points of a dressed person.

    Args:
      points: (N, 3) canonical coordinates.
      pieces: (N,) the piece that each point is on.

    Returns:
      (N, 3) albedo in linear light and (N,) gloss, 0 for cloth to 1 for eyes.
    """
    color = np.empty((len(points), 3), np.float32)
    gloss = np.zeros(len(points), np.float32)
    body = pieces == BODY
    color[body], gloss[body] = _body(identity, points[body])
    eye = pieces == EYE
    color[eye], gloss[eye] = _eye(identity, points[eye]), 1.0
    color[pieces == MOUTH] = identity.lips * 0.4
    skirt = pieces == SKIRT
    if skirt.any():
        color[skirt] = _skirt(identity, points[skirt])
    hair = (pieces == LOCKS) | (pieces == KNOT)
    if hair.any():
        color[hair], gloss[hair] = _hair_color(identity, points[hair]), 0.35
    color[pieces == BRIM] = identity.top.accent
    return color, gloss


def _body(identity: Identity, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    color, gloss = _skin(identity, points), np.full(len(points), 0.25, np.float32)

    def cover(field, shade, shine=0.0):
        share = np.clip(field / _SOFT + 0.5, 0, 1).astype(np.float32)
        color[:] += share[:, None] * (shade - color)
        gloss[:] += share * (shine - gloss)

    y = points[:, 1]
    head = y > 0.5
    top, bottom = identity.top, identity.bottom
    cover(identity.sock_height - y, identity.socks)
    cover(regions.bottom(bottom, points), _cloth(identity, bottom, points))
    upper = regions.top(top, points)
    cover(upper, _cloth(identity, top, points))
    if top.kind == "jacket":
        inner = np.minimum(upper, regions.opening(points))
        cover(np.minimum(inner, 0.49 - y), top.accent)
        cover(np.minimum(inner, y - 0.49), identity.skin)
    cover(identity.shoe_height - y, identity.shoes, 0.15)
    cover(-0.902 - y, identity.sole, 0.1)
    if head.any():
        hair = np.full(len(points), -1.0)
        hair[head] = regions.hair(identity, points[head])
        # An ear sticks out of the hair unless that is long.
        if identity.hair_style in ("buzz", "short", "cap", "bun", "ponytail"):
            hair = np.where(np.abs(points[:, 0]) > 0.083, -1.0, hair)
        density = 0.75 if identity.hair_style == "buzz" else 1.0
        cover(hair, _hair_color(identity, points) * density + (1 - density) * color, 0.35)
        if identity.hair_style == "cap":
            crown = np.where(head, regions.cap(points), -1.0)
            cover(crown, top.accent)
            cover(np.minimum(crown, 0.012 - np.abs(crown - 0.006)), top.accent * 0.6)
    return color, gloss


def _skin(identity: Identity, points: np.ndarray) -> np.ndarray:
    x, y, z = np.abs(points[:, 0]), points[:, 1], points[:, 2]
    color = np.broadcast_to(identity.skin, points.shape) * (1 + 0.03 * noise(points, 0.12, identity.phase))[:, None]
    color = color.astype(np.float32)

    def blend(share, shade):
        color[:] += np.clip(share, 0, 1)[:, None].astype(np.float32) * (shade - color)

    hands = step(x - 0.70, 0.05)
    blend(0.25 * hands, identity.skin * np.array([1.0, 0.8, 0.75]))
    face = (z > 0.03) & (y > 0.56)
    cheeks = np.exp(-((x - 0.045) ** 2 + (y - 0.645) ** 2) / 0.018**2) * face
    blend(0.35 * cheeks, identity.skin * np.array([1.0, 0.68, 0.64]))
    # Shade in the eye sockets and beside the nose gives a face its shape at any size.
    sockets = np.exp(-(((x - 0.030) / 0.024) ** 2 + ((y - 0.693) / 0.014) ** 2)) * face
    blend(0.35 * sockets, identity.skin * 0.55)
    nostrils = np.exp(-(((x - 0.009) / 0.005) ** 2 + ((y - 0.6425) / 0.003) ** 2)) * face
    blend(0.7 * nostrils, identity.skin * 0.25)
    if identity.beard:
        stubble = regions.beard(points)
        blend(identity.beard * regions.smooth(stubble, 0.012), identity.hair * 0.9)
    # Upper lip with its bow, lower lip, the dark line between.
    mouth = 0.616
    upper = np.minimum(y - mouth, 0.0075 * (1 - (x / 0.025) ** 2) + 0.002 * np.cos(x * 330) - (y - mouth))
    lower = np.minimum(mouth - y, 0.011 * (1 - (x / 0.022) ** 2) - (mouth - y))
    lips = np.maximum(upper, lower)
    blend(step(np.where(face, lips, -1), 0.004), identity.lips)
    line = 0.0016 - np.abs(y - mouth - 0.002 * (x / 0.025) ** 2)
    blend(0.8 * step(np.where(face, np.minimum(line, 0.024 - x), -1), 0.002), identity.lips * 0.3)
    brow_y = 0.704 + 0.004 * np.cos((x - 0.034) * 80) - 0.25 * np.maximum(x - 0.045, 0)
    brow = np.minimum(0.0042 * (1.25 - x / 0.06) - np.abs(y - brow_y), np.minimum(x - 0.011, 0.054 - x))
    blend(0.9 * step(np.where(face, brow, -1), 0.004), identity.hair * 0.6)
    # Lashes: a dark rim about the eyes.
    rim = np.hypot((x - _EYES[0]) / 0.0185, (y - _EYES[1]) / 0.0085)
    blend(0.75 * (1 - step(np.abs(rim - 0.95) - 0.14, 0.2)) * (y > _EYES[1] - 0.002) * face, identity.hair * 0.3)
    return color


def _eye(identity: Identity, points: np.ndarray) -> np.ndarray:
    distance = np.hypot(np.abs(points[:, 0]) - _EYES[0], points[:, 1] - _EYES[1])
    distance = np.where(points[:, 2] > 0.105, distance, 1.0)
    white = np.array([0.80, 0.78, 0.76], np.float32)
    iris = step(0.0072 - distance, 0.001)[:, None]
    pupil = step(0.0034 - distance, 0.001)[:, None]
    color = white + iris * (identity.eyes - white)
    return color + pupil * (0.01 - color)


def _hair_color(identity: Identity, points: np.ndarray) -> np.ndarray:
    x, y, z = points.T
    angle = np.arctan2(x, 0.03 - z)
    strands = 0.14 * np.sin(46 * angle + 3 * np.sin(25 * y)) + 0.10 * np.sin(91 * angle + 31 * y)
    if identity.hair_style == "afro":
        strands = 0.2 * np.sin(260 * x) * np.sin(240 * y) * np.sin(250 * z)
    return (identity.hair * (1 + strands)[:, None]).astype(np.float32)


def _cloth(identity: Identity, garment: Garment, points: np.ndarray) -> np.ndarray:
    x, y, z = points.T
    wide = np.abs(x)
    arm = (wide > 0.185) & (y > 0.3)
    along, across = np.where(arm, wide, y), np.where(arm, y + z, np.where(z > _FRONT, x, x + 0.037))
    second = PATTERNS[garment.pattern](along, across, garment.period)
    front = step(z - _FRONT, 0.01)[:, None]
    base = garment.back_color + np.where(arm[:, None], 1.0, front) * (garment.color - garment.back_color)
    color = base + second[:, None] * (garment.second - base)

    def mark(share, shade):
        color[:] += np.clip(share, 0, 1)[:, None] * (shade - color)

    above = y - _LOGO_HEIGHT
    trunk = ~arm & (y > 0)
    if garment.logo in LOGOS:
        mark(LOGOS[garment.logo](x, above, garment.logo_radius) * trunk * front[:, 0], garment.accent)
    if garment.back:
        mark(LOGOS[garment.back](x, above, 1.2 * garment.logo_radius) * trunk * (1 - front[:, 0]), garment.accent)
    if garment.logo == "stripe":  # down the outside of the legs
        outside = np.minimum(0.016 - np.abs(z + 0.01), wide - 0.13)
        mark(step(outside, 0.006), garment.accent)
    if garment.kind in ("jacket", "shirt"):
        edge = regions.opening(points) if garment.kind == "jacket" else np.where(z > _FRONT, -wide, -1.0)
        mark(0.8 * step(0.006 - np.abs(edge), 0.004) * trunk, garment.color * 0.35)
    if garment.kind == "shirt":
        collar = np.minimum(y - (garment.upper - 0.05) + 0.3 * np.minimum(z, 0), 0.10 - wide)
        mark(step(collar, 0.006), garment.accent)
    if garment.kind == "hoodie":
        pocket = np.minimum.reduce([0.02 - np.abs(y - 0.08), 0.11 - wide, z - _FRONT])
        mark(0.5 * step(0.004 - np.abs(pocket), 0.004), garment.color * 0.4)
    if garment.kind in ("trousers", "jeans", "shorts"):
        mark(step(0.012 - np.abs(y - garment.upper + 0.014), 0.005), garment.accent * 0.5)  # a belt
        seam = np.minimum(0.004 - np.abs(z + 0.01), wide - 0.10)
        mark(0.4 * step(seam, 0.004), garment.color * 0.5)
    hem = np.minimum(np.where(arm, garment.sleeve - wide, y - garment.lower), 1.0)
    if garment.sleeve > 0:
        mark(0.35 * step(0.010 - hem, 0.004), garment.color * 0.45)
    folds = 1 + 0.07 * noise(points, 0.22, identity.phase) + 0.04 * noise(points, 0.09, 2 + identity.phase)
    return (color * folds[:, None]).astype(np.float32)


def _skirt(identity: Identity, points: np.ndarray) -> np.ndarray:
    garment = identity.bottom
    x, y, z = points.T
    angle = np.arctan2(x, z)
    second = PATTERNS[garment.pattern](y, 0.2 * angle, garment.period)
    color = garment.color + second[:, None] * (garment.second - garment.color)
    pleats = 1 + 0.10 * np.sin(24 * angle + identity.phase) * np.clip((garment.upper - y) / 0.3, 0, 1)
    if garment.logo == "stripe":
        share = step(0.02 - np.abs(y - garment.lower - 0.05), 0.006)[:, None]
        color = color + share * (garment.accent - color)
    return (color * pleats[:, None]).astype(np.float32)
