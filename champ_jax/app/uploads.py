"""Files that users send: received up to a limit, looked at, and kept in a private folder."""

import dataclasses
import os
import re
import shutil
import stat
import unicodedata
import zipfile
import zlib
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, Protocol

from champ_jax.app.settings import AppSettings
from champ_jax.body.importers import import_motion
from champ_jax.common.condition_names import CONDITIONS, MASK
from champ_jax.common.contents import HEAD, describe
from champ_jax.common.errors import InputError
from champ_jax.common.files import open_input
from champ_jax.common.limits import require_space, size_text
from champ_jax.common.pictures import IMAGE_SUFFIXES, check_image
from champ_jax.common.videos import VIDEO_SUFFIXES, video_facts
from champ_jax.conditions.motion_folder import RECORD, MotionFolder

PICTURE, MOTION, MOTION_FOLDER, VIDEO = "picture", "motion", "motion folder", "video"
KINDS = {
    **dict.fromkeys((*IMAGE_SUFFIXES, ".bmp", ".tif", ".tiff", ".avif"), PICTURE),
    ".npz": MOTION,
    ".zip": MOTION_FOLDER,
    **dict.fromkeys(VIDEO_SUFFIXES, VIDEO),
}
"""{ending of a name: what the file is}."""

_PART = 2**20
_ENTRIES = 8  # files of a motion folder's zip, at most, to every frame that is allowed: five maps and what is beside
_RATIO = 20  # how much larger than the limit of an upload an unpacked motion folder may be


class Readable(Protocol):
    """What files are received from: an open file, or a request's body."""

    def read(self, size: int, /) -> bytes:
        """The next bytes, in any number; b'' at the end."""


class UploadTooLarge(InputError):
    """A file is larger than the server takes."""


@dataclasses.dataclass(frozen=True)
class Upload:
    """A file that a user sent.

    Attributes:
      id: what requests call it; it cannot be guessed.
      name: the file's name as the user knows it.
      kind: 'picture', 'motion', 'motion folder' or 'video'.
      path: the file, or the folder of a motion folder; below the server's private folder.
      width, height: pixels of the picture, the motion's camera, the maps or the video.
      frames: number of frames, 1 of a picture; of a video what the file says or its length gives, None where it says
        neither.
      fps: frames per second; None of a picture, and of a folder that does not say.
    """

    id: str
    name: str
    kind: str
    path: Path
    width: int
    height: int
    frames: int | None = 1
    fps: float | None = None

    def to_json(self) -> dict[str, Any]:
        """What the API says of it: everything but the path."""
        return {name: value for name, value in dataclasses.asdict(self).items() if name != "path"}


def safe_name(name: str) -> str:
    """A file's name without folders and without characters that file systems or terminals act on, 80 at most."""
    name = re.split(r"[/\\]", unicodedata.normalize("NFC", name))[-1]
    stem, suffix = os.path.splitext("".join(c if c.isalnum() or c in "-_. " else "_" for c in name).strip(" ."))
    suffix = suffix[:10]
    while len((stem + suffix).encode()) > 80:
        stem = stem[:-1]
    return (stem or "file") + suffix


def receive(stream: Readable, path: Path, name: str, limit: int) -> None:
    """Writes what a stream holds into a file.

    Raises:
      UploadTooLarge: it is longer than `limit` bytes.
      InputError: the disk is full.
    """
    require_space(path, _PART)
    size = 0
    with open(path, "xb") as file:
        while part := stream.read(_PART):
            size += len(part)
            if size > limit:
                raise UploadTooLarge(
                    f"{name}: is larger than the {size_text(limit)} that this server takes; make it smaller"
                )
            file.write(part)


