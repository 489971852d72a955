"""report.json and the Markdown beside it."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from champ_jax.common.files import atomic_path
from champ_jax.evaluation.protocol import METRICS, Protocol
from champ_jax.evaluation.published import Table
from champ_jax.evaluation.states import Results, video_means

TITLE = "# Evaluation"  # the first line of the Markdown

_UNITS = {
    "psnr": "dB",
    "psnr_legacy": "dB",
    "mae": "levels of 0..255",
    "flicker": "levels of 0..255",
}


def make_report(
    results: Results,
    *,
    protocol_name: str,
    protocol: Protocol,
    metrics: Sequence[str],
    absent: Mapping[str, str],
    resamples: int,
) -> dict[str, Any]:
    """The content of report.json.

    Args:
      results: The results of all videos.
      protocol_name, protocol: the preset.
      metrics: names asked for.
      absent: {metric: why it was not measured}.
      resamples: The number of bootstrap resamples; 0 for no intervals.

    Returns:
      'protocol', 'statement', 'videos' (name, frames, metrics), 'metrics', 'confidence_intervals', 'absent', 'resized',
      'samples' (of the distances) and 'remarks'; only finite numbers.
    """
    absent, remarks = dict(absent), list(results.remarks)
    totals: dict[str, float] = {}
    intervals: dict[str, list[float]] = {}
    samples: dict[str, dict[str, int]] = {}
    for name in metrics:
        if name in absent:
            continue
        if METRICS[name].over == "set":
            value = results.distance(name)
            if value is None:
                absent[name] = "fewer than two samples on a side hold no covariance"
                continue
            counts = [gaussian.count for gaussian in results.sets[name]]
            dimension = results.sets[name][0].dimension
            samples[name] = {"predictions": counts[0], "ground_truth": counts[1], "features": dimension}
            if min(counts) <= dimension:
                remarks.append(
                    f"{name}: {min(counts)} samples for {dimension} features: the distance is biased upwards; compare "
                    "it only with figures from as many samples"
                )
        else:
            value = results.mean(name)
            if value is None:
                absent[name] = "no two neighboring frames" if METRICS[name].over == "pairs" else "no frames"
                continue
            if (interval := results.interval(name, resamples)) is not None:
                intervals[name] = list(interval)
        totals[name] = value
    videos = [
        {"name": name, "frames": results.frames[name], "metrics": _in_order(video_means(results.values[name]), metrics)}
        for name in sorted(results.frames)
    ]
    return {
        "protocol": protocol_name,
        "statement": protocol.statement,
        "videos": videos,
        "metrics": totals,
        "confidence_intervals": intervals,
        "absent": absent,
        "resized": dict(sorted(results.resized.items())),
        "samples": samples,
        "remarks": remarks,
    }


def _in_order(values: Mapping[str, float], metrics: Sequence[str]) -> dict[str, float]:
    return {name: values[name] for name in metrics if name in values}


def write_json(path: str | Path, report: Mapping[str, Any]) -> None:
    """Writes the report, whole or not at all; NaN and infinities would be a bug and raise ValueError."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(report, indent=2, allow_nan=False) + "\n")


def to_markdown(report: Mapping[str, Any], *, sheet: str | None = None, published: Table | None = None) -> str:
    """The report for people.

    Args:
      report: The report that `make_report` made.
      sheet: file name of the picture of the worst frames.
      published: others' table to print below.
    """
    lines = [TITLE, "", f"Protocol `{report['protocol']}`: {report['statement']}.", ""]
    rows = []
    for name, value in report["metrics"].items():
        metric = METRICS[name]
        interval = report["confidence_intervals"].get(name)
        rows.append(
            [
                f"{metric.title} {'↑' if metric.better == 'higher' else '↓'}",
                f"`{name}`",
                _number(value, name),
                f"{_number(interval[0], name)} to {_number(interval[1], name)}" if interval else "",
                _UNITS.get(name, ""),
            ]
        )
    count = sum(video["frames"] for video in report["videos"])
    lines += [f"## All {len(report['videos'])} videos, {count} frames", ""]
    lines += _table(["metric", "name", "value", "95 % interval over videos", "unit"], rows)
    names = list(dict.fromkeys(name for video in report["videos"] for name in video["metrics"]))
    lines += ["", "## Each video", ""]
    lines += _table(
        ["video", "frames", *names],
        [
            [video["name"], str(video["frames"]), *(_number(video["metrics"].get(name), name) for name in names)]
            for video in report["videos"]
        ],
    )
    if sheet:
        lines += ["", "## Worst frames", "", f"![ground truth, prediction and their difference]({sheet})"]
    for title, remarks in (
        ("Not measured", [f"`{name}`: {why}" for name, why in report["absent"].items()]),
        ("Resized", [f"{name}: {what}" for name, what in report["resized"].items()]),
        ("Remarks", report["remarks"]),
    ):
        if remarks:
            lines += ["", f"## {title}", "", *(f"- {remark}" for remark in remarks)]
    if published is not None:
        lines += ["", *_published(report, published)]
    return "\n".join(lines) + "\n"


def _published(report: Mapping[str, Any], table: Table) -> list[str]:
    own = ["**this report**", *(_number(report["metrics"].get(name), name) for name in table.columns)]
    others = [[system, *map(_given, figures)]
              for system, figures in table.rows.items()]  # fmt: skip
    return [
        f"## Others' figures: {table.title}",
        "",
        f"Copied from {table.source}; not computed here. Figures of different papers, data and clips do not mix, "
        "least of all distances.",
        "",
        *_table(["system", *(METRICS[name].title for name in table.columns)], [own, *others]),
    ]


def _number(value: float | None, name: str) -> str:
    if value is None:
        return "-"
    digits = METRICS[name].digits
    if value and abs(value) < 1e-2:
        return f"{value:.{digits - 1}e}"
    return f"{value:.{max(digits - 1 - math.floor(math.log10(abs(value))), 0) if value else digits}f}"


def _given(value: float | None) -> str:
    """A published figure with the digits it was given."""
    return "-" if value is None else f"{value:.2e}" if value < 1e-2 else f"{value:g}"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    escaped = [[cell.replace("|", "\\|") for cell in row] for row in (header, *rows)]
    first, *rest = ["| " + " | ".join(row) + " |" for row in escaped]
    return [first, "|" + " --- |" * len(header), *rest]
