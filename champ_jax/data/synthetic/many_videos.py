"""Many videos by many processes: resumable, and the same bytes however many processes there are."""

import dataclasses
import json
import multiprocessing
import os
import shutil
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path

from tqdm import tqdm

from champ_jax.common.errors import InputError
from champ_jax.common.files import atomic_path
from champ_jax.common.limits import require_space
from champ_jax.common.parallel import end_with_parent
from champ_jax.conditions.render import checked_size
from champ_jax.data.synthetic.one_video import PARTS, Settings, VideoName, name_video, write_video

RECORD, SPLIT = "people.json", "split.json"

# Bytes of a frame of all kinds: PNG takes up to this many a pixel, and every file is rounded up to a block.
_BYTES_A_PIXEL, _BYTES_A_FRAME = 2, 6 * 4096
# One thread a process: the processes share the machine, and no sum depends on how many cores it has.
_ONE_THREAD = {
    "JAX_PLATFORMS": "cpu",
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
}


def make_people(output: str | os.PathLike, count: int, settings: Settings, workers: int = 1) -> int:
    """Makes `count` videos in `output`, or those of them that are not there yet.

    Beside the videos, DIR/{train,test}/VIDEO, lie people.json (the settings; a folder with others is refused) and, once
    all are done, split.json: the videos of each part with their people and motions.

    Returns:
      How many videos were made now.

    Raises:
      InputError: a setting makes no sense, the folder holds a run with other settings or cannot be written, or the disk
        is full. Videos that are finished stay.
    """
    _check(count, settings, workers)
    output = Path(output)
    names = [name_video(settings, number) for number in range(count)]
    claimed = _belongs(output, settings)
    _sweep(output)
    missing = [name for name in names if not (output / name.folder).is_dir()]
    pixels = settings.size[0] * settings.size[1]
    require_space(output, len(missing) * settings.frames * (pixels * _BYTES_A_PIXEL + _BYTES_A_FRAME))
    if not claimed:
        with atomic_path(output / RECORD) as path:
            path.write_text(json.dumps(_record(settings), indent=2) + "\n")
    if missing:
        _make(output, settings, missing, min(workers, len(missing)), count)
    with atomic_path(output / SPLIT) as path:
        path.write_text(json.dumps(_split(output, settings, count), indent=2) + "\n")
    return len(missing)


def _check(count: int, settings: Settings, workers: int) -> None:
    checked_size(settings.size)
    for option, value in (
        ("count", count),
        ("frames", settings.frames),
        ("workers", workers),
        ("videos_per_identity", settings.videos_per_identity),
    ):
        if value < 1:
            raise InputError(f"--{option}={value}: must be 1 or more")
    if min(settings.size) < 16:
        raise InputError(f"--size={settings.size[0]}x{settings.size[1]}: must be at least 16x16")
    if settings.seed < 0:
        raise InputError(f"--seed={settings.seed}: must be 0 or more")
    if not 0 <= settings.test_share <= 1:
        raise InputError(f"--test_share={settings.test_share}: must be within 0..1")


def _record(settings: Settings) -> dict:
    return json.loads(json.dumps(dataclasses.asdict(settings)))


def _belongs(output: Path, settings: Settings) -> bool:
    """Whether the folder holds a run with these settings; one with others, or videos of something else, is refused."""
    if output.exists() and not output.is_dir():
        raise InputError(f"{output}: is a file; name a folder")
    record, path = _record(settings), output / RECORD
    try:
        there = json.loads(path.read_text())
    except FileNotFoundError:
        taken = [part for part in PARTS if (output / part).exists()]
        if taken:
            raise InputError(f"{output}: holds {taken[0]}/ but no {RECORD}; name another output") from None
        return False
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: is not readable ({error}); name another output or remove the folder") from error
    if there != record:
        differing = [key for key in record if not isinstance(there, dict) or there.get(key) != record[key]]
        raise InputError(
            f"{output}: holds people made with another {', '.join(differing) or 'version'} ({RECORD}); name another "
            "output or give the same options"
        )
    return True


def _sweep(output: Path) -> None:
    """Removes what a killed run left half-written."""
    for part in PARTS:
        for folder in (output / part).glob(".p*_m*"):
            shutil.rmtree(folder, ignore_errors=True)


def _make(output: Path, settings: Settings, names: Sequence[VideoName], workers: int, count: int) -> None:
    context = multiprocessing.get_context("spawn")
    with (
        _environment(_ONE_THREAD),
        ProcessPoolExecutor(workers, context, initializer=_start_worker, initargs=(os.getpid(),)) as pool,
        tqdm(total=count, initial=count - len(names), desc="people", unit="video") as bar,
    ):
        futures = [pool.submit(write_video, settings, name, output) for name in names]
        try:
            for future in as_completed(futures):
                future.result()
                bar.update()
        except BrokenProcessPool as error:
            raise InputError(
                f"{output}: a process was killed, probably for want of memory; give fewer --workers (finished videos "
                "are kept)"
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)


def _start_worker(parent: int) -> None:
    """Ctrl-C is for the parent to answer, in one line; a process ends with its parent, so that two runs never mix."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent(parent)


def _split(output: Path, settings: Settings, count: int) -> dict[str, dict[str, list]]:
    """What each part holds; videos of an earlier, larger run count too."""
    split: dict[str, dict[str, list]] = {part: {"videos": [], "identities": [], "motions": []} for part in PARTS}
    number = 0
    while number < count or (output / name_video(settings, number).folder).is_dir():
        name = name_video(settings, number)
        entry = split[name.part]
        entry["videos"].append(name.folder)
        for key, value in (("identities", name.identity), ("motions", name.motion)):
            if f"{name.part}/{value}" not in entry[key]:
                entry[key].append(f"{name.part}/{value}")
        number += 1
    return split


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    before = {key: os.environ.get(key) for key in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for key, value in before.items():
            if value is None:
                del os.environ[key]
            else:
                os.environ[key] = value
