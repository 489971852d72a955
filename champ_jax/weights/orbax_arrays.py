"""Orbax for one process of many."""

import jax
import orbax.checkpoint as ocp


def lone_reader() -> ocp.Checkpointer:
    """A reader of arrays that waits for no other process of the run: others may have no use for them."""
    own = jax.process_index()
    alone = ocp.options.MultiprocessingOptions(
        primary_host=own, active_processes={own}, barrier_sync_key_prefix=f"process{own}"
    )
    handler = ocp.PyTreeCheckpointHandler(multiprocessing_options=alone)
    return ocp.Checkpointer(handler, multiprocessing_options=alone)
