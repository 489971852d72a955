"""The rule of what a command may write over, checked for all its outputs before any work.

An output is never an input of the run, never inside a folder that is read nor a folder around an input, and never
another output of the run or of another job, by whatever path, link or spelling. It is a file where a file is meant and
a folder where a folder is meant. What is there already is replaced only if it is a result of the same kind as will be
written, or empty.
"""

import dataclasses
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from champ_jax.common.contents import HEAD, describe
from champ_jax.common.errors import InputError
from champ_jax.common.files import find_type_of_output, open_input, read_json, real_output, reason
from champ_jax.common.limits import size_text


@dataclasses.dataclass(frozen=True)
class Kind:
    """A kind of output.

    Attributes:
      name: The name with its article, for messages: 'a video'.
      is_ours: whether what is at a path may be replaced, for it is of this kind. Files that are empty are never asked
        about, nor empty folders.
      folder: whether it is a folder.
    """

    name: str
    is_ours: Callable[[Path], bool]
    folder: bool = False


def _starts(*starts: bytes) -> Callable[[Path], bool]:
    def is_ours(path: Path) -> bool:
        with open_input(path) as file:
            return file.read(HEAD).startswith(starts)

    return is_ours


def _is_video(path: Path) -> bool:
    with open_input(path) as file:
        head = file.read(HEAD)
    return head[4:8] == b"ftyp" and describe(head) == "is a video (MP4 or MOV)"  # no HEIC, no AVIF


VIDEO = Kind("a video", _is_video)
PNG = Kind("a PNG picture", _starts(b"\x89PNG"))
NPY = Kind("a NumPy array (.npy)", _starts(b"\x93NUMPY"))
NPZ = Kind("an archive of NumPy arrays (.npz)", _starts(b"PK"))


def json_with(name: str, *fields: str) -> Kind:
    """JSON that holds an object with these fields; `name` with its article, for messages."""

    def is_ours(path: Path) -> bool:
        try:
            value = read_json(path)
        except InputError:
            return False
        return isinstance(value, dict) and set(fields) <= set(value)

    return Kind(name, is_ours)


def folder_of(name: str, pattern: str) -> Kind:
    r"""A folder of files alone, whose names match the pattern, for example r'map_\d{4,}\.png'. A link is no file."""

    def is_ours(path: Path) -> bool:
        return all(re.fullmatch(pattern, name) for name in _file_names(path))

    return Kind(name, is_ours, folder=True)


def _file_names(folder: Path) -> list[str]:
    """The names in a folder, '' for what is no regular file."""
    with os.scandir(folder) as entries:
        return [one.name if one.is_file(follow_symlinks=False) else "" for one in entries]


def _holds_frames(folder: Path) -> bool:
    names = sorted(_file_names(folder), key=lambda name: (len(name), name))
    return names == [f"{number:04}.png" for number in range(1, len(names) + 1)]


FRAMES = Kind("a folder of frames (0001.png and so on)", _holds_frames, folder=True)


def folder_with(name: str, is_ours: Callable[[Path], bool]) -> Kind:
    """A folder that `is_ours` recognizes, by a record in it for example."""
    return Kind(name, is_ours, folder=True)


@dataclasses.dataclass(frozen=True)
class Output:
    """One file or folder that a run is going to write.

    Attributes:
      option: what the user calls it: '--config.output', or 'jobs.jsonl line 3: output'.
      path: where it will be.
      kind: what it will be.
      size: bytes it will take, as far as known.
    """

    option: str
    path: str | os.PathLike
    kind: Kind
    size: int = 0

    def __str__(self) -> str:
        return f"{self.option}={os.fspath(self.path)}"


