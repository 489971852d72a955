"""Champ in JAX: animates a picture of a person with a body motion.

    champ animate
    champ animate --config.reference=person.png --config.motion=motion.npz --config.weights=DIR

`champ COMMAND --help` says what a command takes. `python -m champ_jax COMMAND` is the same.
"""

import sys
from collections.abc import Sequence
from typing import NoReturn

from champ_jax import __version__
from champ_jax.commands.catalog import COMMANDS, main_of, summary
from champ_jax.common.cli import Parser, run
from champ_jax.common.errors import InputError


def main(argv: Sequence[str]) -> int | None:
    """Runs a subcommand; returns its exit status."""
    command, *rest = argv or [""]
    if command in ("-h", "--help", "help"):
        parser().print_help()
        return 0
    if command == "--version":
        print(f"champ_jax {__version__}")
        return 0
    if not command or command.startswith("-"):
        given = f"champ {command}".strip()
        raise InputError(f"{given}: name a command, one of {', '.join(COMMANDS)}; see champ --help")
    run_command = main_of(command)
    sys.argv = [f"champ {command}", *rest]  # the name in the command's --help
    return run_command(rest)


def parser() -> Parser:
    """The list of subcommands, for --help."""
    parser = Parser(prog="champ", usage="champ COMMAND [options]", description=__doc__, add_help=False)
    commands = parser.add_argument_group("commands")
    for command in COMMANDS:
        commands.add_argument(command, help=summary(command).replace("%", "%%"))
    options = parser.add_argument_group("options")
    options.add_argument("-h", "--help", action="store_true", help="show this help, or after a command the command's")
    options.add_argument("--version", action="store_true", help="show the version")
    return parser


def champ() -> NoReturn:
    """The console command `champ`."""
    run(main)


if __name__ == "__main__":
    champ()
