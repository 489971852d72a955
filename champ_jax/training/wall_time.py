"""What a run's wall time went to, from the beginning of its work folder on, through all its restarts.

The lines of metrics.jsonl carry the sums. So what a kill took with it (the steps after the last checkpoint, and the
time until somebody started the run again) is the time between the last line that is kept and the next start.
"""

import time
from collections.abc import Callable, Mapping
from typing import Any

from tqdm import tqdm

STEPS, DATA, COMPILE, CHECKPOINTS, VALIDATION, START, RESTARTS = (
    *("steps", "data", "compile", "checkpoints", "validation", "start", "restarts"),
)
KINDS = (STEPS, DATA, COMPILE, CHECKPOINTS, VALIDATION, START, RESTARTS)
"""What time goes to: training; batches that the devices had to wait for; tracing and compiling, or reading a compiled
program; checkpoints; validation; the beginning of the run (weights, data); and of its restarts, with the time until
then and the steps that were lost."""


class WallTime:
    """A stopwatch that gives every moment to one of `KINDS`."""

    def __init__(
        self,
        last: Mapping[str, Any] | None = None,
        began: float | None = None,
        *,
        clock: Callable[[], float] = time.time,
    ):
        """
        Args:
          last: The last line of metrics.jsonl that the run goes on from; None for a new run. A line of a version that
            kept no times counts as none.
          began: when this process began, in seconds since 1970; None is now.
          clock: The time in seconds since 1970, by which hosts agree.
        """
        self._clock = clock
        self.seconds = dict.fromkeys(KINDS, 0.0)
        now = clock()
        kept, wrote = (last or {}).get("wall"), (last or {}).get("time")
        if isinstance(kept, Mapping) and _is_time(wrote):
            self.seconds |= {kind: float(kept[kind]) for kind in KINDS if _is_time(kept.get(kind))}
            self._last, self._begins = min(wrote, now), RESTARTS
        else:
            self._last, self._begins = (
                min(began if began is not None else now, now),
                START if last is None else RESTARTS,
            )

    def begin(self) -> None:
        """The run is about to take its first step: the time until now was spent on the (re)start."""
        self.spend(self._begins)

    def spend(self, kind: str) -> None:
        """The time since the last call was spent on `kind`."""
        now = self._clock()
        self.seconds[kind] += max(now - self._last, 0.0)  # clocks of hosts may differ, and are set
        self._last = max(now, self._last)

    def line(self) -> dict[str, Any]:
        """The fields of a line of metrics.jsonl: the time, and the sums by kind."""
        return {"time": round(self._last, 3), "wall": {kind: round(value, 3) for kind, value in self.seconds.items()}}

    def __str__(self) -> str:
        """The whole time and its shares, the largest first; what took less than half a percent is left out."""
        total = sum(self.seconds.values())
        shares = sorted(self.seconds.items(), key=lambda item: -item[1])
        words = [f"{kind} {value / total:.0%}" for kind, value in shares if total and value / total >= 0.005]
        return f"{tqdm.format_interval(total)} in all: {', '.join(words)}"


def _is_time(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e12
