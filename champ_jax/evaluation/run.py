"""An evaluation from its config to its files: checks, measures, writes the report."""

import contextlib
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import jax
import numpy as np
from flax import nnx
from jax.experimental import multihost_utils
from ml_collections import ConfigDict
from tqdm import tqdm

from champ_jax.common.errors import InputError
from champ_jax.common.files import write_text
from champ_jax.common.locks import hold
from champ_jax.common.outputs import PNG, Kind, Output, claim, json_with
from champ_jax.common.pictures import write_image
from champ_jax.common.ranges import check_config
from champ_jax.evaluation import network_weights, published, report, sheet, videos, warping
from champ_jax.evaluation.config import RULES
from champ_jax.evaluation.evaluator import Evaluator
from champ_jax.evaluation.protocol import METRICS, PROTOCOLS, metric_names
from champ_jax.evaluation.states import Results

_REPORT = json_with("a report of an evaluation", "protocol", "metrics", "videos")
_MARKDOWN = Kind("a report of an evaluation", lambda path: path.read_bytes().startswith(report.TITLE.encode()))


def evaluate(config: ConfigDict) -> dict:
    """Runs the evaluation that `config` describes, writes its files and prints the metrics.

    Args:
      config: A config that `evaluation.config.get_config` made.

    Returns:
      The content of report.json.

    Raises:
      InputError: a setting or an input file is wrong, an output may not be written over, or nothing can be measured.
    """
    check_config(config, RULES)
    for field in ("predictions", "ground_truth"):
        if not config[field]:
            raise InputError(f"--config.{field} is not set; name a folder of videos, of frames, or a video file")
    files = _ReportFiles(config.output)
    files.claim([config.predictions, config.ground_truth, *filter(None, [config.weights])])
    protocol = PROTOCOLS[config.protocol]
    metrics = metric_names(config.metrics, protocol.metrics)
    networks, absent = _load_networks(config.weights, metrics)
    measured = [name for name in metrics if name not in absent]
    if not measured:
        raise InputError(f"--config.metrics: none can be measured: {_reasons(absent)}")
    pairs, remarks = videos.match_videos(
        videos.find_videos(config.predictions, "predictions"),
        videos.find_videos(config.ground_truth, "ground_truth"),
        missing=config.missing,
        lengths=config.lengths,
    )
    with files.held():
        results = _gather(_measure_share(Evaluator(measured, networks, protocol), pairs, remarks))
        content = report.make_report(
            results,
            protocol_name=config.protocol,
            protocol=protocol,
            metrics=metrics,
            absent=absent,
            resamples=config.resamples,
        )
        if not content["metrics"]:
            raise InputError(f"{config.predictions}: no metric could be measured: {_reasons(content['absent'])}")
        if jax.process_index() == 0:
            worst = sheet.worst_frames(results, config.worst_frames)
            page = None
            if worst is not None and worst[1]:
                page = sheet.draw_sheet(worst[1], worst[0], {pair.name: pair for pair in pairs}, protocol)
            files.write(content, page, published.TABLES[config.published] if config.published else None)
            _print_metrics(content, files)
    return content


class _ReportFiles:
    """The files of a report: OUTPUT.json, OUTPUT.md and, unless no page is wanted, OUTPUT_worst.png."""

    def __init__(self, output: str):
        self.json = Path(output)
        if self.json.suffix != ".json":
            raise InputError(f"--config.output={output}: name a .json file")
        self.markdown = self.json.with_suffix(".md")
        self.sheet = self.json.with_name(f"{self.json.stem}_worst.png")

    def claim(self, inputs: Sequence[str]) -> None:
        """Raises InputError if one of them may not be written over or cannot be written."""
        kinds = {self.json: _REPORT, self.markdown: _MARKDOWN, self.sheet: PNG}
        claim([Output("--config.output", path, kind) for path, kind in kinds.items()], inputs)

    def held(self) -> contextlib.AbstractContextManager[None]:
        """Keeps other runs from writing them; the first process holds them for all."""
        return hold(self.json, self.markdown, self.sheet) if jax.process_index() == 0 else contextlib.nullcontext()

    def write(self, content: dict, page: np.ndarray | None, table: published.Table | None) -> None:
        """Writes the picture, the Markdown and, last, the JSON: where it exists, all of them do."""
        if page is None:
            self.sheet.unlink(missing_ok=True)  # an earlier report's
        else:
            write_image(self.sheet, page)
        name = None if page is None else self.sheet.name
        write_text(self.markdown, report.to_markdown(content, sheet=name, published=table))
        report.write_json(self.json, content)


def _load_networks(folder: str | None, metrics: Sequence[str]) -> tuple[dict[str, nnx.Module], dict[str, str]]:
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
    if "warping_error" in metrics and not warping.is_available():
        absent["warping_error"] = "needs OpenCV: pip install 'champ_jax[evaluate]'"
    return networks, absent


def _measure_share(evaluator: Evaluator, pairs: Sequence[videos.Pair], remarks: Sequence[str]) -> Results:
    """What this process measures: every n-th video of n processes."""
    results = Results(remarks=list(remarks))
    share = pairs[jax.process_index() :: jax.process_count()]
    with tqdm(total=sum(pair.count for pair in share), unit="frame", disable=None) as bar:
        for pair in share:
            results = results.merge(evaluator.measure(pair, bar.update))
    return results


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


def _print_metrics(content: dict, files: _ReportFiles) -> None:
    for name, value in content["metrics"].items():
        print(f"{name:14s} {value:.6g}")
    for name, why in content["absent"].items():
        print(f"{name:14s} not measured: {why}", file=sys.stderr)
    for remark in content["remarks"]:
        print(f"remark: {remark}", file=sys.stderr)
    print(f"-> {files.json}, {files.markdown}")


def _reasons(absent: Mapping[str, str]) -> str:
    return "; ".join(f"{name}: {why}" for name, why in absent.items())
