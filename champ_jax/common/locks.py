"""One run at a time on an output or a work folder.

The locks are the operating system's (`flock`): they end with the process that holds them, however it ends, so nothing
has to be cleaned up after a crash or a power cut. On a local disk they hold between all processes of the machine, on
NFS version 3 and later (and other network file systems with lock servers) between all machines; there the server drops
the locks of a host that died after its lease, about 90 seconds. Where a file system has no locks (some FUSE mounts,
Lustre mounted without `flock`), a warning says so and the run continues.
"""

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import socket
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from champ_jax.common.errors import InputError
from champ_jax.common.files import real_output, reason

_HELD = (errno.EWOULDBLOCK, errno.EACCES, errno.EAGAIN)


@contextlib.contextmanager
def hold(*paths: str | os.PathLike) -> Iterator[None]:
    """Locks output files and folders that are replaced whole; hidden lock files are beside them meanwhile.

    Raises:
      InputError: another run holds one (its process and host are named), or the place cannot be written.
    """
    with contextlib.ExitStack() as stack:
        real = {Path(os.path.realpath(path)): path for path in paths}
        for place in sorted(real):  # in one order, so that two runs with the same outputs do not refuse each other
            stack.enter_context(_hold(_beside(place), real[place]))
        yield


@contextlib.contextmanager
def hold_folder(folder: str | os.PathLike) -> Iterator[None]:
    """Locks a work folder that lives on, by the file `.lock` in it; the folder is created if need be.

    Raises:
      InputError: another run holds it (its process and host are named), or it cannot be written.
    """
    with _hold(real_output(folder, folder=True) / ".lock", folder):
        yield


def _beside(path: Path) -> Path:
    name = f".{path.name}.lock"
    if len(name.encode()) > 200:
        name = f".{hashlib.sha256(path.name.encode()).hexdigest()[:32]}.lock"
    return path.with_name(name)


@contextlib.contextmanager
def _hold(lock: Path, path: str | os.PathLike) -> Iterator[None]:
    """Holds the lock file; removes it afterwards, and folders that were made for it if nothing else is in them."""
    made = [folder for folder in lock.parents if not folder.exists()]
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        file = _acquire(lock, path)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({reason(error)}); name another output") from error
    try:
        with file:
            try:
                yield
            finally:
                # Still locked: nobody can hold the file that is removed, and `_acquire` notices that it is gone.
                lock.unlink(missing_ok=True)
    finally:
        for folder in made:
            with contextlib.suppress(OSError):  # not empty, as it should be after a run
                folder.rmdir()


def _acquire(lock: Path, path: str | os.PathLike) -> BinaryIO:
    while True:
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
        file = open(descriptor, "r+b")  # noqa: SIM115, the caller closes it
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            with file:
                if error.errno in _HELD:
                    raise InputError(
                        f"{path}: another run{_holder(file)} is writing it; wait until it ends or name another output"
                    ) from error
            warnings.warn(f"{path}: its file system has no locks; start no second run on it", stacklevel=4)
            return open(os.devnull, "rb")
        if _is_current(file, lock):
            file.truncate(0)
            file.write(json.dumps({"process": os.getpid(), "host": socket.gethostname()}).encode())
            file.flush()
            return file
        file.close()  # the run before removed it between open and lock


def _is_current(file: BinaryIO, lock: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), os.stat(lock))
    except FileNotFoundError:
        return False


def _holder(file: BinaryIO) -> str:
    try:
        about = json.loads(file.read(1000))
        return f" (process {int(about['process'])} on {str(about['host'])[:100]})"
    except (ValueError, KeyError, TypeError, OSError):
        return ""
