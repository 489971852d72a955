"""The report on held-out people: JSON, and Markdown for people."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from champ_jax.evaluation.held_out import Comparison, person_of

TITLE = "# Held-out people"  # the first line of the Markdown
COPY = "copy"


@dataclasses.dataclass(frozen=True)
class Column:
    """How a metric is shown.

    Attributes:
      title: how tables name it.
      meaning: what it is, with its unit.
      digits: decimals.
      higher: whether more is better.
    """

    title: str
    meaning: str
    digits: int
    higher: bool = False


_PERSON = "in the person's mask dilated by 8 px"
GARMENTS = ("skin", "face", "hair", "cap", "top", "shirt", "bottom", "socks", "shoes")
_POINTS = "share of key points within 0.05 of the person's height"
COLUMNS = {
    "psnr": Column("PSNR", "dB, whole frame", 2, True),
    "psnr_person": Column("PSNR, person", f"dB {_PERSON}", 2, True),
    "psnr_later": Column("PSNR, later", "dB, whole frame, without the first, which is the reference itself", 2, True),
    "psnr_person_later": Column("PSNR, person, later", f"dB {_PERSON}, without the first frame", 2, True),
    "ssim": Column("SSIM", "whole frame, 7x7 windows", 4, True),
    "ssim_person": Column("SSIM, person", f"of the windows whose middle is {_PERSON}", 4, True),
    "mae": Column("MAE", "levels of 0..255, whole frame", 2),
    "mae_person": Column("MAE, person", f"levels of 0..255 {_PERSON}", 2),
    "nlpd": Column(
        "NLPD",
        "normalized Laplacian pyramid distance (Laparra et al. 2016), whole frame; a stand-in for LPIPS without "
        "weights, not LPIPS",
        4,
    ),
    "nlpd_person": Column("NLPD, person", f"the same {_PERSON}", 4),
    "lpips_alex": Column("LPIPS (AlexNet)", "LPIPS 0.1, whole frame", 4),
    "lpips_alex_person": Column(
        "LPIPS (AlexNet), person", f"of the true frame with the result pasted into it {_PERSON}", 4
    ),
    "lpips_vgg": Column("LPIPS (VGG16)", "LPIPS 0.1, whole frame", 4),
    "lpips_vgg_person": Column(
        "LPIPS (VGG16), person", f"of the true frame with the result pasted into it {_PERSON}", 4
    ),
    "flicker": Column("Flicker", "change from frame to frame that the truth does not have, levels of 0..255", 3),
    "flicker_person": Column("Flicker, person", f"the same {_PERSON}, of either frame", 3),
    "flicker_ratio": Column(
        "Flicker / change", "flicker over the change of the true video; 1 is the flicker of a still picture", 3
    ),
    "pck": Column("PCK", f"{_POINTS} of the true ones, as a small detector finds them in the result", 3, True),
    "pck_head": Column("PCK, head", "the same of nose, eyes and ears", 3, True),
    "pck_arms": Column("PCK, arms", "the same of elbows and wrists", 3, True),
    "pck_legs": Column("PCK, legs", "the same of knees, ankles and feet", 3, True),
    "color": Column(
        "Color", "CIEDE2000 between a garment's mean color in the result and in the truth, mean over garments", 2
    ),
    **{f"color_{name}": Column(name.capitalize(), "", 2) for name in GARMENTS},
}


def make_report(
    comparison: Comparison,
    titles: Mapping[str, str],
    *,
    resamples: int,
    absent: Mapping[str, str],
    remarks: Sequence[str],
) -> dict[str, Any]:
    """The content of the JSON.

    Args:
      comparison: what was measured.
      titles: {system: what tables call it}.
      resamples: The number of bootstrap resamples; 0 for no intervals.
      absent: {what was not measured: why}.
      remarks: things the reader must know.

    Returns:
      'videos', 'people', 'frames', 'resamples', 'metrics' {metric: its meaning}, 'systems' {system: 'title', 'metrics',
      'intervals', 'minus_copy' (difference to copying the reference), 'minus_copy_intervals', 'videos' {video:
      {metric: value}}}, 'absent' and 'remarks'; only finite numbers.
    """
    systems = {}
    for system in comparison.systems:
        about: dict[str, Any] = {"title": titles[system]}
        for name in ("metrics", "intervals", "minus_copy", "minus_copy_intervals"):
            about[name] = {}
        for metric in _ordered(comparison.metrics(system)):
            about["metrics"][metric], interval = comparison.mean(system, metric, resamples)
            if interval is not None:
                about["intervals"][metric] = list(interval)
            difference = None if system == COPY else comparison.difference(system, COPY, metric, resamples)
            if difference is not None:
                about["minus_copy"][metric] = difference[0]
                if difference[1] is not None:
                    about["minus_copy_intervals"][metric] = list(difference[1])
        about["videos"] = {
            video: {
                metric: values.mean()
                for metric in about["metrics"]
                if (values := comparison.of_video(system, metric, video)) is not None and values.weights.any()
            }
            for video in comparison.videos
        }
        systems[system] = about
    first = comparison.systems[0]
    frames = {video: len(comparison.of_video(first, "psnr", video).totals) for video in comparison.videos}
    return {
        "people": len(set(map(person_of, comparison.videos))),
        "videos": frames,
        "resamples": resamples,
        "metrics": {name: column.meaning for name, column in COLUMNS.items() if _measured(systems, name)},
        "systems": systems,
        "absent": dict(absent),
        "remarks": list(remarks),
    }


def _ordered(metrics: Sequence[str]) -> list[str]:
    return [name for name in COLUMNS if name in metrics]


def _measured(systems: Mapping[str, Mapping[str, Any]], metric: str) -> bool:
    return any(metric in about["metrics"] for about in systems.values())


TABLES = {
    "Pictures": ("psnr", "psnr_person", "psnr_later", "psnr_person_later", "ssim", "ssim_person", "mae", "mae_person"),
    "Perception": (
        *("nlpd", "nlpd_person", "lpips_alex", "lpips_alex_person", "lpips_vgg", "lpips_vgg_person"),
        *("flicker", "flicker_person", "flicker_ratio"),
    ),
    "Pose": ("pck", "pck_head", "pck_arms", "pck_legs"),
    "Colors of garments": ("color", *(f"color_{name}" for name in GARMENTS)),
}


def to_markdown(report: Mapping[str, Any], *, sheet: str | None = None) -> str:
    """The report for people.

    Args:
      report: what `make_report` made.
      sheet: file name of the picture of the frames.
    """
    count = sum(report["videos"].values())
    intervals = f"; in brackets 95 % bootstrap intervals over people, {report['resamples']} resamples"
    lines = [TITLE, "", f"{report['people']} people, {len(report['videos'])} videos, {count} frames."]
    lines += ["", f"Means over all frames{intervals if report['resamples'] else ''}."]
    for title, names in TABLES.items():
        shown = [name for name in names if name in report["metrics"]]
        if not shown:
            continue
        lines += ["", f"## {title}", "", *_table(report, shown, "metrics", "intervals")]
        differences = _table(report, shown, "minus_copy", "minus_copy_intervals", signed=True)
        if len(differences) > 2:
            lines += ["", "Less the same of copying the reference, person by person:", "", *differences]
        lines += [
            "",
            *(f"- {COLUMNS[name].title}: {COLUMNS[name].meaning}." for name in shown if COLUMNS[name].meaning),
        ]
    if sheet:
        lines += ["", "## Frames", "", f"![reference, truth, result and copy of each video]({sheet})"]
    for title, remarks in (
        ("Not measured", [f"{name}: {why}" for name, why in report["absent"].items()]),
        ("Remarks", report["remarks"]),
    ):
        if remarks:
            lines += ["", f"## {title}", "", *(f"- {remark}" for remark in remarks)]
    return "\n".join(lines) + "\n"


def _table(
    report: Mapping[str, Any], names: Sequence[str], values: str, intervals: str, signed: bool = False
) -> list[str]:
    heads = [f"{COLUMNS[name].title} {'↑' if COLUMNS[name].higher else '↓'}" for name in names]
    lines = ["| " + " | ".join(["held-out videos by", *heads]) + " |", "|" + " --- |" * (len(heads) + 1)]
    for about in report["systems"].values():
        if not any(name in about[values] for name in names):
            continue
        cells = [_cell(about[values].get(name), about[intervals].get(name), name, signed) for name in names]
        lines.append("| " + " | ".join([about["title"].replace("|", "\\|"), *cells]) + " |")
    return lines


def _cell(value: float | None, interval: Sequence[float] | None, name: str, signed: bool) -> str:
    if value is None:
        return "-"
    number = f"{'+' if signed else ''}.{COLUMNS[name].digits}f"
    if interval is None:
        return f"{value:{number}}"
    return f"{value:{number}} [{interval[0]:{number}}, {interval[1]:{number}}]"
