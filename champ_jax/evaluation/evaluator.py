"""Measures videos one after the other, in batches, each frame read once and each feature computed once."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import numpy as np
from flax import nnx

from champ_jax.common.errors import InputError
from champ_jax.evaluation import clips, frames, resize
from champ_jax.evaluation.devices import LocalDevices, pad_batch
from champ_jax.evaluation.frechet import Gaussian
from champ_jax.evaluation.networks import inception, lpips
from champ_jax.evaluation.protocol import CLIPS, LPIPS, METRICS, PAIRWISE, Protocol
from champ_jax.evaluation.states import Results
from champ_jax.evaluation.videos import Pair
from champ_jax.evaluation.warping import WarpingError

# Pixels worked on at once at the frames' own size, for each frame of a chunk: on a CPU they should fit its cache.
_PIXELS_PER_FRAME = {"cpu": 2 * 256 * 256 // 8, "accelerator": 256 * 256}

# Feature vectors kept before they are merged into a Gaussian: bounds the memory of long videos.
_BUFFERED = 512


class Evaluator:
    """Holds the compiled networks.

    Args:
      metrics: names (`protocol.METRICS`); those whose network is not in `networks` are left out.
      networks: {name: module} (`network_weights.load`).
      protocol: how frames are brought to size.
      devices: the local ones if left out.
    """

    def __init__(
        self,
        metrics: Sequence[str],
        networks: Mapping[str, nnx.Module],
        protocol: Protocol,
        devices: LocalDevices | None = None,
    ):
        self.devices = devices or LocalDevices()
        self.protocol = protocol
        self.metrics = [name for name in metrics if METRICS[name].network in (None, *networks)]
        self._chunk = self.devices.share(cpu=8, accelerator=64) * self.devices.count
        bind = self.devices.bind
        self._lpips: dict[str, Callable[..., jax.Array]] = {}
        for name in LPIPS:
            if name in self.metrics:
                signed = name != "lpips_legacy"
                self._lpips[name] = bind(networks[METRICS[name].network], _lpips_of(signed))
        self._inception = None
        if "fid" in self.metrics:
            self._inception = bind(networks["fid_inception"], lambda model, x: model(x))
        self._clips: dict[str, tuple[Callable[..., jax.Array], Callable[..., jax.Array], int]] = {}
        for name in CLIPS:
            if name in self.metrics:
                network = clips.NETWORKS[METRICS[name].network]
                compiled = bind(networks[METRICS[name].network], network.windows)
                self._clips[name] = network.prepare, compiled, self.devices.share(*network.at_once)

    def measure(self, pair: Pair, progress: Callable[[int], Any] = lambda frames: None) -> Results:
        """All metrics of one video.

        Args:
          pair: A pair from `videos.match_videos`.
          progress: called with the number of further frames that are done.

        Raises:
          InputError: a frame cannot be read, changes size or is too small for a metric.
        """
        results = Results(frames={pair.name: pair.count})
        sides: list[dict[str, _Features]] = [{}, {}]  # of the ground truth, of the prediction
        for side in sides:
            for name in ("fid", *CLIPS):
                if name in self.metrics:
                    side[name] = _Features()
        windows = {
            name: [clips.ClipFeatures(compiled, self.devices, count) for _ in sides]
            for name, (_, compiled, count) in self._clips.items()
        }
        warping = WarpingError() if "warping_error" in self.metrics else None
        values: dict[str, list[np.ndarray]] = {}
        last: tuple[np.ndarray, np.ndarray] | None = None
        for truth, prediction in _prefetched(self._chunks(pair, results)):
            for name, array in self._frame_values(truth, prediction, last).items():
                values.setdefault(name, []).append(array)
            if warping is not None:
                errors = [warping(t, p) for t, p in zip(truth, prediction)]
                values.setdefault("warping_error", []).append(np.array([e for e in errors if e is not None]))
            for index, side in enumerate((truth, prediction)):
                batch = pad_batch(side, self._chunk)
                if self._inception is not None:
                    features = self._inception(inception_frames(self.devices.put(batch)))
                    sides[index]["fid"].add(np.asarray(features)[: len(side)])
                for name, (prepare, _, _) in self._clips.items():
                    prepared = np.asarray(prepare(self.devices.put(batch)))[: len(side)]
                    for features in windows[name][index].add(prepared):
                        sides[index][name].add(features)
            last = truth[-1], prediction[-1]
            progress(len(truth))
        for name, collectors in windows.items():
            for index, collector in enumerate(collectors):
                for features in collector.finish():
                    sides[index][name].add(features)
        results.values[pair.name] = {name: np.concatenate(parts) for name, parts in values.items()}
        for name, features in sides[1].items():
            if features.dimension:
                results.add_set(name, features.gaussian(), sides[0][name].gaussian())
        if windows and pair.count < clips.LENGTH:
            results.remarks.append(
                f"{pair.name}: {pair.count} frames are fewer than the {clips.LENGTH} of a clip; left out of "
                + " and ".join(METRICS[name].title for name in windows)
            )
        return results

    def _frame_values(
        self, truth: np.ndarray, prediction: np.ndarray, last: tuple[np.ndarray, np.ndarray] | None
    ) -> dict[str, np.ndarray]:
        """Values (n,) of every frame metric and of flicker for a chunk; `last` are the frames before it."""
        height, width = truth.shape[1:3]
        pixels = _PIXELS_PER_FRAME["cpu" if self.devices.platform == "cpu" else "accelerator"]
        size = min(self._chunk * pixels // (height * width), self._chunk)
        size = max(size // self.devices.count, 1) * self.devices.count
        pairwise = [name for name in PAIRWISE if name in self.metrics]
        found: dict[str, list[np.ndarray]] = {}
        for start in range(0, len(truth), size):
            batch = [side[start : start + size] for side in (truth, prediction)]
            count = len(batch[0])
            put = [self.devices.put(pad_batch(side, size)) for side in batch]
            if pairwise:
                measured = frames.pairwise(*put)
                for name in pairwise:
                    found.setdefault(name, []).append(measured[name][:count])
            for name, compiled in self._lpips.items():
                found.setdefault(name, []).append(np.asarray(compiled(*put), np.float64)[:count])
            if "flicker" in self.metrics:
                first = last is None
                before = [side[:1] for side in batch] if first else [side[None] for side in last]
                joined = [pad_batch(np.concatenate(both), size + 1) for both in zip(before, batch)]
                found.setdefault("flicker", []).append(frames.flicker(*joined)[1 if first else 0 : count])
                last = batch[0][-1], batch[1][-1]
        return {name: np.concatenate(parts) for name, parts in found.items()}

    def _chunks(self, pair: Pair, results: Results) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """(ground truth, prediction) in chunks (n, H, W, 3) of one size; records in `results` what was resized."""
        resized: dict[str, None] = {}
        truths, predictions = [], []
        resampled = getattr(resize, self.protocol.resize)
        size = self.protocol.size
        for index, (truth, prediction) in enumerate(pair.read()):
            size = size or truth.shape[:2]
            if self.protocol.size is None and truth.shape[:2] != size:
                raise InputError(
                    f"{pair.truth.frame_name(index)}: {_size(truth.shape)}, the frames before are {_size(size)}; "
                    "bring the video to one size"
                )
            if index == 0:
                self._check_size(pair, size)
            for what, frame in (("ground truth", truth), ("prediction", prediction)):
                if frame.shape[:2] != size:
                    resized[f"{what} {_size(frame.shape)} -> {_size(size)}"] = None
            truths.append(resampled(truth, *size))
            predictions.append(resampled(prediction, *size))
            if len(truths) == self._chunk:
                yield np.stack(truths), np.stack(predictions)
                truths, predictions = [], []
        if truths:
            yield np.stack(truths), np.stack(predictions)
        if resized:
            results.resized[pair.name] = ", ".join(resized)

    def _check_size(self, pair: Pair, size: tuple[int, int]) -> None:
        needs = dict.fromkeys(PAIRWISE, frames.SMALLEST_SIDE)  # which are measured together
        needs |= {name: lpips.SMALLEST[METRICS[name].network.removeprefix("lpips_")] for name in LPIPS}
        for name, smallest in needs.items():
            if name in self.metrics and min(size) < smallest:
                raise InputError(
                    f"{pair.truth.frame_name(0)}: {_size(size)} is too small for {name}, which needs {smallest} pixels "
                    "a side; name other metrics with --config.metrics"
                )


class _Features:
    """Feature vectors of one side of one video, merged into a Gaussian in portions."""

    def __init__(self) -> None:
        self._rows: list[np.ndarray] = []
        self._merged: Gaussian | None = None
        self.dimension = 0

    def add(self, features: np.ndarray) -> None:
        self.dimension = features.shape[1]
        self._rows.append(features)
        if sum(map(len, self._rows)) >= _BUFFERED:
            self._merged = self.gaussian()
            self._rows = []

    def gaussian(self) -> Gaussian:
        latest = Gaussian.from_features(np.concatenate([np.zeros((0, self.dimension)), *self._rows]))
        return latest if self._merged is None else self._merged.merge(latest)


@jax.jit
def inception_frames(batch: jax.Array) -> jax.Array:
    """uint8 (B, H, W, 3) -> what the Inception network reads, (B, 299, 299, 3)."""
    return 2 * resize.bilinear(batch.astype(np.float32) / 255, inception.SIZE, inception.SIZE) - 1


def _lpips_of(signed: bool) -> Callable[..., jax.Array]:
    def distance(model: lpips.LPIPS, truth: jax.Array, prediction: jax.Array) -> jax.Array:
        return model(lpips.to_range(prediction, signed), lpips.to_range(truth, signed))

    return distance


def _size(shape: Sequence[int]) -> str:
    return f"{shape[1]}x{shape[0]}"


def _prefetched(chunks: Iterator[Any]) -> Iterator[Any]:
    """Reads the next chunk in a thread while the caller works on this one."""
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(next, chunks, None)
        while (chunk := future.result()) is not None:
            future = pool.submit(next, chunks, None)
            yield chunk