def claim(outputs: Sequence[Output], inputs: Iterable[str | os.PathLike] = ()) -> None:
    """Checks the rule for all outputs of a run, and that they can be written. Leaves nothing on the disk.

    Args:
      outputs: all that the run is going to write, those of all its jobs.
      inputs: every file that is read, and folders of which everything is read. Nothing may be written inside of these,
        so name what is read, not a folder around it.

    Raises:
      InputError: names the output that breaks the rule, cannot be written, or does not fit on its disk.
    """
    places = [_Place.of(output.path, real_output(output.path, folder=output.kind.folder)) for output in outputs]
    sources = [_Place.of(path, Path(os.path.realpath(path))) for path in inputs]
    for output, place in zip(outputs, places):
        for source in sources:
            _keep_apart(output, place, source, f"the input {source.path}")
        if place.inode is not None:
            _check_replaceable(output, place.real)
    names: dict[str, int] = {}
    for number, (output, place) in enumerate(zip(outputs, places)):
        # Disks of some systems take no notice of case, so neither does this.
        for key in filter(None, (str(place.real).casefold(), place.inode and str(place.inode))):
            if (other := names.setdefault(key, number)) != number:
                raise InputError(f"{output}: is the same as {outputs[other]}; name different outputs")
    for number, (output, place) in enumerate(zip(outputs, places)):
        for parent in place.real.parents:
            if (outer := names.get(str(parent).casefold())) is not None and outer != number:
                raise InputError(f"{output}: is inside {outputs[outer]}; name different outputs")
    _check_disks(outputs, [place.real for place in places])


@dataclasses.dataclass(frozen=True)
class _Place:
    """A path as given, without links and `..`, and what identifies the file there under all its names."""

    path: str
    real: Path
    inode: tuple[int, int] | None

    @classmethod
    def of(cls, path: str | os.PathLike, real: Path) -> "_Place":
        try:
            status = os.stat(real)
        except (OSError, ValueError):
            return cls(os.fspath(path), real, None)
        return cls(os.fspath(path), real, (status.st_dev, status.st_ino))


def _keep_apart(output: Output, place: _Place, other: _Place, what: str) -> None:
    same = place.real == other.real or (place.inode is not None and place.inode == other.inode)
    if same:
        raise InputError(f"{output}: is {what}, which would be lost; name another output")
    if other.real in place.real.parents:
        raise InputError(f"{output}: is inside {what}; name another output")
    if place.real in other.real.parents and output.kind.folder:
        raise InputError(f"{output}: holds {what}, which would be lost; name another output")


def _check_replaceable(output: Output, path: Path) -> None:
    try:
        if output.kind.folder:
            if not any(path.iterdir()) or output.kind.is_ours(path):
                return
            what = "is a folder that holds other things"
        else:
            if not path.stat().st_size or output.kind.is_ours(path):
                return
            with open_input(path) as file:
                what = describe(file.read(HEAD)) or "is a file of another kind"
    except OSError as error:
        raise InputError(f"{output}: cannot be read ({reason(error)}); name another output") from error
    raise InputError(f"{output}: {what}, not {output.kind.name} that may be replaced; name another output or remove it")


def _check_disks(outputs: Sequence[Output], places: Sequence[Path]) -> None:
    """Proves that something can be written where each output will be, and that all of them fit."""
    needed: dict[int, int] = {}
    proven: set[Path] = set()
    for output, place in zip(outputs, places):
        folder = place.parent
        while find_type_of_output(folder) is None:
            folder = folder.parent
        if not folder.is_dir():
            raise InputError(f"{output}: {folder} is a file, not a folder; name another output")
        try:
            if folder not in proven:
                with tempfile.NamedTemporaryFile(prefix=".proof.", dir=folder) as file:
                    file.write(b"0")
                    file.flush()
                proven.add(folder)
            if len(os.fsencode(place.name)) > os.pathconf(folder, "PC_NAME_MAX"):
                raise InputError(f"{output}: cannot be written (file name too long); name another output")
            device, free = os.stat(folder).st_dev, shutil.disk_usage(folder).free
        except OSError as error:
            raise InputError(f"{output}: cannot be written ({reason(error)}); name another output") from error
        needed[device] = needed.get(device, 0) + output.size
        if needed[device] > free:
            raise InputError(
                f"{output}: the outputs need {size_text(needed[device])}, the disk has {size_text(free)} free; "
                "free some or name another output"
            )
