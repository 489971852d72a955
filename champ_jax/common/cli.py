"""What every command shares: an argparse parser, exit statuses, errors and warnings of one line.

It loads the standard library alone, so that errors in arguments show at once, and `python -m champ_jax.doctor` can say
which package is missing.

Exit status: 0 done; 2 the command or its input is wrong (one line on stderr); 1 anything else (a traceback).
"""

import argparse
import errno
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, TextIO

from champ_jax.common import extras
from champ_jax.common.errors import InputError
from champ_jax.common.help_text import HelpFormatter, program

# What the operating system answers about paths and disks that the user named.
_REFUSALS = {
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT),
    *(errno.ENAMETOOLONG, errno.ELOOP, errno.ENOTDIR, errno.EISDIR),
}


class Parser(argparse.ArgumentParser):
    """An argparse parser whose errors are one line (InputError) and which takes no abbreviations.

    Numbers have ranges (`champ_jax.common.ranges`): `add_argument("--fps", type=Number(above=0, maximum=1000))`; --help
    shows them, the choices and the defaults (`champ_jax.common.help_text`).
    """

    def __init__(self, **kwargs: Any):
        kwargs.setdefault("formatter_class", HelpFormatter)
        kwargs.setdefault("prog", program())
        super().__init__(allow_abbrev=False, **kwargs)

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message.removeprefix('argument ')}; see --help")


def run(main: Callable[[Sequence[str]], int | None], argv: Sequence[str] | None = None) -> NoReturn:
    """Runs `main(arguments)` and exits with the project's statuses; a warning is one line, too."""
    show_with_source = warnings.showwarning

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        if category is UserWarning:
            print(f"warning: {_one_line(message)}", file=sys.stderr)
        else:
            show_with_source(message, category, filename, lineno, file, line)

    with warnings.catch_warnings():
        warnings.showwarning = show
        try:
            status = main(list(sys.argv[1:] if argv is None else argv))
        except (Exception, KeyboardInterrupt) as error:
            status = report_error(error)
    sys.exit(status or 0)


def report_error(error: BaseException) -> int:
    """Prints on stderr why a command ends; returns the exit status that goes with it."""
    if isinstance(error, InputError):
        print(f"error: {_one_line(error)}", file=sys.stderr)
        return 2
    if isinstance(error, OSError) and error.errno in _REFUSALS and error.filename is not None:
        print(f"error: {_one_line(error.filename)}: {error.strerror}", file=sys.stderr)
        return 2
    if isinstance(error, ModuleNotFoundError) and (advice := extras.advice(error)):
        print(f"error: {advice}", file=sys.stderr)
        return 2
    if isinstance(error, KeyboardInterrupt):
        print("error: interrupted", file=sys.stderr)
    elif not isinstance(error, BrokenPipeError):
        traceback.print_exception(error)
    return 1


def _one_line(message: object) -> str:
    line = " ".join(str(message).split())
    return line if len(line) <= 1500 else f"{line[:1500]} ..."
