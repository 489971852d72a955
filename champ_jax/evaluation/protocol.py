"""What is measured and how frames are brought to one size: metric names and the two presets."""

import dataclasses
from collections.abc import Sequence


@dataclasses.dataclass(frozen=True)
class Metric:
    """One column of the report.

    Attributes:
      title: how tables name it.
      better: 'higher' or 'lower'.
      over: what its values belong to: 'frames', 'pairs' (of neighboring frames) or 'set' (one number for all videos).
      network: the evaluation network it looks through, or None.
      digits: significant digits in tables.
    """

    title: str
    better: str
    over: str
    network: str | None = None
    digits: int = 4


METRICS = {
    "psnr": Metric("PSNR", "higher", "frames"),
    "psnr_legacy": Metric("PSNR (overflowing, as published)", "higher", "frames"),
    "ssim": Metric("SSIM", "higher", "frames"),
    "ssim_legacy": Metric("SSIM (gray, as published)", "higher", "frames"),
    "mae": Metric("MAE", "lower", "frames"),
    "l1_legacy": Metric("L1 (divided by the area, as published)", "lower", "frames", digits=3),
    "lpips_vgg": Metric("LPIPS (VGG16)", "lower", "frames", "lpips_vgg"),
    "lpips_alex": Metric("LPIPS (AlexNet)", "lower", "frames", "lpips_alex"),
    "lpips_legacy": Metric("LPIPS (VGG16 on [0, 1], as published)", "lower", "frames", "lpips_vgg"),
    "fid": Metric("FID", "lower", "set", "fid_inception"),
    "fid_vid": Metric("FID-VID", "lower", "set", "resnet3d"),
    "fvd": Metric("FVD", "lower", "set", "i3d"),
    "flicker": Metric("Flicker", "lower", "pairs"),
    "warping_error": Metric("Warping error", "lower", "pairs"),
}

PAIRWISE = ("psnr", "psnr_legacy", "ssim", "ssim_legacy", "mae", "l1_legacy")
LPIPS = ("lpips_vgg", "lpips_alex", "lpips_legacy")
CLIPS = ("fid_vid", "fvd")


@dataclasses.dataclass(frozen=True)
class Protocol:
    """How frames are prepared before anything is measured.

    Attributes:
      size: (height, width) that every frame is resized to, or None: a prediction takes its ground truth's size.
      resize: 'antialiased' or 'opencv_bilinear' (`evaluation/resize.py`).
      metrics: measured unless `--config.metrics` names others.
      statement: one sentence for the report.
    """

    size: tuple[int, int] | None
    resize: str
    metrics: tuple[str, ...]
    statement: str


PROTOCOLS = {
    "correct": Protocol(
        size=None,
        resize="antialiased",
        metrics=tuple(name for name in METRICS if name != "lpips_legacy"),
        statement="frames at the ground truth's own size; a prediction of another size is resampled to it "
        "(bicubic, anti-aliased); means of per-frame values over all frames",
    ),
    "tiktok": Protocol(
        size=(256, 256),
        resize="opencv_bilinear",
        metrics=tuple(METRICS),
        statement="the TikTok protocol of DisCo, MagicAnimate and Champ: every frame resized to 256x256 (bilinear, as "
        "OpenCV does it, the shape of the picture is not kept); the columns named 'as published' use the published "
        "arithmetic, the others are the correct measures of the same frames",
    ),
}


def metric_names(wanted: Sequence[str], default: Sequence[str]) -> tuple[str, ...]:
    """The metrics to measure, in the report's order: `wanted`, or `default` if none are named."""
    chosen = set(wanted) or set(default)
    return tuple(name for name in METRICS if name in chosen)
