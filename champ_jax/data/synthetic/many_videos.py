"""Many videos by many processes: resumable, and the same bytes for any number of processes."""

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
from champ_jax.common.files import read_json, write_json
from champ_jax.common.limits import require_memory, require_space
from champ_jax.common.locks import hold_folder
from champ_jax.common.outputs import Output, claim, folder_with
from champ_jax.common.parallel import end_with_parent
from champ_jax.common.ranges import Integer, Number
from champ_jax.conditions.map_renderer import check_image_size
from champ_jax.data.synthetic.one_video import PARTS, Settings, VideoName, name_video, write_video

RECORD, SPLIT = "people.json", "split.json"

# Bytes of a frame of all kinds on the disk: PNG takes up to this many a pixel, and every file fills whole blocks.
_BYTES_A_PIXEL, _BYTES_A_FRAME = 2, 6 * 4096
# Bytes of memory: of a process with its compiled programs, and of a frame's posed meshes.
_PROCESS_MEMORY, _MESH_MEMORY = 1 << 30, 1 << 20
# One thread a process: the processes share the machine, and no sum depends on the number of its cores.
_ONE_THREAD = {
    "JAX_PLATFORMS": "cpu",
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
}


def make_people(output: str | os.PathLike, count: int, settings: Settings, workers: int = 1) -> int:
    """Makes `count` videos in `output`, or those of them that do not exist yet.

    Beside the videos, DIR/{train,test}/VIDEO, it writes people.json (the settings; a folder with others is refused)
    and, when all videos are done, split.json: the videos of each part with their people and motions.

    Returns:
      The number of videos made by this call.

    Raises:
      InputError: a setting is out of range, the folder holds something else, people of other settings or another run,
        it cannot be written, or memory or disk are too small. Videos that are finished stay.
    """
    _check(count, settings, workers)
    output = Path(output)
    claim([Output("--output", output, _PEOPLE)])
    is_continued = _belongs(output, settings)
    finished = sum(1 for _ in output.glob("*/p*_m*"))
    pixels = settings.size[0] * settings.size[1]
    require_space(output, max(count - finished, 0) * settings.frames * (pixels * _BYTES_A_PIXEL + _BYTES_A_FRAME))
    with hold_folder(output):
        _remove_unfinished(output)
        names = (name_video(settings, number) for number in range(count))
        missing = [name for name in names if not (output / name.folder).is_dir()]
        if not is_continued:
            write_json(output / RECORD, _record(settings), indent=2)
        if missing:
            _make(output, settings, missing, min(workers, len(missing)), count)
        write_json(output / SPLIT, _split(output, settings, count), indent=2)
    return len(missing)


def _check(count: int, settings: Settings, workers: int) -> None:
    Integer(minimum=1).check("--count", count)
    Integer(minimum=1, maximum=100_000).check("--frames", settings.frames)
    Integer(minimum=1, maximum=1024).check("--workers", workers)
    Integer(minimum=1).check("--videos_per_identity", settings.videos_per_identity)
    Integer(minimum=0).check("--seed", settings.seed)
    Number(minimum=0, maximum=1).check("--test_share", settings.test_share)
    width, height = settings.size
    if min(width, height) < 16:
        raise InputError(f"--size={width}x{height}: must be at least 16x16")
    check_image_size(settings.size)
    require_memory(
        min(workers, count) * (_PROCESS_MEMORY + settings.frames * (_MESH_MEMORY + 4 * width * height)),
        f"--workers={workers} --frames={settings.frames} --size={width}x{height}",
        "ask for fewer processes, fewer frames or smaller pictures",
    )


def _record(settings: Settings) -> dict:
    return json.loads(json.dumps(dataclasses.asdict(settings)))


def _holds_only_leftovers(folder: Path) -> bool:
    """Whether a folder holds nothing but what a run killed before its first result left."""
    return all(entry.name.startswith((f".{RECORD}", f".{SPLIT}", ".lock")) for entry in folder.iterdir())


_PEOPLE = folder_with("synthetic people", lambda path: os.path.lexists(path / RECORD) or _holds_only_leftovers(path))


def _belongs(output: Path, settings: Settings) -> bool:
    """Whether the folder holds a run with these settings; raises InputError if they are others."""
    path = output / RECORD
    if not os.path.lexists(path):
        return False
    found, record = read_json(path), _record(settings)
    if found != record:
        differing = [key for key in record if not isinstance(found, dict) or found.get(key) != record[key]]
        raise InputError(
            f"{output}: holds people made with another {', '.join(differing) or 'version'} ({RECORD}); name another "
            "output or give the same options"
        )
    return True


def _remove_unfinished(output: Path) -> None:
    """Removes the unfinished videos of a killed run."""
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
                f"{output}: a process was killed, probably because memory ran out; give fewer --workers (finished "
                "videos are kept)"
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)


def _start_worker(parent: int) -> None:
    """Leaves Ctrl-C to the parent, which reports it in one line, and ends the process with its parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent(parent)


def _split(output: Path, settings: Settings, count: int) -> dict[str, dict[str, list]]:
    """The videos, people and motions of each part; videos of an earlier, larger run count too."""
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
