"""Measures a model on held-out people beside copying the reference, the nearest training frame and its autoencoder.

  python tools/report_builtin.py --held_out=DIR/held_out/test --train=DIR/people/train --predictions=OUT \
      --weights=WEIGHTS --output=REPORT.json

OUT/VIDEO/NNNN.png are the frames that tools/predict_held_out.py made; several folders, separated by commas, are
compared. DIR/held_out and DIR/people were made by tools/make_people.py. REPORT.md and REPORT_sheet.png appear beside
the JSON, and REPORT_detector.safetensors: the detector of key points, trained on DIR/people/train in some minutes and
used again while that does not change. docs/evaluation.md says what every column means.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from champ_jax.common.cli import Parser, run
from champ_jax.common.errors import InputError
from champ_jax.common.files import write_json, write_text
from champ_jax.common.locks import hold
from champ_jax.common.outputs import PNG, Kind, Output, claim, json_with
from champ_jax.common.pictures import read_image, write_image
from champ_jax.common.progress import Progress
from champ_jax.common.ranges import Choice, Integer
from champ_jax.conditions.sources import open_conditions
from champ_jax.data.synthetic import garments
from champ_jax.data.synthetic.many_videos import RECORD
from champ_jax.evaluation import keypoint_detector, pose
from champ_jax.evaluation.baselines import find_nearest, find_people
from champ_jax.evaluation.colors import measure_colors
from champ_jax.evaluation.held_out import Comparison, TrueVideo, choose_videos
from champ_jax.evaluation.held_out_report import COPY, TITLE, make_report, to_markdown
from champ_jax.evaluation.held_out_sheet import Row, chosen_frames, draw_sheet
from champ_jax.evaluation.perceptual import Perceptual
from champ_jax.evaluation.regions import Values, measure_frames
from champ_jax.inference.autoencoder import Autoencoder
from champ_jax.inference.pipeline import ChampPipeline
from champ_jax.inference.settings import Settings
from champ_jax.weights.opening import Weights, open_weights

_REPORT = json_with("a report on held-out people", "people", "videos", "systems")
_MARKDOWN = Kind("a report on held-out people", lambda path: path.read_bytes().startswith(TITLE.encode()))
_DETECTOR = Kind("a key point detector", lambda path: keypoint_detector.trained_on(path) is not None)
_NEAREST, _AUTOENCODER, _LOW_NOISE, _TRUTH = "nearest", "autoencoder", "low_noise", "truth"
_TITLES = {
    COPY: "the reference picture, copied",
    _NEAREST: "the nearest training frame",
    _AUTOENCODER: "the autoencoder alone (a ceiling)",
    _LOW_NOISE: "the denoiser from true latents at timestep {} (a ceiling)",
    _TRUTH: "the true frames (the detector's ceiling)",
}

System = Callable[[TrueVideo], np.ndarray]
Measure = Callable[[TrueVideo, np.ndarray], Mapping[str, Values]]


def main(argv: Sequence[str]) -> None:
    options = _parser().parse_args(argv)
    predictions = _name_predictions(options.predictions)
    if options.low_noise is not None and options.weights is None:
        raise InputError(f"--low_noise={options.low_noise}: needs --weights")
    output = Path(options.output)
    if output.suffix != ".json":
        raise InputError(f"--output={options.output}: name a .json file")
    markdown, sheet = output.with_suffix(".md"), output.with_name(f"{output.stem}_sheet.png")
    detector = Path(options.detector or output.with_name(f"{output.stem}_detector.safetensors"))
    if options.detector and not options.train and not os.path.lexists(detector):
        raise InputError(f"--detector={detector}: no such file; give --train to train one")
    everyone = find_people(options.held_out)
    videos, remarks = choose_videos(everyone, list(predictions.values()), options.missing)
    train = find_people(options.train) if options.train else []
    weights = open_weights(options.weights) if options.weights else None
    inputs = [*everyone, *train, *(folder / video.name for folder in predictions.values() for video in videos)]
    inputs += [*(weights.files if weights else []), *([options.lpips] if options.lpips else [])]
    kinds = {output: _REPORT, markdown: _MARKDOWN, sheet: PNG, **({detector: _DETECTOR} if train else {})}
    claim(
        [Output("--output" if path != detector else "--detector", path, kind) for path, kind in kinds.items()], inputs
    )
    with hold(*kinds):
        absent: dict[str, str] = {}
        perceptual = Perceptual(options.lpips) if options.lpips else None
        measures = _measures(videos, train, detector, options.detector_steps, absent)
        if perceptual is not None:
            measures["lpips"] = lambda truth, frames: perceptual.measure(truth.frames, frames, truth.inside)
        systems = _systems(videos, predictions, train, weights, options.low_noise, absent)
        comparison, rows = _measure(videos, systems, measures, [*predictions, COPY])
        titles = _prediction_titles(predictions) | _TITLES
        titles[_LOW_NOISE] = titles[_LOW_NOISE].format(options.low_noise)
        report = make_report(comparison, titles, resamples=options.resamples, absent=absent, remarks=remarks)
        write_image(sheet, draw_sheet(rows))
        write_text(markdown, to_markdown(report, sheet=sheet.name))
        write_json(output, report)
    for name, about in report["systems"].items():
        print(name, *(f"{metric}={value:.4g}" for metric, value in about["metrics"].items()))
    print(f"-> {output}, {markdown}, {sheet}")


def _parser() -> Parser:
    parser = Parser(description=__doc__)
    parser.add_argument("--held_out", required=True, help="folder of the true videos")
    parser.add_argument("--predictions", required=True, help="folders of VIDEO/NNNN.png, separated by commas")
    parser.add_argument("--train", help="folder of the training videos; without it, what needs them is left out")
    parser.add_argument("--weights", help="the model's, or its autoencoder's, for the ceilings")
    parser.add_argument("--output", required=True, help="the .json")
    parser.add_argument(
        "--low_noise",
        type=Integer(minimum=0, maximum=99_999),
        help="a timestep, such as 200: also true latents with the noise of this timestep, denoised in one step",
    )
    parser.add_argument("--lpips", help="folder of LPIPS's weights that `champ convert` wrote")
    parser.add_argument("--detector", help="where the detector is kept (OUTPUT_detector.safetensors)")
    parser.add_argument(
        "--detector_steps", type=Integer(minimum=1, maximum=1_000_000), default=600, help="of training (%(default)s)"
    )
    parser.add_argument(
        "--missing", type=Choice("refuse", "skip"), default="refuse", help="videos without a prediction (%(default)s)"
    )
    parser.add_argument(
        "--resamples", type=Integer(minimum=0, maximum=100_000), default=1000, help="of the bootstrap (%(default)s)"
    )
    return parser


def _name_predictions(text: str) -> dict[str, Path]:
    """{name: folder}; a folder's own name stands for it."""
    folders = [Path(folder) for folder in text.split(",")]
    names = [folder.name for folder in folders]
    for name, folder in zip(names, folders):
        if not name or names.count(name) > 1 or name in _TITLES:
            raise InputError(f"--predictions={text}: {folder} needs a name of its own; rename the folder")
    return dict(zip(names, folders))


