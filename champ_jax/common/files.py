"""Outputs appear whole or not at all: written beside their place, then renamed."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from champ_jax.common.errors import InputError


@contextlib.contextmanager
def atomic_path(path: str | os.PathLike, *, replace: bool = True) -> Iterator[Path]:
    """Yields a path beside `path` to write a file or a folder at; renames it to `path` when the block succeeds.

    On any exception what was written is removed and `path` keeps what it held. The name keeps the suffix, which some
    writers (PyAV, numpy) read. With `replace=False` an existing `path` is refused.

    Raises:
      InputError: the folder cannot be written, or `path` exists and `replace` is false.
    """
    path = Path(path)
    if path.exists() and not replace:
        raise InputError(f"{path}: exists already; name another output or remove it")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror}); name another output") from error
    try:
        temporary = scratch / path.name
        yield temporary
        if path.is_dir() and not path.is_symlink():
            # A folder cannot be renamed over a full one: move the old one aside first, so that a kill between
            # the two renames leaves both on disk.
            os.rename(path, scratch / f"{path.name}.old")
        os.replace(temporary, path)
    except OSError as error:
        if error.errno is not None and error.errno in (28, 122):  # ENOSPC, EDQUOT
            raise InputError(f"{path}: no space left on the disk; free some or name another output") from error
        raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def require_space(path: str | os.PathLike, size: int) -> None:
    """Raises InputError if the disk that will hold `path` has less than `size` bytes free."""
    folder = Path(path).absolute()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if free < size:
        raise InputError(
            f"{path}: needs {size / 2**20:,.0f} MiB, the disk has {free / 2**20:,.0f} MiB free; "
            "free some or name another output"
        )
