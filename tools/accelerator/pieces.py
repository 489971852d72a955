"""A large file as several small ones, for machines that hand back only small files, and back again bit for bit.

    NAME.00.piece, NAME.01.piece, ...

A piece is one line of JSON and then the bytes. The line has the number of pieces, the size and the SHA-256 of the whole
file, and the SHA-256 of the piece's bytes, so any piece tells what belongs to it and whether it is whole.
"""

import hashlib
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from champ_jax.common.errors import InputError, listed
from champ_jax.common.files import atomic_path, open_input, parse_json, reason, require_folder
from champ_jax.common.limits import require_space

LARGEST = 15 * 2**20
"""Bytes of a piece at most, its first line included."""

FORMAT = "champ_jax piece"
_LINE = 4096  # bytes of the first line at most
_NAME = re.compile(r"[A-Za-z0-9._-]+")
_BLOCK = 2**20


def split(path: str | os.PathLike, folder: str | os.PathLike, name: str, largest: int = LARGEST) -> list[Path]:
    """Writes a file's pieces and removes those of an earlier file of that name.

    Args:
      path: the file.
      folder: where the pieces go.
      name: what their names begin with: letters, digits, '.', '_', '-'.
      largest: bytes of a piece at most.

    Returns:
      The pieces in order. An empty file is one piece.

    Raises:
      InputError: no such file, an impossible name, a folder that cannot be written.
    """
    folder = Path(folder)
    if not _NAME.fullmatch(name):
        raise InputError(f"{name!r}: a name of pieces has letters, digits, '.', '_' and '-' alone")
    room = largest - _LINE
    with open_input(path) as file:
        size, whole = os.fstat(file.fileno()).st_size, _digest(file)
        require_space(folder, size)
        count = max(1, -(-size // room))
        made = []
        for number in range(count):
            data = _read(file, number * room, min(room, size - number * room))
            head = {
                "format": FORMAT,
                "name": name,
                "piece": number,
                "pieces": count,
                "size": size,
                "sha256": whole,
                "bytes": len(data),
                "piece_sha256": hashlib.sha256(data).hexdigest(),
            }
            made.append(folder / _file_name(name, number))
            with atomic_path(made[-1]) as temporary:
                temporary.write_bytes(json.dumps(head).encode() + b"\n" + data)
    for old in _find(folder, name):
        if old not in made:
            old.unlink()
    return made


def join(folder: str | os.PathLike, name: str, output: str | os.PathLike) -> None:
    """Puts a file together again; it appears whole or not at all.

    Args:
      folder: where its pieces are.
      name: what their names begin with.
      output: the file to write.

    Raises:
      InputError: a piece is missing, damaged or of another file; each message names the piece.
    """
    folder = require_folder(folder)
    found = _find(folder, name)
    if not found:
        raise InputError(f"{folder / _file_name(name, 0)}: no such file")
    heads = [_read_head(path, name) for path in found]
    first = heads[0]
    for path, head in zip(found, heads):
        if any(head[field] != first[field] for field in ("pieces", "size", "sha256")):
            raise InputError(f"{path}: belongs to another file than {found[0].name}; copy all pieces of one file again")
    there = {head["piece"] for head in heads}
    missing = [_file_name(name, number) for number in range(first["pieces"]) if number not in there]
    if missing:
        raise InputError(
            f"{folder}: of {first['pieces']} pieces {listed(missing)} {'is' if len(missing) == 1 else 'are'} missing; "
            "copy them there"
        )
    require_space(output, first["size"])
    total = hashlib.sha256()
    with atomic_path(output) as temporary, open(temporary, "wb") as whole:
        for path, head in zip(found, heads):
            for block in _body(path, head):
                total.update(block)
                whole.write(block)
        if whole.tell() != first["size"] or total.hexdigest() != first["sha256"]:
            raise InputError(f"{folder / _file_name(name, 0)}: the pieces do not make the file they were made of")


def names(folder: str | os.PathLike) -> list[str]:
    """What the names of the pieces in a folder begin with, in order."""
    matches = (re.fullmatch(r"(.+)\.\d{2,}\.piece", path.name) for path in Path(folder).glob("*.piece"))
    return sorted({match[1] for match in matches if match})


def _file_name(name: str, number: int) -> str:
    return f"{name}.{number:02}.piece"


def _find(folder: Path, name: str) -> list[Path]:
    """The pieces there are, in order."""
    pattern = re.compile(re.escape(name) + r"\.(\d{2,6})\.piece", re.ASCII)
    found = {int(match[1]): path for path in folder.glob("*.piece") if (match := pattern.fullmatch(path.name))}
    return [found[number] for number in sorted(found)]


def _read(file: BinaryIO, start: int, size: int) -> bytes:
    file.seek(start)
    return file.read(size)


def _digest(file: BinaryIO) -> str:
    total = hashlib.sha256()
    while block := file.read(_BLOCK):
        total.update(block)
    return total.hexdigest()


def _read_head(path: Path, name: str) -> dict[str, Any]:
    """The first line of a piece, checked."""
    with open_input(path) as file:
        try:
            line = file.readline(_LINE)
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({reason(error)})") from error
    damaged = InputError(f"{path}: is not a piece of {name}, or damaged; copy it again")
    try:
        head = parse_json(line.decode(), str(path)) if line.endswith(b"\n") else None
    except (InputError, UnicodeDecodeError) as error:
        raise damaged from error
    if not isinstance(head, dict) or head.get("format") != FORMAT or head.get("name") != name:
        raise damaged
    counts = [head.get(field) for field in ("piece", "pieces", "size", "bytes")]
    if any(type(count) is not int or count < 0 for count in counts) or path.name != _file_name(name, counts[0]):
        raise damaged
    if not 0 <= counts[0] < counts[1] < 10**6 or counts[3] > LARGEST:
        raise damaged
    if any(type(head.get(field)) is not str for field in ("sha256", "piece_sha256")):
        raise damaged
    return head


def _body(path: Path, head: dict[str, Any]) -> Iterator[bytes]:
    """The bytes of a piece, block by block; raises InputError at the end if they are not those written."""
    total, left = hashlib.sha256(), head["bytes"]
    with open_input(path) as file:
        file.readline(_LINE)
        while block := file.read(_BLOCK):
            total.update(block)
            left -= len(block)
            yield block
    if left or total.hexdigest() != head["piece_sha256"]:
        raise InputError(f"{path}: is damaged (its bytes are not those written); copy it again")
