"""The subcommands of `champ`: their names, and the modules that `python -m` or tools/ run as well.

Nothing here imports a command: most load JAX.
"""

import ast
import importlib
import importlib.util
from collections.abc import Callable, Sequence
from types import ModuleType

from champ_jax.common.errors import InputError
from champ_jax.common.ranges import did_you_mean

COMMANDS = {
    "animate": "champ_jax.animate",
    "fit": "champ_jax.commands.fit",
    "align": "champ_jax.commands.align",
    "render": "champ_jax.commands.render",
    "train": "champ_jax.train",
    "evaluate": "champ_jax.evaluate",
    "convert": "champ_jax.commands.convert",
    "export": "champ_jax.commands.export",
    "app": "champ_jax.app.__main__",
    "doctor": "champ_jax.doctor.__main__",
    "completion": "champ_jax.commands.completion",
}
"""{subcommand: its module}. A module has `parser()`, an argparse parser of what the command takes, and
`main(arguments)`, which returns the exit status or None; its docstring's first paragraph says what the command does."""


def load(command: str) -> ModuleType:
    """The module of a subcommand.

    Raises:
      InputError: there is none of this name; names the nearest.
    """
    if command not in COMMANDS:
        hint = did_you_mean(command, list(COMMANDS)) or f"; choose one of {', '.join(COMMANDS)}"
        raise InputError(f"champ {command[:60]}: no such command{hint}; see champ --help")
    return importlib.import_module(COMMANDS[command])


def main_of(command: str) -> Callable[[Sequence[str]], int | None]:
    """The function that runs a subcommand; raises InputError as `load`."""
    return load(command).main


def summary(command: str) -> str:
    """What a subcommand does, in a line: the first of its docstring; '' where there are no sources."""
    try:
        spec = importlib.util.find_spec(COMMANDS[command])
        with open(spec.origin, encoding="utf-8") as file:  # type: ignore[union-attr, arg-type]
            text = ast.get_docstring(ast.parse(file.read())) or ""
    except (AttributeError, ImportError, OSError, TypeError, ValueError):
        return ""
    return " ".join(text.split("\n\n")[0].split()).removesuffix(".")
