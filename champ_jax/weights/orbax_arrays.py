"""Orbax for one process of many, and its errors."""

import logging
import sys
from typing import Any

import jax
import orbax.checkpoint as ocp


def independent_checkpointer() -> ocp.Checkpointer:
    """A checkpointer that waits for no other process of the run, for arrays that only this process reads."""
    own = jax.process_index()
    options = ocp.options.MultiprocessingOptions(
        primary_host=own, active_processes={own}, barrier_sync_key_prefix=f"process{own}"
    )
    return ocp.Checkpointer(
        ocp.PyTreeCheckpointHandler(multiprocessing_options=options), multiprocessing_options=options
    )


def ignore_orphaned_writes() -> None:
    """For commands: keeps what a failed checkpoint's other writes say off stderr.

    When one array cannot be written, Orbax raises that and closes its event loop. The writes of the other arrays fail
    unheard, or end later and find the loop closed; each would print a traceback.
    """
    otherwise = sys.unraisablehook

    def hook(event: Any) -> None:
        if not (isinstance(event.exc_value, RuntimeError) and str(event.exc_value) == "Event loop is closed"):
            otherwise(event)

    sys.unraisablehook = hook
    logging.getLogger("asyncio").addFilter(lambda record: "exception was never retrieved" not in record.getMessage())
