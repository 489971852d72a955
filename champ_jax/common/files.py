"""Files in and out. Inputs are regular files of bounded size; outputs appear whole or not at all.

What may be written over is decided in `champ_jax.common.outputs`, who may write in `champ_jax.common.locks`.
"""

import contextlib
import errno
import fcntl
import json
import os
import re
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from champ_jax.common.contents import HEAD, describe
from champ_jax.common.errors import InputError
from champ_jax.common.limits import size_text

MAX_JSON = 64 * 2**20
"""Bytes of the largest JSON or text file that is read whole."""

_SPECIAL = {
    stat.S_IFIFO: "a pipe (FIFO)",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_FULL_TEXT = re.compile(
    r"no space left|quota exceeded|file too large|ENOSPC|EDQUOT|EFBIG|os error (28|122|27)\b"
    r"|\d+ requested and \d+ written|PytorchStreamWriter failed|file write failed|iostream error"
    r"|unexpected pos \d+ vs \d+",
    re.IGNORECASE,
)
# 'gs://bucket/run', which pathlib makes 'gs:/bucket/run', a folder of that name. A drive of Windows has one letter.
_REMOTE = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/+")
_IN_USE = ".in-use"  # in a scratch folder; locked while its process lives
_OLD = ".old"  # in a scratch folder; the folder that is being replaced


def find_type(path: str | os.PathLike) -> str | None:
    """'file', 'folder', a special file in words ('a pipe (FIFO)'), or None where nothing is. Links are followed.

    Raises:
      InputError: the path cannot be looked at: a folder that may not be searched, a name that is too long, a loop of
        links, something below a file; or it is an address ('gs://', 's3://', 'https://'), not a path.
    """
    if address := _REMOTE.match(os.fsdecode(path)):
        raise InputError(
            f"{address[1]}://{os.fsdecode(path)[address.end() :]}: is an address; local files are read and written, so "
            "copy it here, or mount it (gcsfuse, s3fs, rclone) and name the folder"
        )
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({reason(error)})") from error
    except ValueError as error:  # a zero byte, a lone surrogate
        raise InputError(f"{os.fspath(path)!r}: is not a possible name of a file") from error
    if stat.S_ISREG(mode):
        return "file"
    return "folder" if stat.S_ISDIR(mode) else _SPECIAL.get(stat.S_IFMT(mode), "a special file")


def reason(error: OSError) -> str:
    """The operating system's message for an error, without the number and the path."""
    return (error.strerror or str(error) or type(error).__name__).lower()


def require_file(path: str | os.PathLike) -> Path:
    """The path of a regular file that exists.

    Raises:
      InputError: nothing is there, or a folder, a pipe or a device (which is not waited for).
    """
    found = find_type(path)
    if found is None:
        raise InputError(f"{path}: no such file{' (the link leads nowhere)' if os.path.islink(path) else ''}")
    if found != "file":
        raise InputError(f"{path}: is {'a folder' if found == 'folder' else found}, not a file")
    return Path(path)


def require_folder(path: str | os.PathLike) -> Path:
    """The path of a folder that exists and may be listed.

    Raises:
      InputError: nothing is there, or a file (its content is named), or its permissions forbid it.
    """
    found = find_type(path)
    if found is None:
        raise InputError(f"{path}: no such folder{' (the link leads nowhere)' if os.path.islink(path) else ''}")
    if found == "file":
        with open_input(path) as file:
            what = describe(file.read(HEAD)) or "is a file"
        raise InputError(f"{path}: {what}; a folder is expected")
    if found != "folder":
        raise InputError(f"{path}: is {found}, not a folder")
    if not os.access(path, os.R_OK | os.X_OK):
        raise InputError(f"{path}: cannot be read (permission denied)")
    return Path(path)


def open_input(path: str | os.PathLike) -> BinaryIO:
    """Opens a regular file for reading bytes.

    Raises:
      InputError: as `require_file`, or its permissions forbid it.
    """
    path = require_file(path)
    try:
        return open(path, "rb")
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({reason(error)})") from error


def read_bytes(path: str | os.PathLike, limit: int) -> bytes:
    """The content of a file of at most `limit` bytes.

    Raises:
      InputError: as `open_input`, or the file is larger (both numbers are given).
    """
    with open_input(path) as file:
        try:
            size = os.fstat(file.fileno()).st_size
            if size > limit:
                raise InputError(f"{path}: is {size_text(size)}, more than the {size_text(limit)} such a file can have")
            return file.read(limit)
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({reason(error)})") from error


def read_text(path: str | os.PathLike, limit: int = MAX_JSON) -> str:
    """The content of a UTF-8 text file.

    Raises:
      InputError: as `read_bytes`, or it is not text (the message says what it is).
    """
    data = read_bytes(path, limit)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: {describe(data[:HEAD]) or 'is not text'}; UTF-8 text is expected") from error


def read_json(path: str | os.PathLike, limit: int = MAX_JSON) -> Any:
    """The value in a JSON file.

    Raises:
      InputError: as `read_text`, or it is not JSON (line and column are given), or nested too deeply.
    """
    text = read_text(path, limit)
    if not text.strip():
        raise InputError(f"{path}: is empty; JSON is expected")
    if not text.lstrip().startswith(("{", "[", '"', "-", "t", "f", "n", *"0123456789NI")):
        raise InputError(f"{path}: {describe(text[:HEAD].encode()) or 'is not JSON'}; JSON is expected")
    return parse_json(text, str(path))


def parse_json(text: str, name: str) -> Any:
    """The value of JSON text; `name` says in a message where it comes from.

    Raises:
      InputError: it is not JSON, nested too deeply, or holds a number of thousands of digits.
    """
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(f"{name}: is not JSON (line {error.lineno}, column {error.colno}: {error.msg})") from error
    except RecursionError as error:
        raise InputError(f"{name}: is JSON nested too deeply") from error
    except ValueError as error:
        raise InputError(f"{name}: is not JSON ({error})") from error


def write_text(path: str | os.PathLike, text: str) -> None:
    """Writes a text file, whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_text(text)


def write_json(path: str | os.PathLike, value: Any, *, indent: int | None = 1) -> None:
    """Writes a JSON file that ends in a newline, whole or not at all."""
    write_text(path, json.dumps(value, indent=indent) + "\n")


@contextlib.contextmanager
def atomic_path(path: str | os.PathLike, *, folder: bool = False, replace: bool = True) -> Iterator[Path]:
    """Yields a path beside `path` to write a file or a folder at; renames it to `path` when the block succeeds.

    On any exception what was written is removed and `path` keeps what it held. The temporary name keeps the suffix,
    which some writers (PyAV, numpy) read. Where `path` is a link to a file, the file is replaced and the link stays.
    What killed runs left half-written beside `path` is removed, on file systems that support locks.

    Args:
      path: the output.
      folder: whether a folder will be written, which then replaces the folder at `path` whole: check before that it
        holds nothing but results of this program (`champ_jax.common.outputs`).
      replace: whether something that exists at `path` is replaced, or refused.

    Raises:
      InputError: `path` cannot be written, the disk is full (also when libraries say so in their own ways), a folder is
        where a file is meant or the reverse, a pipe or a device, or it exists and `replace` is false.
    """
    real = real_output(path, folder=folder)
    if not replace and os.path.lexists(real):
        raise InputError(f"{path}: exists already; name another output or remove it")
    with translate_full_disk(path), contextlib.ExitStack() as stack:
        try:
            stack.callback(_remove_empty, _make_folders(real.parent))
            _remove_abandoned(real)
            scratch, lock = _make_scratch(real)
        except OSError as error:
            raise _unwritable(path, error) from error
        stack.push(lambda kind, *_: _remove_scratch(scratch, refilled=folder and kind is not None))
        stack.enter_context(lock)
        temporary = scratch / real.name
        yield temporary
        try:
            if folder and real.is_dir():
                # A folder cannot be renamed over a full one: move the old one aside first. After a kill between the two
                # renames `_remove_abandoned` brings it back.
                os.rename(real, scratch / _OLD)
            os.replace(temporary, real)
        except OSError as error:
            raise _unwritable(path, error) from error


def real_output(path: str | os.PathLike, *, folder: bool) -> Path:
    """The place of an output without links and `..` in it.

    Raises:
      InputError: a folder is there where a file is meant or the reverse, or a pipe, a device, a link that leads
        nowhere; or the name is not a possible one.
    """
    try:
        os.fspath(path).encode()
    except UnicodeEncodeError as error:  # bytes that are no UTF-8, which records and encoders cannot name
        raise InputError(f"{path}: is no name in UTF-8; name another output") from error
    found = find_type_of_output(path)
    if found is None and os.path.islink(path):
        raise InputError(f"{path}: is a link that leads nowhere; remove it or name another output")
    if found not in (None, "file", "folder"):
        raise InputError(f"{path}: is {found}; name a {'folder' if folder else 'file'}")
    if found == "folder" and not folder:
        raise InputError(f"{path}: is a folder; name a file")
    if found == "file" and folder:
        raise InputError(f"{path}: is a file; name a folder")
    if found is None and not folder and os.fspath(path).endswith(os.sep):
        raise InputError(f"{path}: names a folder; name a file")
    return Path(os.path.realpath(path))


def find_type_of_output(path: str | os.PathLike) -> str | None:
    """As `find_type`, with messages for outputs."""
    try:
        return find_type(path)
    except InputError as error:
        cause = error.__cause__
        if isinstance(cause, NotADirectoryError):
            places = [Path(path), *Path(path).parents]
            parent = next(place for place in places if not place.is_dir() and os.path.lexists(place))
            raise InputError(f"{path}: {parent} is a file, not a folder; name another output") from cause
        if isinstance(cause, OSError):
            raise InputError(f"{path}: cannot be written ({reason(cause)}); name another output") from cause
        raise


@contextlib.contextmanager
def translate_full_disk(path: str | os.PathLike) -> Iterator[None]:
    """Raises InputError with one line for errors in the block that mean that the disk is full.

    Besides Python's OSError these are what safetensors, Orbax and TensorStore, TFDS, PyTorch, PyAV and NumPy raise.

    Args:
      path: the output, which the message names.
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        if is_disk_full(error):
            raise InputError(f"{path}: the disk or quota is full; free some space or name another output") from error
        raise


def _unwritable(path: str | os.PathLike, error: OSError) -> Exception:
    """What to raise for an error of the operating system while the places of an output were prepared."""
    if is_disk_full(error):
        return error
    return InputError(f"{path}: cannot be written ({reason(error)}); name another output")


def is_disk_full(error: BaseException) -> bool:
    """Whether the error, or one that it came from, says that a disk, quota or file size limit is exhausted."""
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        one = waiting.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        if getattr(one, "errno", None) in _FULL or _FULL_TEXT.search(str(one)):
            return True
        waiting += [one.__cause__, one.__context__, *getattr(one, "exceptions", ())]
    return False


def _make_folders(folder: Path) -> list[Path]:
    """Creates the folder with its parents; returns those that were new, innermost first."""
    new = []
    for place in [folder, *folder.parents]:
        if place.exists():
            break
        new.append(place)
    folder.mkdir(parents=True, exist_ok=True)
    return new


def _remove_empty(folders: list[Path]) -> None:
    for folder in folders:
        with contextlib.suppress(OSError):  # something was written in it, as it should
            folder.rmdir()


def _prefix(path: Path) -> str:
    """How scratch folders of `path` begin; cut, for a file system's names have 255 bytes at most."""
    return f".{path.name.encode()[:100].decode(errors='ignore')}."


def _make_scratch(path: Path) -> tuple[Path, BinaryIO]:
    """A folder beside `path` and the open file in it whose lock says that this process is alive."""
    while True:
        scratch = Path(tempfile.mkdtemp(prefix=_prefix(path), dir=path.parent))
        try:
            lock = open(scratch / _IN_USE, "wb")  # noqa: SIM115
            _try_lock(lock)
            if os.path.exists(scratch / _IN_USE):  # another run may have taken it for abandoned before it was locked
                return scratch, lock
            lock.close()
        except FileNotFoundError:
            continue
        except OSError:
            shutil.rmtree(scratch, ignore_errors=True)
            raise


def _remove_scratch(scratch: Path, *, refilled: bool) -> None:
    """Removes a scratch folder.

    Where writing a folder failed (`refilled`), a library's abandoned writers may still put files into it, and make it
    anew: Orbax's do after one of them has met a full disk. It is removed until it stays away.
    """
    shutil.rmtree(scratch, ignore_errors=True)
    if refilled:
        gone = 0
        for _ in range(50):
            time.sleep(0.1)
            gone = 0 if scratch.exists() else gone + 1
            if gone == 5:
                return
            shutil.rmtree(scratch, ignore_errors=True)


def _remove_abandoned(path: Path) -> None:
    """Removes the scratch folders of `path` that killed runs left: those whose lock nobody holds."""
    name = re.compile(re.escape(_prefix(path)) + r"[a-z0-9_]{8}")
    with os.scandir(path.parent) as entries:
        candidates = [
            Path(one.path) for one in entries if name.fullmatch(one.name) and one.is_dir(follow_symlinks=False)
        ]
    for scratch in candidates:
        with contextlib.suppress(OSError), open(scratch / _IN_USE, "r+b") as lock:
            if _try_lock(lock):
                if (scratch / _OLD).is_dir() and not path.exists():
                    os.rename(scratch / _OLD, path)
                shutil.rmtree(scratch, ignore_errors=True)


def _try_lock(file: BinaryIO) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # held by another, or the file system has no locks
        return False
    return True
