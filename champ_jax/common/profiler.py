"""JAX's profiler over some steps of a run: traces that XProf and Perfetto open (docs/performance.md)."""

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import jax

from champ_jax.common.errors import InputError

FIELD = "profile.steps"


def parse_steps(text: str, count: int) -> range:
    """The steps that 'A:B' names, numbered from 1: A and those after it, up to B and without B. '' names none.

    Args:
      text: The value of `profile.steps`.
      count: The number of steps of the run.

    Raises:
      InputError: it is no such range, an empty one, or one that reaches outside of the run.
    """
    if not text:
        return range(0)
    match = re.fullmatch(r"\s*(\d{1,9})\s*:\s*(\d{1,9})\s*", text)
    if not match or not 1 <= int(match[1]) < int(match[2]):
        raise InputError(
            f"{FIELD}={text[:60]}: expected A:B, the steps from A to the one before B; the first step is 1"
        )
    if int(match[2]) - 1 > count:
        raise InputError(f"{FIELD}={text}: the run has {count} steps; name B up to {count + 1}")
    return range(int(match[1]), int(match[2]))


class Profiler:
    """Traces steps of a loop, as a context manager that ends a trace whatever happens.

        with Profiler(parse_steps("3:6", 20), folder) as profiler:
            for number in range(1, 21):
                with profiler.step(number):
                    x = step(x)
                profiler.end(number, x)

    The trace of each process lies below FOLDER/plugins/profile/TIME, for XProf, and as perfetto_trace.json.gz.
    """

    def __init__(self, steps: range, folder: Path | None):
        """
        Args:
          steps: the numbers of the steps that are traced.
          folder: where the trace is written; not needed where there are no steps.
        """
        self._steps, self._folder = steps, folder
        self._traces = False

    def __enter__(self) -> "Profiler":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop()

    @contextlib.contextmanager
    def step(self, number: int) -> Iterator[None]:
        """The step of this number; the first of `steps` begins the trace."""
        if number not in self._steps:
            yield
            return
        if not self._traces:
            assert self._folder is not None
            jax.profiler.start_trace(self._folder, create_perfetto_trace=True)
            self._traces = True
        with jax.profiler.StepTraceAnnotation("step", step_num=number):
            yield

    def end(self, number: int, results: Any) -> None:
        """Ends the trace after the last of `steps`, when the devices have its results."""
        if self._traces and number == self._steps[-1]:
            jax.block_until_ready(results)
            self._stop()

    def _stop(self) -> None:
        if self._traces:
            self._traces = False
            jax.profiler.stop_trace()


OFF = Profiler(range(0), None)
"""Traces nothing."""
