"""The one exception that means: the command or its input is wrong, not the program."""

from collections.abc import Iterable


class InputError(ValueError):
    """A wrong input. The message is one line that names the file, field or frame and says how to fix it.

    Commands print it on stderr and exit with status 2 (`champ_jax.common.cli.run`). Messages quote names from files
    that may come from strangers, so characters that a terminal would act on are replaced.
    """

    def __init__(self, message: object):
        """`message` becomes one line of printable characters."""
        line = " ".join(str(message).split())
        super().__init__(
            "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in line)
        )


def first_line(error: BaseException) -> str:
    """The first line of an exception's message, at most 300 characters; the name of its type where it has none."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]


def listed(names: Iterable[str], most: int = 5) -> str:
    """'a, b, c, d, e and 679 more': the first `most` names and the number of the others."""
    names = [name if len(name) <= 250 else f"{name[:247]}..." for name in map(str, names)]
    rest = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(names[:most]) + rest
