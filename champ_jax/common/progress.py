"""Progress of a long run on stderr: stages with their seconds, and bars with n of N and seconds a step."""

import contextlib
import sys
import time
from collections.abc import Iterator

from tqdm import tqdm

BAR = "{desc}: {n_fmt} of {total_fmt} {unit}s |{bar:24}| {elapsed} {rate_inv_fmt}"


class Progress:
    """Reports on stderr, unless quiet, and records how long every stage took.

    Attributes:
      quiet: whether nothing is printed.
      seconds: {stage: seconds}, summed over repetitions.
    """

    def __init__(self, quiet: bool = False):
        self.quiet = quiet
        self.seconds: dict[str, float] = {}

    def log(self, line: str) -> None:
        """Prints a line, unless quiet."""
        if not self.quiet:
            print(line, file=sys.stderr, flush=True)

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Times a stage that has no steps."""
        start = time.perf_counter()
        self.log(f"{name} ...")
        yield
        seconds = self._add(name, start)
        self.log(f"{name}: {seconds:.1f} s")

    @contextlib.contextmanager
    def bar(self, name: str, total: int, unit: str) -> Iterator[tqdm]:
        """Times a stage of `total` units; the block calls `update` on the bar."""
        start = time.perf_counter()
        with tqdm(total=total, desc=name, unit=unit, bar_format=BAR, disable=self.quiet, file=sys.stderr) as bar:
            yield bar
        self._add(name, start)

    def _add(self, name: str, start: float) -> float:
        seconds = time.perf_counter() - start
        self.seconds[name] = self.seconds.get(name, 0.0) + seconds
        return seconds
