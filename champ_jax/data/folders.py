"""Folders of videos to train on: DIR/[part/]VIDEO/{images,depth,normal,semantic_map,dwpose,mask}/NNNN.png.

VIDEO/human_bbox.json may hold the person's boxes, as in the reference implementation of Champ: a list of
[left, top, right, bottom] in pixels, one a frame, null where there is nobody. Without it they are those of the masks.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from champ_jax.common.condition_names import CONDITIONS, MASKED
from champ_jax.common.errors import InputError
from champ_jax.common.files import read_json, reason, require_folder
from champ_jax.common.pictures import check_image, is_deep, read_image
from champ_jax.conditions.frame_files import gap_note, index_frames, mask_threshold, natural_key
from champ_jax.conditions.semantic_colors import LEAST_KEPT, semantic_complaint, share_kept

BOXES = "human_bbox.json"
NO_BOX = (-1, -1, -1, -1)
_LOOKED_AT = 8  # semantic maps of a video that are decoded to look at their colors and masks


@dataclass(frozen=True)
class VideoFolder:
    """A folder that looks like a video.

    Attributes:
      name: The video's name in the dataset: 'source/part/video', the source by the last part of its path.
      folder: its path.
    """

    name: str
    folder: str


@dataclass(frozen=True)
class CheckedVideo:
    """A video that can be trained on.

    Attributes:
      frames: names of the frames in order.
      files: {kind: {frame: file}}.
      size: (width, height) of all pictures.
      boxes: (frames, 4) int32, left, top, right, bottom of the person; -1 where there is nobody.
      notes: remarks about what looks wrong but can be used.
    """

    frames: list[str]
    files: dict[str, dict[str, Path]]
    size: tuple[int, int]
    boxes: np.ndarray
    notes: list[str]


def kinds_for(conditions: Sequence[str]) -> tuple[str, ...]:
    """The folders a video must have: 'images', the conditions, and 'mask' where semantic maps are masked with it.

    Raises:
      InputError: a condition is unknown or named twice.
    """
    for name in conditions:
        if name not in CONDITIONS:
            raise InputError(f"--conditions: {name!r} is unknown; choose from {', '.join(CONDITIONS)}")
    if len(set(conditions)) != len(conditions):
        raise InputError(f"--conditions={','.join(conditions)}: name each condition once")
    return ("images", *conditions, *(["mask"] if MASKED in conditions else []))


def find_videos(sources: Sequence[str | os.PathLike]) -> list[VideoFolder]:
    """Every folder in `sources`, at any depth, that holds a folder named like a kind of picture; sorted by name.

    Raises:
      InputError: a source is missing or holds no video, or two videos have one name.
    """
    found: dict[str, VideoFolder] = {}
    for source in sources:
        root = Path(os.path.realpath(require_folder(source)))
        count = 0
        for folder in _walk(root):
            count += 1
            name = "/".join([root.name, *folder.relative_to(root).parts])
            if name in found and found[name].folder != str(folder):
                raise InputError(f"{folder}: {found[name].folder} has the same name, {name}; rename one of them")
            found[name] = VideoFolder(name, str(folder))
        if not count:
            raise InputError(
                f"{source}: holds no videos; a video is a folder with images/ and "
                f"{', '.join(f'{kind}/' for kind in (*CONDITIONS, 'mask'))}"
            )
    return [found[name] for name in sorted(found, key=natural_key)]


def fingerprint(files: dict[str, dict[str, Path]]) -> tuple[str, int]:
    """(digest of the names and sizes of a video's files, the sum of their sizes); no file is read."""
    sizes = [(f"{kind}/{path.name}", path.stat().st_size) for kind, paths in files.items() for path in paths.values()]
    digest = hashlib.sha256(json.dumps(sorted(sizes)).encode()).hexdigest()[:16]
    return digest, sum(size for _, size in sizes)


def check_video(folder: str | os.PathLike, kinds: Sequence[str]) -> CheckedVideo:
    """Opens every picture of a video and compares counts, names and sizes.

    Args:
      folder: The video's folder.
      kinds: the folders it must have (`kinds_for`).

    Raises:
      InputError: the video cannot be used: a folder or frame is missing (named), a picture is damaged or of another
        size than the first one, or the boxes do not match.
    """
    folder = Path(folder)
    files = index_frames(folder, kinds)
    frames = sorted(files["images"], key=natural_key)
    paths = [files[kind][frame] for kind in kinds for frame in frames]
    with ThreadPoolExecutor() as pool:
        sizes = list(pool.map(_check_picture, paths))
    for path, size in zip(paths, sizes):
        if size != sizes[0]:
            raise InputError(
                f"{path}: is {size[0]}x{size[1]}, {paths[0]} is {sizes[0][0]}x{sizes[0][1]}; "
                "all pictures of a video must have one size"
            )
    notes = [note for note in (gap_note(frames),) if note]
    if MASKED in kinds:
        notes += _check_semantic_maps(files, frames)
    boxes = read_boxes(folder, frames, sizes[0])
    if boxes is None:
        boxes = _mask_boxes([files["mask"][frame] for frame in frames] if "mask" in files else [None] * len(frames))
    return CheckedVideo(frames, files, sizes[0], boxes, notes)


def _check_picture(path: Path) -> tuple[int, int]:
    """(width, height) of a picture with 8 bits a channel, which TFDS can read, too."""
    size = check_image(path)
    if is_deep(path):
        raise InputError(f"{path}: has more than 8 bits a channel; save it with 8")
    return size


def _walk(folder: Path) -> Iterator[Path]:
    """The video folders in `folder`, itself included. Links are followed, unless to a folder that they lie in."""
    waiting = [(folder, frozenset[tuple[int, int]]())]
    while waiting:
        folder, around = waiting.pop()
        try:
            status = folder.stat()
            inside = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
        except OSError as error:
            raise InputError(f"{folder}: cannot be read ({reason(error)})") from error
        if {path.name for path in inside} & {"images", *CONDITIONS}:
            yield folder
        elif (status.st_dev, status.st_ino) not in around:
            around |= {(status.st_dev, status.st_ino)}
            waiting += [(path, around) for path in reversed(inside)]


def _check_semantic_maps(files: dict[str, dict[str, Path]], frames: Sequence[str]) -> list[str]:
    """A note if some maps are not in Champ's colors; raises InputError for one whose body its mask hides."""
    notes: list[str] = []
    for frame in frames[:: -(-len(frames) // _LOOKED_AT)]:
        path = files[MASKED][frame]
        image, mask = read_image(path), _read_mask(files["mask"][frame])
        kept = share_kept(image, mask)
        if kept < LEAST_KEPT:
            raise InputError(
                f"{files['mask'][frame]}: keeps {kept:.0%} of the body in {path}; the mask is black, inverted or of "
                "another frame: it must be white where the body is"
            )
        complaint = semantic_complaint(image, mask)
        if complaint and not notes:
            notes = [f"{MASKED}/{path.name} {complaint}"]
    return notes


def _mask_boxes(masks: Sequence[Path | None]) -> np.ndarray:
    """(frames, 4) int32 boxes of the bodies in mask files; -1 for an empty mask or none."""
    with ThreadPoolExecutor() as pool:
        boxes = pool.map(lambda path: NO_BOX if path is None else mask_box(_read_mask(path)), masks)
        return np.array(list(boxes), np.int32)


def _read_mask(path: Path) -> np.ndarray:
    """(height, width) bool, true where the body is."""
    return read_image(path, "L") > mask_threshold(path.suffix.lower() == ".png")


def read_boxes(folder: Path, frames: Sequence[str], size: tuple[int, int]) -> np.ndarray | None:
    """(frames, 4) int32 of a video's human_bbox.json, -1 where it has null; None if there is no such file.

    Raises:
      InputError: the file is damaged or does not fit the frames.
    """
    path = folder / BOXES
    if not os.path.lexists(path):
        return None
    listed = read_json(path)
    if not isinstance(listed, list) or len(listed) != len(frames):
        count = f"{len(listed)} boxes" if isinstance(listed, list) else "no list"
        raise InputError(f"{path}: holds {count}, the video has {len(frames)} frames; write one box a frame")
    boxes = np.empty((len(frames), 4), np.int32)
    for frame, box, row in zip(frames, listed, boxes):
        row[:] = NO_BOX if box is None else _checked_box(path, frame, box, size)
    return boxes


def mask_box(mask: np.ndarray) -> tuple[int, int, int, int]:
    """left, top, right, bottom of the pixels that are set in (height, width) bool; -1 if none is."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return NO_BOX
    return (int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)


def _checked_box(path: Path, frame: str, box: object, size: tuple[int, int]) -> np.ndarray:
    try:
        corners = np.asarray(box, np.float64)
        valid = corners.shape == (4,) and np.isfinite(corners).all()
    except (TypeError, ValueError, OverflowError, RecursionError):
        valid = False
    if not valid:
        raise InputError(f"{path}: frame {frame} has {str(box)[:80]}, not [left, top, right, bottom] in pixels")
    corners = np.clip(np.round(corners), 0, (*size, *size)).astype(np.int32)  # detectors go a little beyond the frame
    if (corners[2:] <= corners[:2]).any():
        raise InputError(f"{path}: frame {frame} has an empty box, {box!r}; write null where there is nobody")
    return corners
