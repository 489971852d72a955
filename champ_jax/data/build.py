"""Builds a dataset from folders of videos: checks the videos, writes those that can be used, reports the others.

The work is cut into parts of about equal size (`champ_jax.data.records`), each written by one process and renamed when
it is complete. A run adds what the dataset does not have yet, so the same command continues a run that was killed.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from tqdm import tqdm

from champ_jax.common.condition_names import CONDITIONS
from champ_jax.common.errors import InputError
from champ_jax.common.files import read_bytes, write_json
from champ_jax.common.limits import require_memory, require_space
from champ_jax.common.outputs import Output, claim
from champ_jax.common.parallel import map_items
from champ_jax.conditions.frame_files import index_frames
from champ_jax.data.dataset import locate_videos
from champ_jax.data.folders import (
    CheckedVideo,
    VideoFolder,
    check_video,
    find_videos,
    fingerprint,
    kinds_for,
)
from champ_jax.data.records import (
    DATASET,
    MAX_PICTURE,
    VIDEOS,
    Listing,
    Piece,
    Video,
    Videos,
    hold_dataset,
    list_parts,
    video_features,
    write_part,
)

REPORT = "report.json"
_LARGEST_PART = 512 << 20  # bytes; TFDS holds a part in memory
_SMALLEST_PART = 16 << 20
_SPREAD = 4  # parts for each worker, so that no worker waits long for the last one
_MOST_WORKERS = 1024
_MEMORY_OF_PART = 3  # multiple of its bytes: the files, TFDS's records, the shard that it writes


def build_dataset(
    sources: Sequence[str | os.PathLike],
    output: str | os.PathLike,
    *,
    conditions: Sequence[str] = CONDITIONS,
    workers: int = 1,
    runner: str | None = None,
    runner_options: Sequence[str] = (),
) -> dict[str, Any]:
    """Adds the videos in `sources` to the dataset at `output`.

    Args:
      sources: folders with videos at any depth (`folders.find_videos`).
      output: the dataset's folder.
      conditions: what a video must have besides images; fixed when the dataset is first written.
      workers: processes that check and write.
      runner: an Apache Beam runner to use instead (`parallel.map_items`); all its machines must see `output`.
      runner_options: Beam's pipeline options.

    Returns:
      The report, also written to `output`/report.json: {'videos', 'frames', 'conditions', 'added': [names],
      'left_out': [{'name', 'folder', 'reason'}], 'notes': [{'name', 'note'}]}; the counts are of the whole dataset,
      the lists of this run.

    Raises:
      InputError: there is no video, none can be used, `output` is something else than a dataset or inside of a video,
        another run writes to it, it has other conditions or damaged parts, or memory or disk are too small.
    """
    if not 1 <= workers <= _MOST_WORKERS:
        raise InputError(f"--workers={workers}: must be 1 to {_MOST_WORKERS}")
    kinds = kinds_for(conditions)
    found = find_videos(sources)
    output = Path(output)
    parts_folder = output / VIDEOS
    claim([Output("--output", output, DATASET)], [video.folder for video in found])
    with hold_dataset(output, leftovers=(f"{VIDEOS}/.part-*", ".results.*", f".{REPORT}.*")):
        listings = list_parts(parts_folder)
        for part, listing in listings.items():
            if listing.kinds != kinds:
                raise InputError(
                    f"{output}: its frames have {', '.join(listing.kinds)} ({part}), this run would add "
                    f"{', '.join(kinds)}; choose the same conditions or another output"
                )
        new, left_out = _survey(found, kinds, listings)
        require_space(output, sum(task.size for task in new))
        jobs = _jobs(new, kinds, parts_folder, first=_next_number(listings), workers=workers)
        if runner is None:
            _require_memory(jobs, workers)
        added: list[str] = []
        notes: list[dict[str, str]] = []
        with tqdm(total=sum(task.count for task in new), unit="frame", desc="dataset", disable=not new) as progress:
            outcomes = map_items(
                write_videos, jobs, workers=workers, runner=runner, options=runner_options, scratch=output
            )
            for outcome in outcomes:
                added += outcome["added"]
                left_out += outcome["left_out"]
                notes += outcome["notes"]
                progress.update(outcome["frames"])
        everything, _ = locate_videos(list_parts(parts_folder))
        report = {
            "videos": len(everything),
            "frames": sum(video.frames for video in everything),
            "conditions": list(conditions),
            "added": sorted(set(added)),
            "left_out": _sorted(left_out),
            "notes": _sorted(notes),
        }
        write_json(output / REPORT, report)
    if not everything:
        first = report["left_out"][0]
        raise InputError(
            f"{output}: none of the {len(found)} videos can be used; {first['name']}: {first['reason']} "
            f"({output / REPORT} has all reasons)"
        )
    return report


@dataclass(frozen=True)
class Task:
    """Frames to be written: all of a video, unless it is too large for one part.

    Attributes:
      name: The video's name in the dataset.
      folder: The video's folder.
      first: index of the first frame.
      count: number of frames.
      size: bytes of the frames' files.
    """

    name: str
    folder: str
    first: int
    count: int
    size: int


def write_videos(job: dict[str, Any]) -> dict[str, Any]:
    """Checks the videos of one part and writes the good ones.

    Args:
      job: {'folder': of the part, 'kinds', 'tasks': [fields of Task, ...]}.

    Returns:
      {'added', 'left_out', 'notes'} as in the report, and 'frames': the number of frames in the tasks.
    """
    tasks = [Task(**fields) for fields in job["tasks"]]
    good: list[tuple[Task, CheckedVideo]] = []
    left_out = []
    for task in tasks:
        try:
            good.append((task, check_video(task.folder, job["kinds"])))
        except InputError as error:
            left_out.append(_left_out(task, error))
    if good and not Path(job["folder"]).exists():  # Beam may repeat a job that was done
        pieces = [
            Piece(Video(task.name, len(video.frames), video.size, fingerprint(video.files)[0]), task.first, task.count)
            for task, video in good
        ]
        write_part(
            job["folder"], Videos, _records(good), video_features(job["kinds"]), pieces, {"kinds": list(job["kinds"])}
        )
    return {
        "added": [task.name for task, _ in good],
        "left_out": left_out,
        "notes": [{"name": task.name, "note": note} for task, video in good for note in video.notes],
        "frames": sum(task.count for task in tasks),
    }


def _records(good: Sequence[tuple[Task, CheckedVideo]]) -> Iterator[dict[str, Any]]:
    for task, video in good:
        for index in range(task.first, task.first + task.count):
            frame = video.frames[index]
            pictures = {kind: read_bytes(files[frame], MAX_PICTURE) for kind, files in video.files.items()}
            yield {"video": task.name, "frame": frame, "box": video.boxes[index], **pictures}


def _survey(
    found: Sequence[VideoFolder], kinds: Sequence[str], listings: Mapping[str, Listing]
) -> tuple[list[Task], list[dict[str, str]]]:
    """(frames to write, videos left out); passes over what the dataset has already."""
    complete, incomplete = locate_videos(listings)
    written = {video.name: video.fingerprint for video in complete}
    partly_written = {(video.name, video.fingerprint): firsts for video, firsts in incomplete.items()}
    tasks, left_out = [], []

    def inspect(video: VideoFolder) -> tuple[str, int, int] | InputError:
        try:
            files = index_frames(Path(video.folder), kinds)
            return *fingerprint(files), len(files["images"])
        except InputError as error:
            return error

    with ThreadPoolExecutor() as pool:
        for video, seen in zip(found, pool.map(inspect, found)):
            if isinstance(seen, InputError):
                left_out.append(_left_out(video, seen))
            elif video.name not in written:
                firsts = partly_written.get((video.name, seen[0]), ())
                tasks += [task for task in _cut(video, *seen[1:]) if task.first not in firsts]
            elif written[video.name] != seen[0]:
                reason = "the dataset has a video of this name with other files; rename this one or write a new dataset"
                left_out.append(_left_out(video, reason))
    return tasks, left_out


def _cut(video: VideoFolder, size: int, frames: int) -> list[Task]:
    """The pieces of a video that fit into a part each; they depend on the video alone."""
    pieces = min(max(-(-size // _LARGEST_PART), 1), frames)
    bounds = [frames * piece // pieces for piece in range(pieces + 1)]
    return [Task(video.name, video.folder, first, last - first, size // pieces) for first, last in pairwise(bounds)]


def _left_out(video: VideoFolder | Task, reason: InputError | str) -> dict[str, str]:
    return {"name": video.name, "folder": video.folder, "reason": str(reason)}


def _sorted(entries: Sequence[dict[str, str]]) -> list[dict[str, str]]:
    """The distinct entries, sorted by name."""
    unique = {tuple(entry.items()): entry for entry in entries}
    return sorted(unique.values(), key=lambda entry: entry["name"])


def _jobs(tasks: Sequence[Task], kinds: Sequence[str], folder: Path, first: int, workers: int) -> list[dict[str, Any]]:
    """Groups tasks into parts of about equal bytes; the jobs are arguments of `write_videos`."""
    total = sum(task.size for task in tasks)
    limit = min(max(total // (_SPREAD * workers), _SMALLEST_PART), _LARGEST_PART)
    groups: list[list[Task]] = []
    filled = limit
    for task in tasks:
        if filled + task.size > limit:
            groups.append([])
            filled = 0
        groups[-1].append(task)
        filled += task.size
    return [
        {
            "folder": str(folder / f"part-{number:05d}"),
            "kinds": list(kinds),
            "tasks": [asdict(task) for task in group],
        }
        for number, group in enumerate(groups, first)
    ]


def _require_memory(jobs: Sequence[Mapping[str, Any]], workers: int) -> None:
    sizes = sorted((sum(task["size"] for task in job["tasks"]) for job in jobs), reverse=True)
    require_memory(
        _MEMORY_OF_PART * sum(sizes[:workers]), f"--workers={workers}: writing as many parts at once", "ask for fewer"
    )


def _next_number(listings: Mapping[str, Listing]) -> int:
    return 1 + max((int(part.removeprefix("part-")) for part in listings), default=-1)