def examine(path: Path, settings: AppSettings) -> dict[str, Any]:
    """Looks what a received file is and whether it can be used; the name's ending says what it should be.

    A zip is unpacked beside itself and removed.

    Returns:
      The fields of `Upload` from `kind` on.

    Raises:
      InputError: it is none of the kinds, broken, or larger than the settings allow.
    """
    kind = KINDS.get(path.suffix.lower())
    if kind is None:
        with open_input(path) as file:
            what = describe(file.read(HEAD)) or "is of an unknown kind"
        raise InputError(f"{path.name}: {what}; its name must end in {', '.join(KINDS)}")
    about: dict[str, Any] = {"kind": kind, "path": path, "frames": 1, "fps": None}
    if kind == PICTURE:
        about["width"], about["height"] = check_image(path, settings.max_picture_pixels)
    elif kind == MOTION:
        motion, _ = import_motion(path)
        about["width"], about["height"] = (int(side) for side in motion.image_size)
        about["frames"], about["fps"] = len(motion), float(motion.fps)
    elif kind == MOTION_FOLDER:
        about["path"] = _unpack(path, settings)
        folder = MotionFolder(about["path"], conditions_of(about["path"]))
        folder.check()
        about["width"], about["height"] = folder.image_size
        about["frames"], about["fps"] = len(folder), folder.fps
    else:
        facts = video_facts(path)
        _limit_pixels(path.name, facts.width, facts.height, settings.max_picture_pixels)
        about |= {"width": facts.width, "height": facts.height, "frames": facts.frames, "fps": facts.fps}
    if about["frames"] is not None and about["frames"] > settings.max_driving_frames:
        raise InputError(
            f"{path.name}: has {about['frames']:,} frames, more than the {settings.max_driving_frames:,} that this "
            "server takes; cut it"
        )
    return about


def _limit_pixels(name: str, width: int, height: int, most: int) -> None:
    if width * height > most:
        raise InputError(
            f"{name}: has {width}x{height} pixels, more than the {most:,} that this server takes; make it smaller"
        )


def conditions_of(folder: Path) -> tuple[str, ...]:
    """The conditions that a folder has pictures of; all where it has none, so that the error names them."""
    return tuple(name for name in CONDITIONS if (folder / name).is_dir()) or CONDITIONS


def _unpack(path: Path, settings: AppSettings) -> Path:
    """Unpacks the maps of a motion folder's zip into a folder beside it.

    Only pictures in folders of conditions' names, and the folder's record, are taken, whatever folder they are in;
    names in the archive never reach the file system.

    Raises:
      InputError: it is not a zip or damaged, encrypted, holds no maps, or too much.
    """
    name, folder = path.name, path.with_suffix("")
    kinds, limit = (*CONDITIONS, MASK), settings.max_upload_mib * 2**20 * _RATIO
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            if len(entries) > _ENTRIES * settings.max_driving_frames:
                raise InputError(
                    f"{name}: holds {len(entries):,} files, too many for {settings.max_driving_frames:,} frames; cut it"
                )
            taken = {}
            for entry in entries:
                parts = re.split(r"[/\\]", entry.filename)  # some programs of Windows write backslashes
                is_record = parts[-1] == RECORD
                if not is_record and not _is_map(parts, kinds):
                    continue
                if stat.S_IFMT(entry.external_attr >> 16) not in (0, stat.S_IFREG):
                    raise InputError(
                        f"{name}: {entry.filename} is a link or a special file; pack the pictures themselves"
                    )
                if entry.flag_bits & 1:
                    raise InputError(f"{name}: is encrypted; pack it without a password")
                place = folder / RECORD if is_record else folder / parts[-2] / safe_name(parts[-1])
                if place in taken:
                    raise InputError(f"{name}: holds two files {place.relative_to(folder)}; pack one motion folder")
                taken[place] = entry
            if not set(taken) - {folder / RECORD}:
                raise InputError(f"{name}: holds no {'/, '.join(kinds)}/ with pictures; pack a motion folder")
            left = limit
            for place, entry in taken.items():
                place.parent.mkdir(parents=True, exist_ok=True)
                require_space(place, min(entry.file_size, left))
                with archive.open(entry) as source, open(place, "xb") as file:
                    while part := source.read(_PART):
                        left -= len(part)
                        if left < 0:
                            raise InputError(f"{name}: unpacks to more than {size_text(limit)}; make it smaller")
                        file.write(part)
                if place.name != RECORD:
                    check_image(place, settings.max_picture_pixels)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError, OSError) as error:
        shutil.rmtree(folder, ignore_errors=True)
        if isinstance(error, InputError):
            raise
        raise InputError(f"{name}: cannot be unpacked ({error}); pack it again as a zip") from error
    path.unlink()
    return folder


def _is_map(parts: Sequence[str], kinds: Collection[str]) -> bool:
    """Whether a name in an archive, split into folders and file, is that of a map's picture."""
    if len(parts) < 2 or parts[-2] not in kinds or parts[-1].startswith(".") or "__MACOSX" in parts:
        return False
    return os.path.splitext(parts[-1])[1].lower() in IMAGE_SUFFIXES
