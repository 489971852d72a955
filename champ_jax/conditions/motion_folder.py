"""Motion folders: {depth,normal,semantic_map,dwpose,mask}/NNNN.png, one picture a frame and condition.

Frames are read when they are asked for, so a folder of any length costs the memory of one chunk.
"""

import hashlib
import os
import re
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from champ_jax.body.aspect import fit_picture
from champ_jax.common.condition_names import CONDITIONS, MASKED
from champ_jax.common.errors import InputError
from champ_jax.common.pictures import check_image, list_images, read_image, resize_image

_NAMED = 8  # how many missing frames a message spells out


class MotionFolder:
    """The frames of a motion folder, as a source of conditions for the pipeline.

    Attributes:
      conditions: the names read, in the order asked for.
      names: the frames' names, sorted, after `frames` was applied.
      image_size: (width, height) of the first frame's first condition.
      fps: None, as a folder does not say.
    """

    fps = None

    def __init__(
        self,
        folder: str | os.PathLike,
        conditions: Sequence[str] = CONDITIONS,
        frames: str | None = None,
        *,
        picture_size: tuple[int, int] | None = None,
        fit: str = "none",
    ) -> None:
        """
        Args:
          folder: holds a folder of pictures (PNG, JPEG or WebP) for every condition, and `mask` for semantic maps.
            Anything in them that is no picture is ignored.
          conditions: which ones to read.
          frames: 'a:b', a Python slice of the sorted frames; None takes all.
          picture_size: (width, height) of the picture to animate; frames of another aspect are fitted to its aspect.
          fit: 'crop' cuts off what is too much in the middle, 'pad' adds black, 'none' leaves the frames.

        Raises:
          InputError: a folder, a condition or a frame is missing (named), or `frames` lies outside.
        """
        self.folder = Path(folder)
        self.conditions = tuple(conditions)
        if not self.folder.is_dir():
            raise InputError(f"{self.folder}: no such motion folder")
        kinds = [*self.conditions, *(["mask"] if MASKED in self.conditions else [])]
        self._files = index_frames(self.folder, kinds)
        names = sorted(self._files[kinds[0]], key=natural_key)
        note = gap_note(names)
        if note:
            warnings.warn(f"{self.folder}: {note}", stacklevel=2)
        self.names = [names[i] for i in parse_frames(frames, len(names), str(self.folder))]
        self.image_size = check_picture(self._files[kinds[0]][self.names[0]])
        self._picture_size, self._fit = picture_size, fit

    def __len__(self) -> int:
        return len(self.names)

    @property
    def fingerprint(self) -> str:
        """A hash of the files that will be read, their bytes and their order."""

        def digest(path: Path) -> bytes:
            return hashlib.sha256(path.read_bytes()).digest()

        total = hashlib.sha256()
        with ThreadPoolExecutor() as pool:
            for kind, files in self._files.items():
                total.update(kind.encode())
                for one in pool.map(digest, (files[name] for name in self.names)):
                    total.update(one)
        return total.hexdigest()

    def check(self) -> None:
        """Opens every picture that will be read, and looks at the colours of some semantic maps.

        PNG files are checked by their checksums; others are decoded, one at a time.

        Raises:
          InputError: names the first broken picture.

        Warns:
          UserWarning: a semantic map is not drawn in Champ's colours.
        """
        with ThreadPoolExecutor() as pool:
            files = (files[name] for files in self._files.values() for name in self.names)
            for _ in pool.map(check_picture, files):
                pass
        if MASKED in self.conditions:
            from champ_jax.conditions.semantic_colors import semantic_complaint  # brings JAX, which readers do without

            for name in dict.fromkeys((self.names[0], self.names[len(self.names) // 2])):
                path = self._files[MASKED][name]
                image = read_image(path)
                complaint = semantic_complaint(image, self._mask(name, image.shape[:2]))
                if complaint:
                    warnings.warn(f"{path} {complaint}", stacklevel=2)
                    break

    def read(self, start: int, stop: int, size: tuple[int, int] | None = None) -> dict[str, np.ndarray]:
        """Frames start..stop of every condition, {condition: (stop - start, height, width, 3) uint8}.

        Args:
          start, stop: positions among `names`.
          size: (width, height), reached by bicubic resizing; None keeps the pictures' own, which must agree then.

        Raises:
          InputError: a picture is broken, or sizes differ where none was asked for.
        """
        names = self.names[start:stop]
        with ThreadPoolExecutor() as pool:
            rows = {
                condition: list(pool.map(lambda name, kind=condition: self._picture(kind, name, size), names))
                for condition in self.conditions
            }
        for condition, pictures in rows.items():
            for name, picture in zip(names, pictures):
                if picture.shape != pictures[0].shape:
                    raise InputError(
                        f"{self._files[condition][name]}: is {picture.shape[1]}x{picture.shape[0]}, "
                        f"other frames are {pictures[0].shape[1]}x{pictures[0].shape[0]}; name an output size"
                    )
        return {condition: np.stack(pictures) for condition, pictures in rows.items()}

    def _picture(self, condition: str, name: str, size: tuple[int, int] | None) -> np.ndarray:
        image = read_image(self._files[condition][name])
        if condition == MASKED:
            image = image * self._mask(name, image.shape[:2])[..., None]
        if self._picture_size is not None:
            image = fit_picture(image, self._picture_size, self._fit)
        return image if size is None else resize_image(image, size)

    def _mask(self, name: str, shape: tuple[int, int]) -> np.ndarray:
        """(H, W) bool, resized to `shape` if need be."""
        path = self._files["mask"][name]
        mask = read_image(path, "L")
        if mask.shape != shape:
            mask = resize_image(mask, shape[::-1], "nearest")
        return mask > mask_threshold(path.suffix.lower() == ".png")


def index_frames(folder: Path, kinds: Sequence[str]) -> dict[str, dict[str, Path]]:
    """{kind: {frame name: file}} of a folder that holds a folder of pictures for every kind.

    Raises:
      InputError: a kind or a frame is missing (named), or a frame has two files.
    """
    there = sorted(path.name for path in folder.iterdir() if path.is_dir())
    for kind in kinds:
        if kind not in there:
            reason = " (semantic maps are masked with it)" if kind == "mask" else ""
            mend = f"render it, or leave {MASKED if kind == 'mask' else kind} out of the conditions"
            if kind == "images":
                mend = "put the frames of the video there"
            raise InputError(f"{folder}: has no {kind}/{reason}, it has {', '.join(there) or 'no folders'}; {mend}")
    files: dict[str, dict[str, Path]] = {}
    for kind in kinds:
        files[kind] = {}
        for path in list_images(folder / kind):
            if path.stem in files[kind]:
                raise InputError(f"{path}: {files[kind][path.stem].name} is the same frame; keep one of them")
            files[kind][path.stem] = path
        if not files[kind]:
            raise InputError(f"{folder / kind}: holds no pictures (PNG, JPEG or WebP)")
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


def parse_frames(frames: str | None, count: int, source: str) -> range:
    """The frame positions that 'a:b' (or 'a:b:step') takes of `count` frames, as a Python slice does.

    Raises:
      InputError: not a slice, an empty one, or one that reaches outside of the frames; `source` is named.
    """
    if not frames:
        return range(count)
    if not re.fullmatch(r"\s*(-?\d+)?\s*:\s*(-?\d+)?\s*(:\s*\d*\s*)?", frames):
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
    return [(0, int(part)) if part.isdigit() else (1, part) for part in re.split(r"(\d+)", name) if part]


def mask_threshold(lossless: bool) -> int:
    """The grey value above which a mask's pixel is of the body; lossy files have no exact 0."""
    return 0 if lossless else 127


check_picture = check_image


def gap_note(names: Sequence[str]) -> str | None:
    """Tells where the frames' numbers have holes; None if there are none. An even stride is taken as meant."""
    if not all(name.isdigit() for name in names) or len(names) < 3:
        return None
    numbers = [int(name) for name in names]
    steps = np.diff(numbers)
    holes = np.flatnonzero(steps > steps.min())
    if not len(holes):
        return None
    first = holes[0]
    return (
        f"frame numbers jump from {names[first]} to {names[first + 1]}"
        f"{f' and at {len(holes) - 1} more places' if len(holes) > 1 else ''}; they are taken as neighbours"
    )
