"""Measures a model on held-out people beside copying the reference and the nearest training frame.

  python tools/report_builtin.py --held_out=DIR/held_out/test --train=DIR/people/train --predictions=OUT \
      --output=REPORT.json

OUT/VIDEO/NNNN.png are the frames that tools/predict_held_out.py made; several folders, separated by commas, are
compared. DIR/held_out and DIR/people were made by tools/make_people.py. REPORT.md and REPORT_sheet.png appear beside
the JSON. docs/evaluation.md says what every column means.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from champ_jax.common.cli import Parser, run
from champ_jax.common.errors import InputError
from champ_jax.common.files import write_json, write_text
from champ_jax.common.locks import hold
from champ_jax.common.outputs import PNG, Kind, Output, claim, json_with
from champ_jax.common.pictures import read_image, write_image
from champ_jax.common.ranges import Choice, Integer
from champ_jax.evaluation.baselines import find_nearest, find_people
from champ_jax.evaluation.held_out import Comparison, TrueVideo, choose_videos
from champ_jax.evaluation.held_out_report import COPY, TITLE, make_report, to_markdown
from champ_jax.evaluation.held_out_sheet import Row, chosen_frames, draw_sheet
from champ_jax.evaluation.regions import measure_frames

_REPORT = json_with("a report on held-out people", "people", "videos", "systems")
_MARKDOWN = Kind("a report on held-out people", lambda path: path.read_bytes().startswith(TITLE.encode()))
_NEAREST = "nearest"
_TITLES = {COPY: "the reference picture, copied", _NEAREST: "the nearest training frame"}

System = Callable[[TrueVideo], np.ndarray]


def main(argv: Sequence[str]) -> None:
    parser = Parser(description=__doc__)
    parser.add_argument("--held_out", required=True, help="folder of the true videos")
    parser.add_argument("--predictions", required=True, help="folders of VIDEO/NNNN.png, separated by commas")
    parser.add_argument("--train", help="folder of the training videos; without it, what needs them is left out")
    parser.add_argument("--output", required=True, help="the .json")
    parser.add_argument(
        "--missing", type=Choice("refuse", "skip"), default="refuse", help="videos without a prediction (%(default)s)"
    )
    parser.add_argument(
        "--resamples", type=Integer(minimum=0, maximum=100_000), default=1000, help="of the bootstrap (%(default)s)"
    )
    options = parser.parse_args(argv)
    predictions = _name_predictions(options.predictions)
    output = Path(options.output)
    if output.suffix != ".json":
        raise InputError(f"--output={options.output}: name a .json file")
    markdown, sheet = output.with_suffix(".md"), output.with_name(f"{output.stem}_sheet.png")
    everyone = find_people(options.held_out)
    videos, remarks = choose_videos(everyone, list(predictions.values()), options.missing)
    train = find_people(options.train) if options.train else []
    inputs = [*everyone, *train, *(folder / video.name for folder in predictions.values() for video in videos)]
    kinds = {output: _REPORT, markdown: _MARKDOWN, sheet: PNG}
    claim([Output("--output", path, kind) for path, kind in kinds.items()], inputs)
    with hold(output, markdown, sheet):
        systems: dict[str, System] = {name: _read(folder) for name, folder in predictions.items()}
        systems[COPY] = lambda truth: np.repeat(truth.frames[:1], len(truth.frames), axis=0)
        absent = {}
        if train:
            systems[_NEAREST] = _nearest(find_nearest(videos, train))
        else:
            absent["the nearest training frame"] = "needs --train"
        comparison, rows = _measure(videos, systems, list(predictions))
        titles = {**_prediction_titles(predictions), **_TITLES}
        report = make_report(comparison, titles, resamples=options.resamples, absent=absent, remarks=remarks)
        write_image(sheet, draw_sheet(rows))
        write_text(markdown, to_markdown(report, sheet=sheet.name))
        write_json(output, report)
    for name, about in report["systems"].items():
        print(name, *(f"{metric}={value:.4g}" for metric, value in about["metrics"].items()))
    print(f"-> {output}, {markdown}, {sheet}")


def _name_predictions(text: str) -> dict[str, Path]:
    """{name: folder}; a folder's own name stands for it."""
    folders = [Path(folder) for folder in text.split(",")]
    names = [folder.name for folder in folders]
    for name, folder in zip(names, folders):
        if not name or names.count(name) > 1 or name in _TITLES:
            raise InputError(f"--predictions={text}: {folder} needs a name of its own; rename the folder")
    return dict(zip(names, folders))


def _prediction_titles(predictions: Sequence[str]) -> dict[str, str]:
    return {name: "the model" if len(predictions) == 1 else name for name in predictions}


def _read(folder: Path) -> System:
    return lambda truth: truth.read_result(folder)


def _nearest(found: Iterator[list[Path]]) -> System:
    """The videos come in the order in which they are looked for."""
    return lambda truth: np.stack([read_image(path) for path in next(found)])


def _measure(videos: Sequence[Path], systems: dict[str, System], shown: Sequence[str]) -> tuple[Comparison, list[Row]]:
    comparison, rows = Comparison(), []
    for folder in tqdm(videos, unit="video", desc="measure", disable=None):
        truth = TrueVideo.read(folder)
        results = {}
        for name, system in systems.items():
            frames = system(truth)
            comparison.add(name, truth.name, measure_frames(truth.frames, frames, truth.inside))
            results[name] = frames
        rows.append(_row(truth, results, comparison, [*shown, COPY]))
    return comparison, rows


def _row(truth: TrueVideo, results: dict[str, np.ndarray], comparison: Comparison, shown: Sequence[str]) -> Row:
    curves = {}
    for name in results:
        values = comparison.of_video(name, "psnr_person", truth.name)
        curves[name] = np.where(values.weights > 0, values.totals, np.nan)
    panels = []
    for index in chosen_frames(len(truth.frames)):
        panels.append((f"frame {index + 1} truth", truth.frames[index]))
        panels += [(f"{name} {curves[name][index]:.1f} dB", results[name][index]) for name in shown]
    return Row(truth.name, truth.frames[0], panels, curves)


if __name__ == "__main__":
    run(main)
