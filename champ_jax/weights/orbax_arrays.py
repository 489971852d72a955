"""Orbax for one process of many."""

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
