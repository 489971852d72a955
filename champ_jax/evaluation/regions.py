"""Measures of a video's frames over the whole picture and over the region about the person."""

from typing import NamedTuple

import jax
import numpy as np
from scipy import ndimage

from champ_jax.evaluation import frames, pyramid
from champ_jax.evaluation.devices import pad_batch

DILATION = 8  # pixels that the person's region reaches beyond the mask of the body: cloth, hair and their edges

_PIXELS_AT_ONCE = 1 << 17  # on a CPU the arrays of a batch should fit its cache
_SSIM_EDGE = frames.SMALLEST_SIDE // 2


class Values(NamedTuple):
    """A measure of a video's frames, in a form that adds up: the mean over any frames is sum(totals) / sum(weights).

    Attributes:
      totals: (T,) float64; 0 where the weight is 0.
      weights: (T,) float64, mostly 1; 0 for a frame that has no value.
    """

    totals: np.ndarray
    weights: np.ndarray

    @classmethod
    def of(cls, values: np.ndarray) -> "Values":
        """One value a frame; NaN where there is none."""
        there = np.isfinite(values)
        return cls(np.where(there, values, 0.0).astype(np.float64), there.astype(np.float64))

    def mean(self) -> float | None:
        """None if no frame has a value."""
        weight = self.weights.sum()
        return float(self.totals.sum() / weight) if weight > 0 else None


def dilated(masks: np.ndarray, pixels: float = DILATION) -> np.ndarray:
    """(T, H, W) bool masks grown by discs of a radius: where a pixel of the mask is at most `pixels` away."""
    grown = np.zeros(masks.shape, bool)
    for index in np.flatnonzero(masks.any((1, 2))):
        grown[index] = ndimage.distance_transform_edt(~masks[index]) <= pixels
    return grown


def measure_frames(truth: np.ndarray, prediction: np.ndarray, inside: np.ndarray) -> dict[str, Values]:
    """PSNR, SSIM, mean absolute error and NLPD of every frame, and flicker, whole and inside a region.

    Args:
      truth, prediction: (T, H, W, 3) uint8, H and W at least 7.
      inside: (T, H, W) bool.

    Returns:
      'psnr', 'ssim', 'mae' and 'nlpd', and the same with '_person' over the region: the squared and absolute errors of
      its pixels, the SSIM of the windows whose middle is in it, and the pyramid's samples by their share in it. A frame
      whose region is empty has no value.
      'psnr_later' and 'psnr_person_later': of all frames but the first, which in a held-out video is the reference
      itself, so that a copy has 100 dB there.
      'flicker' and 'flicker_person' (inside the region of either frame): of the step from the frame before, as
      `frames.flicker`. 'flicker_ratio': flicker in shares of how much the truth changes from frame to frame, which is
      the flicker of a still picture.
    """
    size = max(_PIXELS_AT_ONCE // truth[0, ..., 0].size, 1)
    found: dict[str, list[np.ndarray]] = {}
    for start in range(0, len(truth), size):
        batch = slice(start, start + size)
        for name, values in _measure_batch(truth[batch], prediction[batch], inside[batch], size).items():
            found.setdefault(name, []).append(values)
    arrays = {name: np.concatenate(parts) for name, parts in found.items()}
    for name in ("psnr", "psnr_person"):
        arrays[f"{name}_later"] = np.concatenate([[np.nan], arrays[name][1:]])
    return {name: Values.of(array) for name, array in arrays.items()} | _flicker(truth, prediction, inside)


def _measure_batch(truth: np.ndarray, prediction: np.ndarray, inside: np.ndarray, size: int) -> dict[str, np.ndarray]:
    count = len(truth)
    maps = jax.device_get(_maps(pad_batch(truth, size), pad_batch(prediction, size)))
    squared, absolute, similarity = (maps[name][:count] for name in ("squared", "absolute", "ssim"))
    normalized = [level[:count] for level in maps["nlpd"]]
    middle = inside[:, _SSIM_EDGE : inside.shape[1] - _SSIM_EDGE, _SSIM_EDGE : inside.shape[2] - _SSIM_EDGE]
    everywhere, middles = np.ones_like(inside), np.ones_like(middle)
    measures = {}
    for suffix, pixels, windows, region in (
        ("", everywhere, middles, None),
        ("_person", inside, middle, inside),
    ):
        measures |= {
            f"psnr{suffix}": frames.psnr(_mean(squared, pixels) / 3),
            f"ssim{suffix}": _mean(similarity, windows),
            f"mae{suffix}": _mean(absolute, pixels) / 3,
            f"nlpd{suffix}": pyramid.distance(normalized, region),
        }
    return measures


@jax.jit
def _maps(truth: jax.Array, prediction: jax.Array) -> dict[str, jax.Array | list[jax.Array]]:
    difference = truth.astype(np.int32) - prediction.astype(np.int32)
    return {
        "squared": (difference**2).sum(-1),
        "absolute": abs(difference).sum(-1),
        "ssim": frames.ssim_map(truth, prediction).mean(-1),
        "nlpd": pyramid.difference_maps(truth, prediction),
    }


def _flicker(truth: np.ndarray, prediction: np.ndarray, inside: np.ndarray) -> dict[str, Values]:
    flicker, region, change = (np.full(len(truth), np.nan) for _ in range(3))
    for index in range(1, len(truth)):
        steps = [np.subtract(*video[[index, index - 1]].astype(np.int16)) for video in (truth, prediction)]
        wrong = np.abs(steps[1] - steps[0]).sum(-1, dtype=np.int32)
        either = inside[index] | inside[index - 1]
        flicker[index] = wrong.mean() / 3
        region[index] = wrong[either].mean() / 3 if either.any() else np.nan
        change[index] = np.abs(steps[0]).mean()
    return {
        "flicker": Values.of(flicker),
        "flicker_person": Values.of(region),
        "flicker_ratio": Values(Values.of(flicker).totals, Values.of(change).totals),
    }


def _mean(values: np.ndarray, where: np.ndarray) -> np.ndarray:
    """(B,) float64 means of (B, h, w) where a mask holds; NaN where it holds nowhere."""
    total = np.where(where, values, 0).sum((1, 2), dtype=np.float64)
    with np.errstate(invalid="ignore"):
        return total / where.sum((1, 2))