def _prediction_titles(predictions: Mapping[str, Path]) -> dict[str, str]:
    return {name: "the model" if len(predictions) == 1 else name for name in predictions}


def _systems(
    videos: Sequence[Path],
    predictions: Mapping[str, Path],
    train: Sequence[Path],
    weights: Weights | None,
    low_noise: int | None,
    absent: dict[str, str],
) -> dict[str, System]:
    """{name: what gives its frames of a true video}; `absent` learns what there cannot be."""
    systems: dict[str, System] = {name: _read(folder) for name, folder in predictions.items()}
    systems[COPY] = lambda truth: np.repeat(truth.frames[:1], len(truth.frames), axis=0)
    if train:
        systems[_NEAREST] = _nearest(find_nearest(videos, train))
    else:
        absent["the nearest training frame"] = "needs --train"
    if weights is None:
        absent["the autoencoder alone"] = "needs --weights"
        return systems
    autoencoder = Autoencoder(weights)
    systems[_AUTOENCODER] = lambda truth: autoencoder.decode(autoencoder.encode(truth.frames))
    if low_noise is not None:
        systems[_LOW_NOISE] = _restorer(weights, autoencoder, low_noise)
    return systems


def _read(folder: Path) -> System:
    return lambda truth: truth.read_result(folder)


