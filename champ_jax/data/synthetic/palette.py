"""Colors of skin, hair and cloth."""

import colorsys

import numpy as np

from champ_jax.conditions.maps import srgb_to_linear

SKIN = np.array(
    [(250, 218, 196), (240, 196, 164), (222, 172, 134), (196, 140, 100), (154, 104, 70), (112, 72, 48), (80, 52, 38)]
)
HAIR = np.array(
    [(28, 22, 20), (52, 36, 28), (86, 56, 36), (128, 84, 48), (196, 154, 92), (222, 192, 138), (150, 62, 34),
     (150, 146, 142), (206, 204, 200)]
)  # fmt: skip
EYES = np.array([(74, 48, 30), (96, 66, 36), (84, 106, 70), (76, 110, 150), (110, 124, 134)])
_NEUTRALS = np.array([(24, 24, 28), (58, 60, 66), (128, 128, 130), (198, 196, 190), (238, 236, 230), (38, 48, 76)])


def linear(color: np.ndarray) -> np.ndarray:
    """sRGB bytes (..., 3) to linear light in 0..1, float32."""
    return srgb_to_linear(np.asarray(color, np.float64) / 255).astype(np.float32)


def skin(rng: np.random.Generator) -> np.ndarray:
    """A skin color (3,) in linear light: between two of `SKIN`."""
    place = rng.uniform(0, len(SKIN) - 1)
    low = min(int(place), len(SKIN) - 2)
    return linear(SKIN[low] + (place - low) * (SKIN[low + 1] - SKIN[low]))


def hair(rng: np.random.Generator) -> np.ndarray:
    """A hair color (3,) in linear light."""
    return linear(np.clip(HAIR[rng.integers(len(HAIR))] + rng.normal(0, 5, 3), 8, 250))


def cloth(rng: np.random.Generator, *others: np.ndarray) -> np.ndarray:
    """A cloth color (3,) in linear light, as far as can be from `others` among a few draws."""
    draws = [_cloth(rng) for _ in range(1 if not others else 4)]
    if not others:
        return draws[0]
    return max(draws, key=lambda color: min(np.abs(color**0.45 - other**0.45).sum() for other in others))


def _cloth(rng: np.random.Generator) -> np.ndarray:
    if rng.uniform() < 0.3:
        return linear(np.clip(_NEUTRALS[rng.integers(len(_NEUTRALS))] + rng.normal(0, 8, 3), 10, 245))
    hue, saturation, value = rng.uniform(), rng.uniform(0.35, 0.95), rng.uniform(0.35, 0.95)
    return linear(255 * np.array(colorsys.hsv_to_rgb(hue, saturation, value)))
