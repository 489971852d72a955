"""Data: how many samples a second the pipelines give, and whether that keeps a device fed."""

import dataclasses
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.timing import Row
from benchmarks.training import REFERENCE
from champ_jax.data.benchmark import measure, write_example
from champ_jax.data.build import build_dataset

TARGET = 1.5  # multiple of the reference's speed, where no step was measured


@dataclasses.dataclass(frozen=True)
class Feed:
    """Batches of one stage.

    Attributes:
      stage: 1 or 2.
      workers: processes that read and decode.
      samples_per_second: The rate that they give.
      step_seconds: The time of a step of `batch` samples; None where no figure is known.
      step_from: where `step_seconds` is from.
      batch: The samples of a step.
    """

    stage: int
    workers: int
    samples_per_second: float
    step_seconds: float | None
    step_from: str
    batch: int

    @property
    def needed(self) -> float | None:
        """Samples a second that a device takes."""
        return None if self.step_seconds is None else self.batch / self.step_seconds


def run(
    path: str | None, size: int, *, frames: int, workers: int, seconds: float, steps: Sequence[Row] = ()
) -> list[Feed]:
    """Measures both stages with the default crops and four conditions.

    Args:
      path: a dataset; None makes one of pictures of `size` x `size`.
      size: side of the pictures that are trained on.
      frames: The frames of stage 2's clip.
      workers: processes.
      seconds: each stage is timed for at least.
      steps: what `benchmarks.training` measured at this size, on this machine.
    """
    measured = {row.name: row.seconds for row in steps}
    feeds = []
    with tempfile.TemporaryDirectory() as folder:
        if path is None:
            write_example(Path(folder) / "videos", (size, size), frames=4 * frames)
            path = str(Path(folder) / "dataset")
            build_dataset([Path(folder) / "videos"], path, workers=workers)
        for stage, batch in ((1, 4), (2, 1)):
            options = {"frames": frames} if stage == 2 else {}
            rate = measure(
                path,
                stage,
                batch_size=batch,
                workers=workers,
                seconds=seconds,
                image_size=(size, size),
                **options,
            )["samples_per_second"]
            if f"stage {stage}" in measured:
                needs = measured[f"stage {stage}"], "measured here"
            elif (stage, size) in REFERENCE:
                needs = REFERENCE[stage, size][0] / TARGET, f"{TARGET:g} x as fast as the reference on one H100"
            else:
                needs = None, ""
            feeds.append(Feed(stage, workers, rate, *needs, batch))
    return feeds


def table(feeds: Sequence[Feed]) -> str:
    """The feeds as a Markdown table."""
    lines = [
        "| stage | workers | samples/s | step s | samples/s it takes | fed | the step is |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for feed in feeds:
        needs = ["", "", ""]
        if feed.needed is not None:
            fed = "yes" if feed.samples_per_second >= feed.needed else "no"
            needs = [f"{feed.step_seconds:.4g}", f"{feed.needed:.4g}", fed]
        cells = [str(feed.stage), str(feed.workers), f"{feed.samples_per_second:.4g}", *needs, feed.step_from]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)
