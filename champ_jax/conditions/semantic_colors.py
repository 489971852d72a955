"""Checks whether a semantic map is drawn in Champ's colors; wrong maps are among the commonest mistakes.

Champ's maps are SMPL parts in `conditions.colors.PART_COLORS` on black; inside a triangle that joins two parts the
colors blend, which is legitimate. The usual impostor is DensePose, drawn with VIRIDIS (its background is purple then)
or with PARULA.
"""

import functools

import numpy as np

from champ_jax.body.body_files import SMPL_PARENTS
from champ_jax.conditions.colors import PART_COLORS

_PURPLE = (68, 1, 84)  # entry 0 of VIRIDIS: where an index map has its background
_BLENDS = 9  # samples of a blend between two colors
_CLOSE = 14  # levels that resizing and JPEG may move a color
_EXACT = 2  # levels that dither and rounding may
_SAMPLES = 4096
_BLACK = 16  # gray levels up to which a pixel of a lossy picture is black
_BACKGROUND = 0.9  # share of a semantic map that is drawn where its background is, too

LEAST_KEPT = 0.1
"""The share of a body's semantic map that a mask of that body keeps at the very least (`share_kept`)."""

# Entry round(255 / 24 * k) of OpenCV's VIRIDIS and PARULA maps for DensePose's parts k = 1..24.
_DENSEPOSE_VIRIDIS = (
    (71, 16, 99), (72, 31, 112), (71, 44, 122), (68, 57, 131), (64, 70, 136), (59, 81, 139), (54, 93, 141),
    (49, 104, 142), (44, 113, 142), (40, 124, 142), (37, 133, 142), (33, 144, 141), (31, 154, 138), (32, 163, 134),
    (39, 173, 129), (53, 183, 121), (70, 192, 111), (92, 200, 99), (115, 208, 86), (142, 214, 69), (170, 220, 50),
    (197, 224, 33), (226, 228, 24), (253, 231, 37),
)  # fmt: skip
_DENSEPOSE_PARULA = (
    (37, 60, 163), (20, 80, 194), (4, 97, 223), (8, 110, 221), (14, 122, 216), (20, 132, 212), (15, 144, 208),
    (11, 156, 203), (6, 166, 198), (22, 173, 185), (38, 179, 172), (55, 185, 159), (86, 187, 144), (114, 189, 130),
    (145, 191, 116), (170, 189, 105), (192, 188, 96), (216, 186, 86), (228, 192, 74), (240, 199, 60), (252, 206, 46),
    (251, 220, 36), (250, 235, 25), (249, 251, 14),
)  # fmt: skip

_REMEDY = "Champ expects SMPL parts on black, as `champ render` draws them"


def semantic_complaint(image: np.ndarray, mask: np.ndarray | None = None) -> str | None:
    """What is wrong with the colors of a semantic map, with the likely cause and the remedy; None if nothing is.

    Args:
      image: (H, W, 3) uint8.
      mask: (H, W) bool, where the body is; None takes every pixel that is not black.
    """
    outside = np.ones(image.shape[:2], bool) if mask is None else ~mask
    pixels = image[outside]
    if pixels.size and outside.mean() > 0.05 and _near(pixels, np.array([_PURPLE]), 8).mean() > 0.5:
        return f"has a purple background, so it is likely a DensePose picture drawn with the VIRIDIS map; {_REMEDY}"
    pixels = image[(image.max(axis=2) > 24) & (~outside if mask is not None else True)]
    if len(pixels) < 16:
        return None
    pixels = pixels[:: -(-len(pixels) // _SAMPLES)]
    foreign = 1.0 - _near(pixels, _legitimate(), _CLOSE).mean()
    champ = _near(pixels, PART_COLORS, _EXACT).mean()
    viridis = _near(pixels, np.array(_DENSEPOSE_VIRIDIS), _EXACT).mean()
    parula = _near(pixels, np.array(_DENSEPOSE_PARULA), _CLOSE).mean()
    if viridis > 0.5 and viridis > champ + 0.25:
        return f"is drawn in DensePose's 24 parts (VIRIDIS), not in SMPL's; {_REMEDY}"
    if foreign > 0.3:
        cause = "they are DensePose's (PARULA)" if parula > 0.5 else "the likely cause is another renderer or palette"
        return f"has {foreign:.0%} of its body in colors that are not Champ's; {cause}; {_REMEDY}"
    return None


def _near(pixels: np.ndarray, colors: np.ndarray, tolerance: int) -> np.ndarray:
    """(N,) bool: whether each pixel (N, 3) is within `tolerance` levels of a color (M, 3) in every channel."""
    distinct, inverse = np.unique(pixels.reshape(-1, 3), axis=0, return_inverse=True)
    difference = np.abs(distinct[:, None].astype(np.int16) - colors[None].astype(np.int16)).max(axis=2)
    return (difference.min(axis=1) <= tolerance)[inverse.ravel()]


@functools.cache
def _legitimate() -> np.ndarray:
    """Part colors and their blends (in linear light, as rendered) with parts that touch, at most two joints away."""
    linear = (PART_COLORS / 255.0) ** 2.2
    mixes = []
    for part in range(24):
        parent = SMPL_PARENTS[part]
        near = [parent, SMPL_PARENTS[parent]] if parent >= 0 else []
        siblings = [other for other in range(part) if parent >= 0 and SMPL_PARENTS[other] == parent]
        for other in (one for one in (*near, *siblings) if one >= 0):
            shares = np.linspace(0, 1, _BLENDS)[:, None]
            mixes.append(shares * linear[part] + (1 - shares) * linear[other])
    return np.round(255 * np.concatenate(mixes) ** (1 / 2.2)).astype(np.int16)


def share_kept(image: np.ndarray, mask: np.ndarray) -> float:
    """The share of the body in a semantic map that its mask keeps.

    It is 1 where nobody is in the picture, and where the map has a background, which the mask is there to remove.

    Args:
      image: (height, width, 3) uint8.
      mask: (height, width) bool, true where the body is.
    """
    drawn = image.max(axis=2) > _BLACK
    if not drawn.any() or (drawn.mean() > _BACKGROUND and mask.any()):
        return 1.0
    return int(np.count_nonzero(drawn & mask)) / int(np.count_nonzero(drawn))
