"""What a person should look at in a fit: stretches that are doubtful, in a line each."""

import numpy as np

from champ_jax.fitting.fit import Fit

_WORSE = 3.0  # times the clip's usual error
_SHORTEST = 3  # frames
_MOST_LINES = 5
_NEAREST = 0.1  # meters before the camera


def advise(fit: Fit) -> list[str]:
    """Lines about frames without the person and frames whose points were missed by far."""
    valid = fit.motion.valid
    lines = []
    if not valid.all():
        gaps = stretches(~valid, 1)
        frames = int((~valid).sum())
        lines.append(f"the person was not seen in {frames} of {len(valid)} frames, first in {gaps[0][0]}")
    if fit.motion.camera_rotations is not None:
        depth = np.maximum(fit.joints[..., 2:], 1e-6)
        flat = fit.motion.focal[:, None, None] * fit.joints[..., :2] / depth
        inside = (np.abs(flat) <= fit.motion.image_size / 2).all(axis=-1) & (fit.joints[..., 2] > _NEAREST)
        left = valid & ~inside.any(axis=1)
        if left.any():
            lines.append(
                f"the person has left the picture of the first frame's camera in {int(left.sum())} frames, first in "
                f"{int(left.argmax())}"
            )
    usual = float(np.median(fit.errors[valid]))
    bad = stretches(valid & (fit.errors > _WORSE * usual) & (fit.errors > 1e-6), _SHORTEST)
    lines += [
        f"frames {first} to {last - 1} are doubtful: their points are missed by "
        f"{float(np.median(fit.errors[first:last])) / max(usual, 1e-9):.1f} times as much as usual"
        for first, last in bad[:_MOST_LINES]
    ]
    if len(bad) > _MOST_LINES:
        lines.append(f"and {len(bad) - _MOST_LINES} more doubtful stretches")
    return lines


def stretches(chosen: np.ndarray, shortest: int) -> list[tuple[int, int]]:
    """[first, last) of the runs of True of at least `shortest` frames."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], chosen.astype(int), [0]])))
    return [(int(first), int(last)) for first, last in edges.reshape(-1, 2) if last - first >= shortest]
