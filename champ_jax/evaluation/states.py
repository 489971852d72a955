"""What has been measured so far, in a form that merges: many hosts give the same number as one."""

import dataclasses
import io
import json
from collections.abc import Mapping

import numpy as np

from champ_jax.evaluation.bootstrap import ratio_interval
from champ_jax.evaluation.frechet import Gaussian, frechet_distance


@dataclasses.dataclass
class Results:
    """The state of an evaluation. Empty, add, merge, then the report computes from it.

    Attributes:
      values: {video: {metric: values (n,) float64 in frame order}} of per-frame and per-pair metrics.
      frames: {video: number of frames}.
      sets: {metric: (Gaussian of the predictions' features, Gaussian of the ground truth's)}.
      resized: {video: what was resized}.
      remarks: things the reader must know.
    """

    values: dict[str, dict[str, np.ndarray]] = dataclasses.field(default_factory=dict)
    frames: dict[str, int] = dataclasses.field(default_factory=dict)
    sets: dict[str, tuple[Gaussian, Gaussian]] = dataclasses.field(default_factory=dict)
    resized: dict[str, str] = dataclasses.field(default_factory=dict)
    remarks: list[str] = dataclasses.field(default_factory=list)

    def add_set(self, metric: str, prediction: Gaussian, truth: Gaussian) -> None:
        """Merges the features of one more video."""
        if metric in self.sets:
            before = self.sets[metric]
            prediction, truth = before[0].merge(prediction), before[1].merge(truth)
        self.sets[metric] = (prediction, truth)

    def merge(self, other: "Results") -> "Results":
        """Both together; they must not share videos."""
        merged = Results(
            {**self.values, **other.values},
            {**self.frames, **other.frames},
            dict(self.sets),
            {**self.resized, **other.resized},
            [*self.remarks, *(remark for remark in other.remarks if remark not in self.remarks)],
        )
        for metric, pair in other.sets.items():
            merged.add_set(metric, *pair)
        return merged

    def to_bytes(self) -> bytes:
        """For the way between hosts."""
        arrays: dict[str, np.ndarray] = {}
        about = {
            "frames": self.frames,
            "resized": self.resized,
            "remarks": self.remarks,
            "values": {video: list(values) for video, values in self.values.items()},
            "sets": {metric: [g.count for g in pair] for metric, pair in self.sets.items()},
        }
        for number, values in enumerate(self.values.values()):
            arrays |= {f"values/{number}/{metric}": array for metric, array in values.items()}
        for metric, pair in self.sets.items():
            for side, gaussian in enumerate(pair):
                arrays[f"sets/{metric}/{side}/mean"] = gaussian.mean
                arrays[f"sets/{metric}/{side}/factor"] = gaussian.factor
        arrays["about"] = np.frombuffer(json.dumps(about).encode(), np.uint8)
        stream = io.BytesIO()
        np.savez(stream, **arrays)
        return stream.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> "Results":
        with np.load(io.BytesIO(data)) as arrays:
            about = json.loads(arrays["about"].tobytes())
            values = {
                video: {metric: arrays[f"values/{number}/{metric}"] for metric in metrics}
                for number, (video, metrics) in enumerate(about["values"].items())
            }
            sets = {
                metric: tuple(
                    Gaussian(count, arrays[f"sets/{metric}/{side}/mean"], arrays[f"sets/{metric}/{side}/factor"])
                    for side, count in enumerate(counts)
                )
                for metric, counts in about["sets"].items()
            }
        return cls(values, about["frames"], sets, about["resized"], about["remarks"])

    def mean(self, metric: str) -> float | None:
        """Mean over all values of all videos, None if there are none."""
        # Sorted, so that the order hosts report in changes no digit.
        parts = [self.values[video][metric] for video in sorted(self.values) if metric in self.values[video]]
        values = np.concatenate(parts) if parts else np.zeros(0)
        return float(values.mean()) if values.size else None

    def distance(self, metric: str) -> float | None:
        """The Frechet distance of a set metric, None if it has fewer than two samples a side."""
        if metric not in self.sets or min(g.count for g in self.sets[metric]) < 2:
            return None
        return frechet_distance(*self.sets[metric])

    def interval(self, metric: str, resamples: int, seed: int = 0) -> tuple[float, float] | None:
        """95 % bootstrap interval of `mean`. Videos are drawn, not frames: frames of a video are not independent.

        None with fewer than two videos or no resamples.
        """
        videos = [v for v in sorted(self.values) if self.values[v].get(metric, np.zeros(0)).size]
        sums = np.array([self.values[video][metric].sum() for video in videos])
        counts = np.array([self.values[video][metric].size for video in videos])
        return ratio_interval(sums, counts, resamples, seed)


def video_means(values: Mapping[str, np.ndarray]) -> dict[str, float]:
    """{metric: mean over one video's values}."""
    return {metric: float(array.mean()) for metric, array in values.items() if array.size}
