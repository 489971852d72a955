"""The pictures of a motion folder or a video folder by frame, and ranges of frames."""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from champ_jax.common.condition_names import MASK, MASKED
from champ_jax.common.errors import InputError
from champ_jax.common.pictures import list_images

_NAMED = 8  # how many missing frames a message names


def index_frames(folder: Path, kinds: Sequence[str]) -> dict[str, dict[str, Path]]:
    """{kind: {frame name: file}} of a folder that holds a folder of pictures for every kind.

    Raises:
      InputError: a kind or a frame is missing (named), or a frame has two files.
    """
    there = sorted(path.name for path in folder.iterdir() if path.is_dir())
    for kind in kinds:
        if kind not in there:
            nested = next((name for name in there if (folder / name / kind).is_dir()), None)
            if nested is not None:
                raise InputError(f"{folder}: has no {kind}/, but {folder / nested} has; give that folder")
            reason = " (semantic maps are masked with it)" if kind == MASK else ""
            remedy = f"render it, or leave {MASKED if kind == MASK else kind} out of the conditions"
            if kind == "images":
                remedy = "put the frames of the video there"
            raise InputError(f"{folder}: has no {kind}/{reason}, it has {', '.join(there) or 'no folders'}; {remedy}")
    files: dict[str, dict[str, Path]] = {}
    for kind in kinds:
        files[kind] = {}
        for path in list_images(folder / kind):
            if path.stem in files[kind]:
                raise InputError(f"{path}: {files[kind][path.stem].name} is the same frame; keep one of them")
            files[kind][path.stem] = path
        if not files[kind]:
            raise InputError(f"{folder / kind}: holds no pictures (PNG, JPEG or WebP)")
    files = _match_numbers(files)
    every = sorted(set().union(*files.values()), key=natural_key)
    missing = [f"{kind}/{name}" for name in every for kind in kinds if name not in files[kind]]
    if missing:
        more = f" and {len(missing) - _NAMED} more" if len(missing) > _NAMED else ""
        counts = ", ".join(f"{len(files[kind])} {kind}" for kind in kinds)
        raise InputError(
            f"{folder}: missing {', '.join(missing[:_NAMED])}{more} ({counts}); "
            "render these frames, or remove their other pictures"
        )
    return files


def _match_numbers(files: dict[str, dict[str, Path]]) -> dict[str, dict[str, Path]]:
    """Names frames by the numbers their files end in, where that brings together what names do not.

    depth/depth_0001.png and normal/normal_0001.png, or 1.png and 0001.png, are one frame.
    """
    numbered: dict[str, dict[str, Path]] = {}
    for kind, paths in files.items():
        endings = {name: re.search(r"[0-9]{1,18}$", name) for name in paths}
        numbered[kind] = {f"{int(end[0]):04}": paths[name] for name, end in endings.items() if end}
        if len(numbered[kind]) < len(paths):
            return files
    return numbered if len(set().union(*numbered.values())) < len(set().union(*files.values())) else files


def parse_frames(frames: str | None, count: int, source: str) -> range:
    """The frame positions that 'a:b' (or 'a:b:step') takes of `count` frames, as a Python slice does.

    Raises:
      InputError: not a slice, an empty one, or one that reaches outside of the frames; `source` is named.
    """
    if not frames:
        return range(count)
    if not re.fullmatch(r"\s*(-?[0-9]{1,9})?\s*:\s*(-?[0-9]{1,9})?\s*(:\s*[0-9]{0,9}\s*)?", frames):
        raise InputError(f"frames={frames}: not a range of frames; write a:b, for example 0:100")
    start, stop, step = ([int(part) if part.strip() else None for part in frames.split(":")] + [None])[:3]
    for bound in (start, stop):
        if bound is not None and not -count <= bound <= count:
            raise InputError(f"frames={frames}: {source} has {count} frames; stay within 0:{count}")
    if step == 0:
        raise InputError(f"frames={frames}: the step must be 1 or more")
    taken = range(count)[slice(start, stop, step)]
    if not taken:
        raise InputError(f"frames={frames}: takes none of the {count} frames of {source}")
    return taken


def natural_key(name: str) -> list[tuple[int, int | str]]:
    """Sorts 2 before 10; zero-padded names sort as they do by letters."""
    parts = re.split(r"([0-9]+)", name)
    return [(0, int(part)) if place % 2 else (1, part) for place, part in enumerate(parts) if part]


def mask_threshold(lossless: bool) -> int:
    """The gray value above which a mask's pixel is of the body; lossy files have no exact 0."""
    return 0 if lossless else 127


def gap_note(names: Sequence[str]) -> str | None:
    """A line that names where the frames' numbers have holes; None if there are none, or if the stride is even."""
    if not all(re.fullmatch(r"[0-9]{1,18}", name) for name in names) or len(names) < 3:
        return None
    steps = np.diff([int(name) for name in names])
    holes = np.flatnonzero(steps > steps.min())
    if not len(holes):
        return None
    first = holes[0]
    return (
        f"frame numbers jump from {names[first]} to {names[first + 1]}"
        f"{f' and at {len(holes) - 1} more places' if len(holes) > 1 else ''}; they are taken as neighbors"
    )
