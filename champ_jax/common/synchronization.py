"""What the processes of a run must do at the same time."""

import itertools
from typing import Any

import jax
from orbax.checkpoint import multihost

_barriers = itertools.count()  # equal in all processes, because all of them pass the same barriers


def wait_for_all(name: str) -> None:
    """A barrier: returns when all processes have reached it, however long that takes; uses no device.

    Args:
      name: says in messages which barrier it is.
    """
    multihost.sync_global_processes(f"{name}-{next(_barriers)}", timeout=24 * 3600)


class SynchronizedJit:
    """A jitted function that no process runs before all processes have compiled it.

    Compiling takes minutes, and not the same time in all processes, but collectives on CPUs (Gloo) fail after waiting
    for 30 seconds.
    """

    def __init__(self, jitted: jax.stages.Wrapped):
        """`jitted` is a function made by jax.jit; all calls have arguments of the same shapes and shardings."""
        self._jitted = jitted
        self._compiled: jax.stages.Compiled | None = None

    def __call__(self, *arguments: Any) -> Any:
        if jax.process_count() == 1:
            return self._jitted(*arguments)
        if self._compiled is None:
            self._compiled = self._jitted.lower(*arguments).compile()
            wait_for_all("compiled")
        return self._compiled(*arguments)
