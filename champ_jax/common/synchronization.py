"""What processes of a run must do at the same time."""

import itertools
from collections.abc import Callable
from typing import Any

import jax
from orbax.checkpoint import multihost

_numbers = itertools.count()  # the same in every process, for all take the same way


def wait_for_all(what: str) -> None:
    """Returns when all processes have come here, however long that takes; costs no device anything."""
    multihost.sync_global_processes(f"{what}-{next(_numbers)}", timeout=24 * 3600)


class Together:
    """A jitted function that no process runs before all have compiled it.

    Compiling takes minutes and not the same in all processes; collectives of CPUs (Gloo) wait for 30 seconds at most.
    """

    def __init__(self, jitted: Callable[..., Any]):
        """`jitted` is a function made by jax.jit, to be called with arguments of one kind."""
        self._jitted = jitted
        self._compiled: Callable[..., Any] | None = None

    def __call__(self, *arguments: Any) -> Any:
        if jax.process_count() == 1:
            return self._jitted(*arguments)
        if self._compiled is None:
            self._compiled = self._jitted.lower(*arguments).compile()
            wait_for_all("compiled")
        return self._compiled(*arguments)
