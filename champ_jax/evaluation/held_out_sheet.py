"""The contact sheet of held-out people: reference, and truth, results and copy of some frames with their PSNR."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from champ_jax.evaluation.sheet import stack

_APART = 4  # px between panels
_LABEL = 14  # px of a line of text
_PLOT = 220  # px, the width of the plot of a row
_HIGHEST = 45  # dB; the copied reference has 100 in the frame that it is
_COLORS = ("#d62728", "#1f77b4", "#2ca02c", "#9467bd", "#ff7f0e", "#7f7f7f")


@dataclasses.dataclass(frozen=True)
class Row:
    """A video of the sheet.

    Attributes:
      name: the video's.
      reference: (H, W, 3) uint8.
      panels: [(caption, picture (H, W, 3) uint8)] right of it.
      curves: {label: (T,) dB of every frame, NaN where there is none}.
    """

    name: str
    reference: np.ndarray
    panels: Sequence[tuple[str, np.ndarray]]
    curves: Mapping[str, np.ndarray]


def chosen_frames(length: int, count: int = 2) -> list[int]:
    """`count` frames of a video that are shown: evenly spread, the last among them, the first only if it is alone."""
    return sorted({round(length * k / count) - 1 for k in range(1, count + 1) if round(length * k / count)})


def draw_sheet(rows: Sequence[Row]) -> np.ndarray:
    """The sheet (H, W, 3) uint8: a row a video, with the curves of its frames' PSNR at the right.

    All curves share one scale, whose ends are printed; their colors are explained in the first row.
    """
    levels = np.concatenate([[np.nan], *(curve for row in rows for curve in row.curves.values())])
    known = np.minimum(levels[np.isfinite(levels)], _HIGHEST)
    low, high = (np.floor(known.min()), np.ceil(known.max())) if known.size else (0.0, 1.0)
    return stack([_row(row, float(low), float(max(high, low + 1)), index == 0) for index, row in enumerate(rows)])


def _row(row: Row, low: float, high: float, legend: bool) -> Image.Image:
    panels = [(f"{row.name} reference", row.reference), *row.panels]
    height = max(picture.shape[0] for _, picture in panels) + _LABEL
    width = sum(picture.shape[1] + _APART for _, picture in panels)
    image = Image.new("RGB", (width + _PLOT, height + _APART), "white")
    draw, font = ImageDraw.Draw(image), ImageFont.load_default()
    left = 0
    for caption, picture in panels:
        ascii_only = caption.encode("ascii", "replace").decode()
        draw.text((left + 1, 1), ascii_only, fill="black", font=font)
        image.paste(Image.fromarray(picture), (left, _LABEL))
        left += picture.shape[1] + _APART
    _plot(draw, row.curves, (left + 24, _LABEL, image.width - 4, height), (low, high), font, legend)
    return image


def _plot(draw, curves, box: tuple[int, int, int, int], span: tuple[float, float], font, legend: bool) -> None:
    left, top, right, bottom = box
    low, high = span
    draw.rectangle(box, outline="#cccccc")
    draw.text((left - 22, top), f"{high:.0f}", fill="black", font=font)
    draw.text((left - 22, bottom - 11), f"{low:.0f}", fill="black", font=font)
    draw.text((left, top - _LABEL + 1), "dB in the person's mask", fill="black", font=font)
    for index, (label, curve) in enumerate(curves.items()):
        color = _COLORS[index % len(_COLORS)]
        columns = np.linspace(left, right, len(curve))
        heights = bottom - (np.minimum(curve, high) - low) / (high - low) * (bottom - top)
        points = [(x, y) for x, y in zip(columns, heights) if np.isfinite(y)]
        if len(points) > 1:
            draw.line(points, fill=color, width=1)
        if legend:
            text = label.encode("ascii", "replace").decode()
            draw.text((left + 4, top + 1 + 11 * index), text, fill=color, font=font)
