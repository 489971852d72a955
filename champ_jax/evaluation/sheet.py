"""The page of the worst frames: ground truth, prediction and their difference side by side."""

from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from champ_jax.evaluation import resize
from champ_jax.evaluation.protocol import METRICS, Protocol
from champ_jax.evaluation.states import Results
from champ_jax.evaluation.videos import Pair

# What makes a frame bad: the first of these that was measured. The legacy measures do not order frames by quality.
_RANKED_BY = ("lpips_vgg", "lpips_alex", "ssim", "psnr", "mae")
_HEIGHT = 256  # pixels of a row
_LABEL = 20
_APART = 8  # frames


def worst_frames(results: Results, count: int) -> tuple[str, list[tuple[str, int, float]]] | None:
    """The metric that ranks and the `count` worst frames (video, index, value); None if no frame metric was measured.

    No video gives more than its share, two more than the average, so that one bad video does not fill the page, and
    frames of one video lie apart if there are enough.
    """
    measured = {name for values in results.values.values() for name in values}
    metric = next((name for name in _RANKED_BY if name in measured), None)
    if metric is None or count < 1:
        return None
    sign = 1 if METRICS[metric].better == "higher" else -1
    ranked = sorted(
        (sign * value, video, index)
        for video, values in results.values.items()
        for index, value in enumerate(values.get(metric, ()))
    )
    share = count // len(results.values) + 2
    chosen: list[tuple[float, str, int]] = []
    for apart in (_APART, 1):  # neighbors look alike: they only fill a page that would stay half empty
        for item in ranked:
            taken = [index for _, video, index in chosen if video == item[1]]
            if len(chosen) < count and len(taken) < share and all(abs(item[2] - index) >= apart for index in taken):
                chosen.append(item)
    return metric, [(video, index, float(sign * value)) for value, video, index in sorted(chosen)]


def draw_sheet(
    frames: Sequence[tuple[str, int, float]], metric: str, pairs: Mapping[str, Pair], protocol: Protocol
) -> np.ndarray:
    """One row a frame, uint8 (H, W, 3).

    Args:
      frames: The frames that `worst_frames` chose.
      metric: its metric.
      pairs: {video: pair}; the frames are read again.
      protocol: brings the prediction to the ground truth's size.
    """
    font = ImageFont.load_default()
    rows = []
    for video, index, value in frames:
        truth, prediction = pairs[video].truth.frame(index), pairs[video].prediction.frame(index)
        size = protocol.size or truth.shape[:2]
        resampled = getattr(resize, protocol.resize)
        truth, prediction = resampled(truth, *size), resampled(prediction, *size)
        difference = np.abs(truth.astype(np.int16) - prediction).astype(np.uint8)
        panels = [_thumbnail(picture) for picture in (truth, prediction, difference)]
        row = Image.new("RGB", (sum(p.width for p in panels) + 2 * 4, _HEIGHT + _LABEL), "white")
        text = f"{video} frame {index + 1}: {METRICS[metric].title} {value:.4g} (truth, prediction, difference)"
        ImageDraw.Draw(row).text((4, 4), text.encode("ascii", "replace").decode(), fill="black", font=font)
        left = 0
        for panel in panels:
            row.paste(panel, (left, _LABEL))
            left += panel.width + 4
        rows.append(row)
    return stack(rows)


def stack(rows: Sequence[Image.Image]) -> np.ndarray:
    """Pictures below each other on a white page, uint8 (H, W, 3)."""
    page = Image.new("RGB", (max(row.width for row in rows), sum(row.height for row in rows)), "white")
    top = 0
    for row in rows:
        page.paste(row, (0, top))
        top += row.height
    return np.asarray(page)


def _thumbnail(picture: np.ndarray) -> Image.Image:
    width = max(round(picture.shape[1] * _HEIGHT / picture.shape[0]), 1)
    return Image.fromarray(picture).resize((width, _HEIGHT), Image.Resampling.BICUBIC)
