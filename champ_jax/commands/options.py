"""What every subcommand takes, as data: for the shells' completion.

It comes from the commands' own parsers and configs. Importing those loads JAX, so another process does it and leaves
the result in the user's cache, which is good until a file of the package or the interpreter changes.
"""

import argparse
import dataclasses
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from champ_jax.commands.catalog import COMMANDS, load
from champ_jax.common import children
from champ_jax.common.errors import InputError
from champ_jax.common.files import atomic_path
from champ_jax.common.help_text import choices
from champ_jax.common.ranges import Choice, Items

_PATHS = ("PATH", "FILE", "FOLDER", "TEXT")  # metavars
_SECONDS = 300  # in which the commands must be imported
KINDS = ("flag", "words", "list", "path", "value")


@dataclasses.dataclass(frozen=True)
class Option:
    """One option of a subcommand.

    Attributes:
      name: '--config.fit'; of a positional argument ''.
      kind: 'flag' takes no value; 'words' one of `words`; 'list' several of them, by commas; 'path' a file or folder;
        'value' anything else.
      words: the values that are known.
      help: what it is, in one line.
    """

    name: str
    kind: str
    words: tuple[str, ...] = ()
    help: str = ""


def options_of(parser: argparse.ArgumentParser) -> list[Option]:
    """The options of a command's parser, in its order."""
    found = []
    for action in parser._actions:
        name = max(action.option_strings, key=len, default="")
        words = tuple(choices(action))
        if isinstance(action.type, Items) and isinstance(action.type.rule, Choice):
            kind, words = "list", tuple(map(str, action.type.rule.values))
        elif action.nargs == 0:
            kind = "flag"
        elif action.metavar == "true|false":
            kind, words = "words", ("true", "false")
        elif words:
            kind = "words"
        else:
            kind = "path" if action.type is Path or action.metavar in _PATHS else "value"
        text = (action.help or "") if action.help is not argparse.SUPPRESS else ""
        found.append(Option(name, kind, words, " ".join(text.replace("%%", "%").split())))
    return found


def all_options() -> dict[str, list[Option]]:
    """{subcommand: its options}, from the cache or from a process that imports the commands.

    Raises:
      InputError: the commands cannot be imported; `champ doctor` says why.
    """
    key = _state_of_package()
    path = _cache_folder() / "options.json"
    try:
        found = _read(json.loads(path.read_text(encoding="utf-8")), key)
    except (OSError, ValueError, RecursionError):
        found = None
    if found is not None:
        return found
    command, variables = children.python("champ_jax.commands.options"), children.environment(JAX_PLATFORMS="cpu")
    try:
        done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=_SECONDS)
        record = {"key": key, "options": json.loads(done.stdout)}
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        raise InputError("champ completion: the commands cannot be imported; champ doctor says why") from error
    found = _read(record, key)
    if found is None:
        raise InputError("champ completion: the commands cannot be imported; champ doctor says why")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(path) as temporary:
            Path(temporary).write_text(json.dumps(record), encoding="utf-8")
    except (OSError, InputError):
        pass  # the next run imports again
    return found


def _read(record: Any, key: str) -> dict[str, list[Option]] | None:
    """The options in a record of the cache; None if it is of another package or damaged."""
    if not isinstance(record, dict) or record.get("key") != key:
        return None
    try:
        found = {
            command: [
                Option(fields["name"], fields["kind"], tuple(fields["words"]), fields["help"]) for fields in listed
            ]
            for command, listed in record["options"].items()
        }
    except (AttributeError, KeyError, TypeError):
        return None
    known = set(found) == set(COMMANDS) and all(option.kind in KINDS for listed in found.values() for option in listed)
    return found if known else None


def _state_of_package() -> str:
    """A hash that changes with the interpreter and with every file of the package."""
    digest = hashlib.sha256(f"{sys.executable} {sys.version} {__file__}\n".encode())
    root = Path(__file__).parents[1]
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if name not in ("assets", "__pycache__"))
        for name in sorted(names):
            if name.endswith(".py"):
                about = os.stat(os.path.join(folder, name))
                digest.update(f"{folder}/{name} {about.st_size} {about.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def _cache_folder() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(base) / "champ_jax"


def _describe() -> None:
    """Prints the options of all commands as JSON."""
    options = {command: [dataclasses.asdict(o) for o in options_of(load(command).parser())] for command in COMMANDS}
    print(json.dumps(options))


if __name__ == "__main__":
    _describe()
