"""The one exception that means: the command or its input is wrong, not the program."""


class InputError(ValueError):
    """A bad input, told in one line that names the file, field or frame and the mend.

    Entry points print it on stderr and exit with status 2 (`champ_jax.common.cli.run`).
    """
