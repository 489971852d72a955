"""Videos whose frames come unevenly: their key points brought to a constant frame rate."""

import numpy as np

from champ_jax.body.fields import check_frame_count
from champ_jax.body.interpolation import interpolate_rotations
from champ_jax.common.videos import MAX_FPS, MIN_FPS
from champ_jax.fitting.keypoints import Keypoints

_UNEVEN = 0.25  # share of the usual distance of two frames by which one may differ
_ROUNDING = 0.002  # seconds; containers round times to milliseconds
_SAME = 0.001  # seconds up to which a frame's own points are taken
_LONGEST = 0.5  # seconds between two frames up to which the person is known between them


def uneven_rate(times: np.ndarray | None) -> float | None:
    """The frame rate that a video of uneven frames is brought to; None for even ones.

    Most distances of frames are taken to be one frame, the others whole numbers of frames as near as can be: a camera
    that drops frames gets its own rate back.

    Args:
      times: (T,) s, when each frame is shown; None where that is not known. Times that do not increase say nothing.
    """
    if times is None or len(times) < 3:
        return None
    steps = np.diff(times)
    usual = float(np.median(steps))
    if not (steps > 0).all() or np.abs(steps - usual).max() <= _UNEVEN * usual + _ROUNDING:
        return None
    rate = float(np.maximum(np.rint(steps / usual), 1).sum() / (times[-1] - times[0]))
    return min(max(rate, MIN_FPS), MAX_FPS)


def unevenness(times: np.ndarray, rate: float) -> str:
    """What a person should know about it, after the name of the video."""
    shortest, longest = 1000 * np.diff(times).min(), 1000 * np.diff(times).max()
    return (
        f"its frames come {shortest:.0f} to {longest:.0f} ms apart; points between them were interpolated, the motion "
        f"has {rate:.4g} frames per second (--fps=N takes the frames as even instead)"
    )


def at_even_times(points: Keypoints, times: np.ndarray, rate: float, source: str) -> tuple[Keypoints, np.ndarray]:
    """Key points of uneven frames at a constant frame rate: frame k shows what was at `times[0] + k / rate`.

    Points go in straight lines between the frames before and after, with the lower of the two scores; the camera's
    rotations by slerp. Where one of these frames does not show the person, or they are more than half a second apart,
    the nearest frame counts, if it is within half a frame; elsewhere nobody was seen.

    Args:
      points: (T frames).
      times: (T,) s, increasing.
      rate: frames per second.
      source: begins the message of an error.

    Returns:
      The points of N frames, and (N,) the number of the frame that is nearest in time to each.

    Raises:
      InputError: more frames than a motion may have.
    """
    since = np.asarray(times, np.float64) - times[0]
    last = len(since) - 1
    count = int(np.floor(since[-1] * rate + 0.5)) + 1
    check_frame_count(f"{source}: at {rate:g} frames per second", count)
    wanted = np.minimum(np.arange(count) / rate, since[-1])
    left = np.clip(np.searchsorted(since, wanted, side="right") - 1, 0, max(last - 1, 0))
    right = np.minimum(left + 1, last)
    span = np.maximum(since[right] - since[left], 1e-12)
    share = (wanted - since[left]) / span if last else np.zeros(count)
    nearest = np.where(share > 0.5, right, left)
    away = np.abs(since[nearest] - wanted)
    share = np.where(away < _SAME, nearest > left, share)
    between = points.valid[left] & points.valid[right] & (span <= _LONGEST)
    near = points.valid[nearest] & (away <= 0.5 / rate + _SAME)
    between &= away >= _SAME
    weight = np.where(between, share, nearest > left)[:, None, None].astype(np.float32)
    before, after = points.keypoints[left], points.keypoints[right]
    found = before * (1 - weight) + after * weight
    lower = np.minimum(before[..., 2], after[..., 2])
    found[..., 2] = np.where(between[:, None], lower, points.keypoints[nearest][..., 2])
    numbers = left + share
    camera = points.camera_rotations
    even = Keypoints.create(
        found,
        points.image_size,
        rate,
        between | near,
        None if points.focal is None else np.interp(numbers, np.arange(last + 1), points.focal),
        source,
        None
        if camera is None
        else interpolate_rotations(np.arange(last + 1), camera[:, None], np.clip(numbers, 0, last))[:, 0],
    )
    return even, nearest
