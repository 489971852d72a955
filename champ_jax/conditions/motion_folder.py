"""Motion folders: {depth,normal,semantic_map,dwpose,mask}/NNNN.png, one picture a frame and condition.

Frames are read when they are asked for, so a folder of any length costs the memory of one chunk.
"""

import hashlib
import os
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from champ_jax.body.aspect import fit_picture
from champ_jax.body.fields import FPS
from champ_jax.common.condition_names import CONDITIONS, MASK, MASKED
from champ_jax.common.errors import InputError
from champ_jax.common.files import find_type, read_json, require_folder
from champ_jax.common.pictures import check_image, read_image, resize_image
from champ_jax.conditions.frame_files import gap_note, index_frames, mask_threshold, natural_key, parse_frames
from champ_jax.conditions.semantic_colors import LEAST_KEPT, semantic_complaint, share_kept

RECORD = "render.json"
"""The file in a motion folder that says of what the pictures are."""


class MotionFolder:
    """The frames of a motion folder, as a source of conditions for the pipeline.

    Attributes:
      conditions: the names read, in the order asked for.
      names: the frames' names, sorted, after `frames` was applied.
      image_size: (width, height) of the first frame's first condition.
      fps: frames per second that the folder's record says, or None.
    """

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
            Anything in them that is not a picture is ignored.
          conditions: which ones to read.
          frames: 'a:b', a Python slice of the sorted frames; None takes all.
          picture_size: (width, height) of the picture to animate; frames of another aspect are fitted to its aspect.
          fit: 'crop' cuts off what is too much in the middle, 'pad' adds black, 'none' leaves the frames.

        Raises:
          InputError: a folder, a condition or a frame is missing (named), or `frames` lies outside.
        """
        self.folder = Path(folder)
        self.conditions = tuple(conditions)
        require_folder(folder)
        kinds = [*self.conditions, *([MASK] if MASKED in self.conditions else [])]
        self._files = index_frames(self.folder, kinds)
        names = sorted(self._files[kinds[0]], key=natural_key)
        note = gap_note(names)
        if note:
            warnings.warn(f"{self.folder}: {note}", stacklevel=2)
        self.names = [names[i] for i in parse_frames(frames, len(names), str(self.folder))]
        self.image_size = check_image(self._files[kinds[0]][self.names[0]])
        self.fps = read_record(self.folder).get("fps")
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
        """Opens every picture that will be read, and looks whether the semantic maps are what Champ expects.

        Masks, semantic maps and other formats than PNG are decoded, one per thread; other PNG files are checked by
        their checksums.

        Raises:
          InputError: names the first broken picture, or says that the masks leave nothing of any semantic map.

        Warns:
          UserWarning: a semantic map is not drawn in Champ's colors, or the masks leave nothing of some.
        """
        with ThreadPoolExecutor() as pool:
            files = (files[name] for files in self._files.values() for name in self.names)
            for _ in pool.map(check_image, files):
                pass
        if MASKED in self.conditions:
            self._check_masks()
            self._check_colors()

    def _check_masks(self) -> None:
        """Finds black, inverted and foreign masks: those that take the body out of its semantic map."""
        with ThreadPoolExecutor() as pool:
            kept = list(pool.map(self._share_kept, self.names))
        emptied = [name for name, share in zip(self.names, kept) if share < LEAST_KEPT]
        if not emptied:
            return
        first = self._files[MASK][emptied[0]]
        message = (
            f"{first}: keeps {kept[self.names.index(emptied[0])]:.0%} of the body in "
            f"{self._files[MASKED][emptied[0]]}{f', and so in {len(emptied) - 1} more frames' * (len(emptied) > 1)}; "
            "the mask is black, inverted or of another frame: it must be white where the body is"
        )
        if len(emptied) == len(self.names):
            raise InputError(message)
        warnings.warn(message, stacklevel=3)

    def _share_kept(self, name: str) -> float:
        """How much of a semantic map's body lies in the mask."""
        image = read_image(self._files[MASKED][name])
        return share_kept(image, self._mask(name, image.shape[:2]))

    def _check_colors(self) -> None:
        for name in dict.fromkeys((self.names[0], self.names[len(self.names) // 2])):
            path = self._files[MASKED][name]
            image = read_image(path)
            complaint = semantic_complaint(image, self._mask(name, image.shape[:2]))
            if complaint:
                warnings.warn(f"{path} {complaint}", stacklevel=3)
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
        path = self._files[MASK][name]
        mask = read_image(path, "L")
        if mask.shape != shape:
            mask = resize_image(mask, shape[::-1], "nearest")
        return mask > mask_threshold(path.suffix.lower() == ".png")


def read_record(folder: Path) -> dict[str, Any]:
    """What `render.json` says of a folder's pictures; {} where this program did not draw them.

    Returns:
      fingerprint: a hash of everything that the pixels depend on; frames; image_size [width, height]; conditions; fps.
    """
    path = folder / RECORD
    if find_type(path) is None:
        return {}
    record = read_json(path)
    if not isinstance(record, dict):
        raise InputError(f"{path}: is not the record of a motion folder; remove it")
    if record.get("fps") is not None:
        FPS.check(f"{path}: fps", record["fps"])
    return record
