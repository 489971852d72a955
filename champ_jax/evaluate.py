"""Scores predicted videos against ground truth.

    python -m champ_jax.evaluate --config.predictions=DIR --config.ground_truth=DIR --config.output=report.json
      [--config.protocol=correct|tiktok] [--config.weights=DIR] [--config.metrics=psnr,ssim,...]

Both sides are a folder of videos (files, or folders of frames) matched by name, one folder of frames, or one video
file. Writes report.json, a Markdown report beside it and a picture of the worst frames. docs/evaluation.md defines
every metric.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np
from flax import nnx
from jax.experimental import multihost_utils
from ml_collections import ConfigDict
from tqdm import tqdm

from champ_jax.common.cli import parse_config, run
from champ_jax.common.cluster import join_cluster
from champ_jax.common.errors import InputError
from champ_jax.common.files import atomic_path
from champ_jax.common.pictures import write_image
from champ_jax.evaluation import network_weights, published, report, sheet, videos, warping
from champ_jax.evaluation.config import get_config
from champ_jax.evaluation.evaluator import Evaluator
from champ_jax.evaluation.protocol import METRICS, Protocol, metric_names, protocol
from champ_jax.evaluation.states import Results


def evaluate(config: ConfigDict) -> dict:
    """Runs the evaluation that `config` describes, writes the files and returns the content of report.json.

    Raises:
      InputError: a setting or an input file is wrong.
    """
    preset = protocol(config.protocol)
    metrics = metric_names(config.metrics, preset.metrics)
    table = published.table(config.published) if config.published else None
    for field, choices in (("missing", ("refuse", "skip")), ("lengths", ("strict", "shortest"))):
        if config[field] not in choices:
            raise InputError(f"--config.{field}={config[field]}: is {' or '.join(choices)}")
    for field in ("predictions", "ground_truth"):
        if not config[field]:
            raise InputError(f"--config.{field} is not set; name a folder of videos, of frames, or a video file")
    output = Path(config.output)
    if output.suffix != ".json":
        raise InputError(f"--config.output={output}: name a .json file")
    networks, absent = _networks(config.weights, metrics)
    pairs, remarks = videos.match_videos(
        videos.find_videos(config.predictions, "predictions"),
        videos.find_videos(config.ground_truth, "ground_truth"),
        missing=config.missing,
        lengths=config.lengths,
    )
    evaluator = Evaluator([name for name in metrics if name not in absent], networks, preset)
    mine = pairs[jax.process_index() :: jax.process_count()]
    results = Results(remarks=remarks)
    with tqdm(total=sum(pair.count for pair in mine), unit="frame", disable=None) as bar:
        for pair in mine:
            results = results.merge(evaluator.measure(pair, bar.update))
    results = _gather(results)
    content = report.make_report(
        results,
        protocol_name=config.protocol,
        protocol=preset,
        metrics=metrics,
        absent=absent,
        resamples=config.resamples,
    )
    if jax.process_index() == 0:
        _write(output, content, results, pairs, preset, table, config.worst_frames)
    return content


def _networks(folder: str | None, metrics: Sequence[str]) -> tuple[dict[str, nnx.Module], dict[str, str]]:
    """The networks that `metrics` look through, and {metric: why it cannot be measured}."""
    networks: dict[str, nnx.Module] = {}
    absent: dict[str, str] = {}
    for name in metrics:
        network = METRICS[name].network
        if network and network not in networks:
            loaded = network_weights.load(folder, network) if folder else None
            if loaded is not None:
                networks[network] = loaded
            elif folder:
                absent[name] = f"{folder} lacks {network}.safetensors; convert the published file into it"
            else:
                absent[name] = f"needs the weights of {network}: set --config.weights (docs/evaluation.md)"
    if "warping_error" in metrics and not warping.available():
        absent["warping_error"] = "needs OpenCV: pip install 'champ_jax[evaluate]'"
    return networks, absent


def _gather(results: Results) -> Results:
    """The results of all hosts, the same on every one."""
    if jax.process_count() == 1:
        return results
    data = np.frombuffer(results.to_bytes(), np.uint8)
    sizes = multihost_utils.process_allgather(np.array([len(data)])).reshape(-1)
    padded = np.zeros(int(sizes.max()), np.uint8)
    padded[: len(data)] = data
    merged = Results()
    for row, size in zip(multihost_utils.process_allgather(padded), sizes):
        merged = merged.merge(Results.from_bytes(row[: int(size)].tobytes()))
    return merged


def _write(
    output: Path,
    content: dict,
    results: Results,
    pairs: Sequence[videos.Pair],
    preset: Protocol,
    table: published.Table | None,
    count: int,
) -> None:
    """The picture, the Markdown and, last, the JSON: where it lies, all of it does."""
    picture = None
    worst = sheet.worst_frames(results, count)
    if worst is not None and worst[1]:
        picture = output.with_name(f"{output.stem}_worst.png")
        write_image(picture, sheet.draw_sheet(worst[1], worst[0], {pair.name: pair for pair in pairs}, preset))
    text = report.markdown(content, sheet=picture.name if picture else None, published=table)
    with atomic_path(output.with_suffix(".md")) as temporary:
        temporary.write_text(text)
    report.write_json(output, content)


def main(argv: Sequence[str]) -> None:
    config, _ = parse_config(argv, get_config, description=__doc__)
    with join_cluster(config.distributed):
        _print(config, evaluate(config))


def _print(config: ConfigDict, content: dict) -> None:
    """The metrics, by the first process alone."""
    if jax.process_index() == 0:
        for name, value in content["metrics"].items():
            print(f"{name:14s} {value:.6g}")
        for name, why in content["absent"].items():
            print(f"{name:14s} not measured: {why}", file=sys.stderr)
        for remark in content["remarks"]:
            print(f"remark: {remark}", file=sys.stderr)
        print(f"-> {config.output}, {Path(config.output).with_suffix('.md')}")


if __name__ == "__main__":
    run(main)
