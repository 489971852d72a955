"""Progress of a long run on stderr: stages with their seconds, and bars with n of N and seconds a step."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from tqdm import tqdm

BAR = "{desc}: {n_fmt} of {total_fmt} {unit}s |{bar:24}| {elapsed} {rate_inv_fmt}"


class Bar(tqdm):
    """A bar that counts also where it is not shown, and tells every step."""

    def __init__(self, told: Callable[[int], None], **options: Any):
        """`told` is called with the number of steps that are done; `options` are tqdm's."""
        super().__init__(**options)
        self._told = told

    def update(self, n: float | None = 1) -> bool | None:
        """Counts `n` more steps."""
        shown = super().update(n)
        if self.disable:
            self.n += n or 0
        self._told(int(self.n))
        return shown


class Progress:
    """Reports on stderr, unless quiet, and records how long every stage took.

    A subclass may report elsewhere (`reached`, `note`, `offer`), and end a run by raising an exception there.

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

    def note(self, line: str) -> None:
        """Prints a line that says what was assumed or left out, unless quiet."""
        self.log(line)

    def reached(self, stage: str, done: int, total: int | None) -> None:
        """Is told when a stage begins, and of every step; `total` is None where it has none. Does nothing."""

    def offer(self, frame: Callable[[], np.ndarray]) -> None:
        """May look at a frame of the animation as it stands, (H, W, 3) uint8, which costs the time to make it. Does
        not."""

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Times a stage that has no steps."""
        start = time.perf_counter()
        self.reached(name, 0, None)
        self.log(f"{name} ...")
        yield
        seconds = self._add(name, start)
        self.log(f"{name}: {seconds:.1f} s")

    @contextlib.contextmanager
    def bar(self, name: str, total: int, unit: str) -> Iterator[Bar]:
        """Times a stage of `total` units; the block calls `update` on the bar."""
        start = time.perf_counter()
        self.reached(name, 0, total)

        def told(done: int) -> None:
            self.reached(name, done, total)

        looks = {"bar_format": BAR, "disable": self.quiet, "file": sys.stderr}
        with Bar(told, total=total, desc=name, unit=unit, **looks) as bar:
            yield bar
        self._add(name, start)

    def _add(self, name: str, start: float) -> float:
        seconds = time.perf_counter() - start
        self.seconds[name] = self.seconds.get(name, 0.0) + seconds
        return seconds
