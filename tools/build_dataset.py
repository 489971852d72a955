"""Writes folders of videos as a dataset to train on.

  python tools/build_dataset.py --source=DIR --output=DATASET

A source holds videos at any depth: VIDEO/{images,depth,normal,semantic_map,dwpose,mask}/NNNN.png, and human_bbox.json
if there are boxes of the person. Every picture is checked. What cannot be used is left out and named with the reason,
here and in DATASET/report.json. The same command again adds what is new and continues a run that was killed.
"""

import os
import sys
from collections.abc import Sequence

from champ_jax.cli import Parser, run
from champ_jax.data.build import REPORT, build_dataset
from champ_jax.data.motion_folder import CONDITIONS

_SHOWN = 20  # lines of a report on the screen


def main(argv: Sequence[str]) -> int:
    parser = Parser(description=__doc__)
    parser.add_argument(
        "--source", nargs="+", action="extend", required=True, help="folders of videos; may be repeated"
    )
    parser.add_argument("--output", required=True, help="the dataset's folder")
    parser.add_argument("--conditions", default=",".join(CONDITIONS), help="folders a video must have (%(default)s)")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="processes (%(default)s)")
    parser.add_argument("--runner", help="an Apache Beam runner instead of processes of this machine")
    parser.add_argument("--runner_options", default="", help="Beam's pipeline options, separated by spaces")
    options = parser.parse_args(argv)
    report = build_dataset(
        options.source,
        options.output,
        conditions=tuple(options.conditions.split(",")),
        workers=options.workers,
        runner=options.runner,
        runner_options=options.runner_options.split(),
    )
    lines = [f"left out {entry['name']}: {entry['reason']}" for entry in report["left_out"]]
    lines += [f"note on {entry['name']}: {entry['note']}" for entry in report["notes"]]
    for line in lines[:_SHOWN]:
        print(line, file=sys.stderr)
    if len(lines) > _SHOWN:
        print(f"... and {len(lines) - _SHOWN} more in {options.output}/{REPORT}", file=sys.stderr)
    print(
        f"{options.output}: {report['videos']} videos, {report['frames']} frames; "
        f"{len(report['added'])} added, {len(report['left_out'])} left out",
        file=sys.stderr,
    )
    return 0


if __name__ == "__main__":
    run(main)
