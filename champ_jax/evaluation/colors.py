"""Colors of garments: CIELAB, CIEDE2000, and the mean color of each labeled region of a frame."""

from collections.abc import Mapping

import numpy as np
from scipy import ndimage

from champ_jax.evaluation.regions import Values

SMALLEST_REGION = 16  # pixels; smaller ones say little
_EDGE = 1  # px of a region's border that are left out: there its color mixes with its neighbor's

_TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)  # IEC 61966-2-1
_WHITE = _TO_XYZ.sum(1)  # D65


def to_lab(colors: np.ndarray) -> np.ndarray:
    """sRGB (..., 3) in 0..255 -> CIELAB of D65 (CIE 15), float64."""
    srgb = np.asarray(colors, np.float64) / 255
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((np.maximum(srgb, 0.04045) + 0.055) / 1.055) ** 2.4)
    share = linear @ _TO_XYZ.T / _WHITE
    bent = np.where(share > (6 / 29) ** 3, np.cbrt(share), share / (3 * (6 / 29) ** 2) + 4 / 29)
    x, y, z = np.moveaxis(bent, -1, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


def difference(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """The CIEDE2000 difference of CIELAB colors (..., 3); 1 is about the least that is seen (Sharma et al. 2005)."""
    (l1, a1, b1), (l2, a2, b2) = (np.moveaxis(np.asarray(lab, np.float64), -1, 0) for lab in (one, other))
    chroma = (np.hypot(a1, b1) + np.hypot(a2, b2)) / 2
    gray = 0.5 * (1 - np.sqrt(chroma**7 / (chroma**7 + 25.0**7)))
    a1, a2 = (1 + gray) * a1, (1 + gray) * a2
    c1, c2 = np.hypot(a1, b1), np.hypot(a2, b2)
    h1, h2 = (np.degrees(np.arctan2(b, a)) % 360 for b, a in ((b1, a1), (b2, a2)))
    colored = c1 * c2 > 0
    turn = np.where(colored, (h2 - h1 + 180) % 360 - 180, 0.0)
    # Opposite hues: the paper turns 180 degrees forward from the smaller and backward from the larger.
    turn = np.where(colored & (np.abs(h2 - h1) == 180), h2 - h1, turn)
    hue = np.where(np.abs(h1 - h2) <= 180, (h1 + h2) / 2, (h1 + h2 + np.where(h1 + h2 < 360, 360, -360)) / 2)
    hue = np.where(colored, hue, h1 + h2)
    light, chroma = (l1 + l2) / 2, (c1 + c2) / 2
    cosines = (-0.17, 1, -30), (0.24, 2, 0), (0.32, 3, 6), (-0.20, 4, -63)
    weight = 1 + sum(factor * np.cos(np.radians(times * hue + phase)) for factor, times, phase in cosines)
    s_light = 1 + 0.015 * (light - 50) ** 2 / np.sqrt(20 + (light - 50) ** 2)
    s_chroma, s_hue = 1 + 0.045 * chroma, 1 + 0.015 * chroma * weight
    rotation = -np.sin(np.radians(60 * np.exp(-(((hue - 275) / 25) ** 2))))
    rotation = rotation * 2 * np.sqrt(chroma**7 / (chroma**7 + 25.0**7))
    d_light, d_chroma = (l2 - l1) / s_light, (c2 - c1) / s_chroma
    d_hue = 2 * np.sqrt(c1 * c2) * np.sin(np.radians(turn) / 2) / s_hue
    square = d_light**2 + d_chroma**2 + d_hue**2 + rotation * d_chroma * d_hue
    return np.sqrt(np.maximum(square, 0))


def measure_colors(
    truth: np.ndarray, result: np.ndarray, labels: np.ndarray, names: Mapping[int, str]
) -> dict[str, Values]:
    """How far each garment's mean color is from the true one.

    A region is where the true frame shows the garment, without the pixels at its border; a garment with fewer than 16
    such pixels in a frame has no value there. A person in a wrong pose has wrong colors, too: what counts is the color
    at the garment's place.

    Args:
      truth, result: (T, H, W, 3) uint8.
      labels: (T, H, W) integers, what each pixel of the truth shows.
      names: {label: name} of the garments; other labels are not measured.

    Returns:
      {'color_NAME': CIEDE2000 between the mean CIELAB colors of a frame} of garments that are seen, and 'color', the
      mean over all garments of all frames.
    """
    measures = {}
    total, weight = np.zeros(len(truth)), np.zeros(len(truth))
    labs = to_lab(truth), to_lab(result)
    for label, name in names.items():
        values = np.full(len(truth), np.nan)
        for index in np.flatnonzero((labels == label).any((1, 2))):
            inner = ndimage.binary_erosion(labels[index] == label, iterations=_EDGE, border_value=1)
            if inner.sum() >= SMALLEST_REGION:
                values[index] = difference(*(lab[index][inner].mean(0) for lab in labs))
        found = Values.of(values)
        total, weight = total + found.totals, weight + found.weights
        if found.weights.any():
            measures[f"color_{name}"] = found
    return measures | {"color": Values(total, weight)}