def _nearest(found: Iterator[list[Path]]) -> System:
    """The videos come in the order in which they are looked for."""
    return lambda truth: np.stack([read_image(path) for path in next(found)])


def _restorer(weights: Weights, autoencoder: Autoencoder, timestep: int) -> System:
    pipeline = ChampPipeline.from_weights(weights, dtype="float32")
    Integer(minimum=0, maximum=weights.model.inference.length - 1).check("--low_noise", timestep)

    def restore(truth: TrueVideo) -> np.ndarray:
        height, width = truth.frames.shape[1:3]
        conditions, _ = open_conditions(truth.folder, conditions=weights.model.conditions)
        settings = Settings(width=width, height=height, guidance_scale=1.0)
        latents, quiet = autoencoder.encode(truth.frames), Progress(quiet=True)
        return pipeline.restore(latents, truth.frames[0], conditions, settings, timestep, progress=quiet).frames

    return restore


def _measures(
    videos: Sequence[Path], train: Sequence[Path], detector: Path, steps: int, absent: dict[str, str]
) -> dict[str, Measure]:
    """{name: what measures a result}; `absent` learns what cannot be measured."""
    measures: dict[str, Measure] = {"frames": lambda truth, result: measure_frames(truth.frames, result, truth.inside)}
    if all(os.path.lexists(folder.parent.parent / RECORD) for folder in videos):
        measures["colors"] = _colors(videos)
    else:
        absent["colors of garments"] = f"the held-out folder has no {RECORD} above it, which says who the people are"
    if train or os.path.lexists(detector):
        measures["pose"] = _pose(_detector(train, detector, steps))
    else:
        absent["the pose"] = "needs --train, or --detector"
    return measures


def _colors(videos: Sequence[Path]) -> Measure:
    takes = {folder.name: garments.read_take(folder) for folder in videos}
    names = {number: name for number, name in enumerate(garments.NAMES) if name}
    labels: dict[str, np.ndarray] = {}

    def measure(truth: TrueVideo, result: np.ndarray) -> Mapping[str, Values]:
        if truth.name not in labels:
            labels.clear()  # results come video by video
            labels[truth.name] = garments.draw_labels(takes[truth.name])
        return measure_colors(truth.frames, result, labels[truth.name], names)

    return measure


def _detector(train: Sequence[Path], path: Path, steps: int) -> keypoint_detector.Detector:
    """The detector in the file, or a new one where the training videos are others."""
    if not train:
        return keypoint_detector.load(path)
    digest = pose.training_digest(train, steps)
    if path.is_file() and path.stat().st_size and keypoint_detector.trained_on(path) == digest:
        return keypoint_detector.load(path)
    pictures, points = pose.read_training_set(train)
    return keypoint_detector.train(pictures, points, digest, path, steps=steps)


def _pose(detector: keypoint_detector.Detector) -> Measure:
    def measure(truth: TrueVideo, result: np.ndarray) -> Mapping[str, Values]:
        height, width = result.shape[1:3]
        true = pose.TruePose.read(truth.folder, (width, height), len(result))
        return pose.measure_pose(detector.points(result), true)

    return measure


def _measure(
    videos: Sequence[Path], systems: Mapping[str, System], measures: Mapping[str, Measure], shown: Sequence[str]
) -> tuple[Comparison, list[Row]]:
    comparison, rows, ceilings = Comparison(), [], {}
    for folder in tqdm(videos, unit="video", desc="measure", disable=None):
        truth = TrueVideo.read(folder)
        results = {name: system(truth) for name, system in systems.items()}
        for name, frames in results.items():
            for measure in measures.values():
                comparison.add(name, truth.name, measure(truth, frames))
        if "pose" in measures:
            ceilings[truth.name] = measures["pose"](truth, truth.frames)
        rows.append(_row(truth, results, comparison, shown))
    for name, values in ceilings.items():  # the last system of the tables
        comparison.add(_TRUTH, name, values)
    return comparison, rows


def _row(truth: TrueVideo, results: Mapping[str, np.ndarray], comparison: Comparison, shown: Sequence[str]) -> Row:
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
