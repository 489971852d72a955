"""Temporal windows: a clip longer than the model's context is denoised in overlapping windows and averaged.

At every denoising step `plan_windows` says which frames each window holds and with what weight each of its predictions
enters the average. Weights are normalized: those of one frame sum to one.
"""

import dataclasses
from collections.abc import Callable

import numpy as np

from champ_jax.common.ranges import Choice, Integer, Rule


@dataclasses.dataclass(frozen=True)
class Windows:
    """How a clip is cut.

    Attributes:
      scheme: a name of SCHEMES.
      frames: frames a window holds; a clip no longer than that is one window.
      overlap: frames that neighboring windows share (more where the last window is held inside the clip).
      stride: n > 1 adds windows over every 2nd, 4th, ... 2^(n-1)-th frame, which tie distant frames together.

    Raises:
      InputError: an unknown scheme, or numbers that leave no progress from window to window.
    """

    scheme: str = "shifted"
    frames: int = 24
    overlap: int = 4
    stride: int = 1

    def __post_init__(self) -> None:
        for name, rule in RULES.items():
            rule.check(f"windows.{name}", getattr(self, name))
        Integer(minimum=0, maximum=self.frames - 1).check("windows.overlap", self.overlap)


@dataclasses.dataclass(frozen=True, eq=False)
class WindowPlan:
    """The windows of one denoising step.

    Attributes:
      frames: (N, L) int32, the clip's frames that each window holds, in order.
      weights: (N, L) float32, the share of each prediction in its frame's average.
    """

    frames: np.ndarray
    weights: np.ndarray


def plan_windows(windows: Windows, length: int, step: int = 0) -> WindowPlan:
    """The windows of denoising step `step` over a clip of `length` frames; all of one size, min(frames, length)."""
    if length <= windows.frames:
        return WindowPlan(np.arange(length, dtype=np.int32)[None], np.ones((1, length), np.float32))
    place, profile = SCHEMES[windows.scheme]
    frames = np.array(place(windows, length, step), np.int32)
    shares = np.broadcast_to(profile(windows.frames), frames.shape)
    total = np.zeros(length)
    np.add.at(total, frames, shares)
    return WindowPlan(frames, (shares / total[frames]).astype(np.float32))


def _closed_loop(windows: Windows, length: int, step: int) -> list[np.ndarray]:
    """The reference's: the clip as a ring, so the last window wraps round onto frame 0. The same at every step."""
    return _ring(windows, length, 0.0)


def _shifted_loop(windows: Windows, length: int, step: int) -> list[np.ndarray]:
    """AnimateDiff's 'uniform': the ring's windows turn from step to step. For motions that are loops."""
    return _ring(windows, length, _van_der_corput(step))


def _clamped(windows: Windows, length: int, step: int) -> list[np.ndarray]:
    """The fewest windows that cover an open clip; the last is held inside it. The same at every step."""
    return _open(windows, length, 0.0)


def _shifted(windows: Windows, length: int, step: int) -> list[np.ndarray]:
    """An open clip's windows, moved from step to step so that no seam stays at one frame."""
    return _open(windows, length, _van_der_corput(step))


def _ring(windows: Windows, length: int, phase: float) -> list[np.ndarray]:
    levels = min(windows.stride, int(np.ceil(np.log2(length / windows.frames))) + 1)
    turn = round(length * phase)
    placed = []
    for pace in (2**level for level in range(levels)):
        span = windows.frames * pace
        for start in range(int(phase * pace) + turn, length + turn, span - windows.overlap):
            placed.append(np.arange(start, start + span, pace) % length)
    return placed


def _open(windows: Windows, length: int, phase: float) -> list[np.ndarray]:
    placed = []
    for pace in (2**level for level in range(windows.stride)):
        last = length - 1 - (windows.frames - 1) * pace  # where the last window starts
        if last < 0:
            break
        period = (windows.frames - windows.overlap) * pace
        start = -int(phase * period)
        starts = [min(max(start, 0), last)]
        while starts[-1] < last:
            start += period
            starts.append(min(start, last))
        placed += [np.arange(begin, begin + (windows.frames - 1) * pace + 1, pace) for begin in starts]
    return placed


def _van_der_corput(step: int) -> float:
    """0, 1/2, 1/4, 3/4, 1/8, ...: the bits of `step` mirrored at the binary point; each step far from the last ones."""
    value, weight = 0.0, 0.5
    while step:
        step, bit = divmod(step, 2)
        value += bit * weight
        weight /= 2
    return value


def _even(size: int) -> np.ndarray:
    return np.ones(size)


def _tent(size: int) -> np.ndarray:
    """Frames weigh as their distance to the window's nearer edge: predictions are worst where context ends."""
    return np.minimum(np.arange(1, size + 1), np.arange(size, 0, -1)).astype(float)


Placement = Callable[[Windows, int, int], list[np.ndarray]]
SCHEMES: dict[str, tuple[Placement, Callable[[int], np.ndarray]]] = {
    "shifted": (_shifted, _tent),
    "clamped": (_clamped, _tent),
    "closed_loop": (_closed_loop, _even),
    "shifted_loop": (_shifted_loop, _tent),
}

RULES: dict[str, Rule] = {
    "scheme": Choice(*SCHEMES),
    "frames": Integer(minimum=1, maximum=2**16),
    "overlap": Integer(minimum=0, maximum=2**16),
    "stride": Integer(minimum=1, maximum=16),
}
"""{field of Windows: the values it may have}; the overlap is less than the frames, too."""
