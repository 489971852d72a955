"""What a long run tells its user: stages with their seconds, and bars with n of N and seconds a step."""

import contextlib
import sys
import time
from collections.abc import Iterator

from tqdm import tqdm

BAR = "{desc}: {n_fmt} of {total_fmt} {unit}s |{bar:24}| {elapsed} {rate_inv_fmt}"


class Progress:
    """Reports on stderr, unless quiet, and keeps the seconds of every stage.

    Attributes:
      seconds: {stage: seconds}, summed over repetitions.
    """

    def __init__(self, quiet: bool = False):
        self.quiet = quiet
        self.seconds: dict[str, float] = {}

    def say(self, line: str) -> None:
        """Prints a line, unless quiet."""
        if not self.quiet:
            print(line, file=sys.stderr, flush=True)

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Times a stage that has no steps."""
        start = time.perf_counter()
        self.say(f"{name} ...")
        yield
        took = self._add(name, start)
        self.say(f"{name}: {took:.1f} s")

    @contextlib.contextmanager
    def bar(self, name: str, total: int, unit: str) -> Iterator[tqdm]:
        """Times a stage of `total` units; the block calls `update` on the bar."""
        start = time.perf_counter()
        with tqdm(total=total, desc=name, unit=unit, bar_format=BAR, disable=self.quiet, file=sys.stderr) as bar:
            yield bar
        self._add(name, start)

    def _add(self, name: str, start: float) -> float:
        took = time.perf_counter() - start
        self.seconds[name] = self.seconds.get(name, 0.0) + took
        return took
