"""Applies a function to many items: in processes of this machine, or on a cluster by an Apache Beam runner."""

import json
import multiprocessing
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

from champ_jax.common.errors import InputError
from champ_jax.common.files import atomic_path

Function = Callable[[Any], Any]


def map_items(
    function: Function,
    items: Sequence[Any],
    *,
    workers: int = 1,
    runner: str | None = None,
    options: Sequence[str] = (),
    scratch: str | os.PathLike | None = None,
) -> Iterator[Any]:
    """Yields function(item) of every item, in the order in which they are finished.

    Args:
      function: defined at the top level of a module, so that other processes can import it. It writes its outputs
        itself, whole or not at all, and returns a value that JSON can represent.
      items: values that JSON can represent.
      workers: the number of processes, which end when this process does; 1 works in this process.
      runner: an Apache Beam runner ('DirectRunner', 'DataflowRunner', 'FlinkRunner', ...) to use instead. Its machines
        must have this package and see the same files.
      options: Beam's pipeline options ('--direct_num_workers=2', ...).
      scratch: a folder that all of Beam's machines see, for results in transit.

    Raises:
      InputError: Beam is not installed, or a worker was killed; and whatever `function` raises.
    """
    if not items:
        return
    if runner is not None:
        yield from _map_beam(function, items, runner, options, scratch)
    elif workers <= 1 or len(items) == 1:
        yield from map(function, items)
    else:
        yield from _map_processes(function, items, workers)


def _map_processes(function: Function, items: Sequence[Any], workers: int) -> Iterator[Any]:
    # A fork would copy JAX without its threads.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(min(workers, len(items)), context, initializer=end_with_parent, initargs=(os.getpid(),))
    try:
        for future in as_completed([pool.submit(function, item) for item in items]):
            yield future.result()
    except BrokenProcessPool as error:
        raise InputError("a worker process was killed, probably because memory ran out; use fewer --workers") from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def end_with_parent(parent: int) -> None:
    """Ends this process soon after its parent has died, so that it does not write beside a new run or wait forever."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _map_beam(
    function: Function, items: Sequence[Any], runner: str, options: Sequence[str], scratch: str | os.PathLike | None
) -> Iterator[Any]:
    try:
        import apache_beam as beam
        from apache_beam.options.pipeline_options import PipelineOptions
    except ImportError as error:
        raise InputError(f"--runner={runner}: needs Apache Beam; pip install 'champ_jax[beam]'") from error
    folder = Path(tempfile.mkdtemp(prefix=".results.", dir=scratch))
    try:
        with beam.Pipeline(runner=runner, options=PipelineOptions(list(options))) as pipeline:
            _ = (
                pipeline
                | "Items" >> beam.Create(list(enumerate(items)))
                | "Spread" >> beam.Reshuffle()
                | "Work" >> beam.Map(_keep_result, function=function, folder=str(folder))
            )
        for number in range(len(items)):
            yield json.loads((folder / f"{number}.json").read_text())
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _keep_result(numbered: tuple[int, Any], function: Function, folder: str) -> None:
    """Beam may process an item twice: the result is written atomically, so that either one will do."""
    number, item = numbered
    result = function(item)
    with atomic_path(Path(folder) / f"{number}.json") as path:
        path.write_text(json.dumps(result))
