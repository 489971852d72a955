"""Warping error: does the prediction move as the ground truth moves?

The flow is OpenCV's DIS optical flow (Kroeger et al. 2016, medium preset) between neighboring ground-truth frames in
OpenCV's gray, so that every system is warped by the same motion. Occluded pixels, where the flow there and back does
not return within the bound of Sundaram et al. 2010, are left out.
"""

import numpy as np


def is_available() -> bool:
    """Whether OpenCV, which computes the flow, is installed."""
    try:
        import cv2  # noqa: F401
    except ImportError:
        return False
    return True


class WarpingError:
    """Warping errors of consecutive frames of one video; holds one frame between calls."""

    def __init__(self) -> None:
        import cv2

        self._cv2 = cv2
        self._flow = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        self._previous: tuple[np.ndarray, np.ndarray] | None = None

    def __call__(self, truth: np.ndarray, prediction: np.ndarray) -> float | None:
        """The error of the step from the last call's frames to these, uint8 (H, W, 3) both.

        Returns:
          Mean over unoccluded pixels and colors of (p[t] - p[t-1] warped by the flow)^2 for values in [0, 1];
          None for a video's first frame and where every pixel is occluded.
        """
        cv2 = self._cv2
        gray = cv2.cvtColor(truth, cv2.COLOR_RGB2GRAY)
        previous, self._previous = self._previous, (gray, prediction)
        if previous is None:
            return None
        gray_before, prediction_before = previous
        backward = self._flow.calc(gray, gray_before, None)  # pixel of t -> where it was at t-1
        forward = self._flow.calc(gray_before, gray, None)
        height, width = gray.shape
        columns, rows = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
        at_x, at_y = columns + backward[..., 0], rows + backward[..., 1]
        returned = cv2.remap(forward, at_x, at_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        gap = ((backward + returned) ** 2).sum(-1)
        bound = 0.01 * ((backward**2).sum(-1) + (returned**2).sum(-1)) + 0.5
        inside = (at_x >= 0) & (at_x <= width - 1) & (at_y >= 0) & (at_y <= height - 1)
        visible = inside & (gap <= bound)
        if not visible.any():
            return None
        warped = cv2.remap(prediction_before.astype(np.float32), at_x, at_y, cv2.INTER_LINEAR)
        squared = ((prediction.astype(np.float32) - warped) / 255) ** 2
        return float(squared[visible].mean(dtype=np.float64))
