"""How commands end and what they print; options of tools."""

import errno
import subprocess
import sys
import warnings

import pytest

from champ_jax.common import cli
from champ_jax.common.errors import InputError
from champ_jax.common.ranges import Integer, Number


def exit_status(main):
    with pytest.raises(SystemExit) as exit_:
        cli.run(main, [])
    return exit_.value.code


def raising(error):
    def main(argv):
        raise error

    return main


def test_exit_statuses_and_what_is_printed(capsys):
    assert exit_status(lambda argv: None) == 0
    assert exit_status(lambda argv: 2) == 2
    assert capsys.readouterr().err == ""
    assert exit_status(raising(InputError("x.png:  broken\nreally"))) == 2
    assert capsys.readouterr().err == "error: x.png: broken really\n"
    assert exit_status(raising(OSError(errno.ENOSPC, "No space left on device", "out.mp4"))) == 2
    assert capsys.readouterr().err == "error: out.mp4: No space left on device\n"
    assert exit_status(raising(KeyboardInterrupt())) == 1
    assert capsys.readouterr().err == "error: interrupted\n"
    assert exit_status(raising(BrokenPipeError())) == 1
    assert capsys.readouterr().err == ""
    for error in (ValueError("a bug"), OSError(errno.EBADF, "Bad file descriptor", "x")):
        assert exit_status(raising(error)) == 1
        assert "Traceback" in capsys.readouterr().err


def test_a_warning_is_one_line(capsys):
    def main(argv):
        warnings.warn("the map\nis black", UserWarning, stacklevel=1)

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        assert exit_status(main) == 0
    assert capsys.readouterr().err == "warning: the map is black\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--fps=nan"], "--fps: expected a number above 0 and of at most 1,000, got nan; see --help"),
        (["--fps", "-3"], "--fps: expected a number above 0"),
        (["--fps=1e300"], "--fps: expected a number above 0"),
        (["--count=1e9"], "--count: expected a whole number from 1 to 100, got 1e9"),
        (["--count=1000000000"], "--count: expected a whole number from 1 to 100"),
        (["--count="], "--count: expected a whole number"),
        (["--coun=3"], "unrecognized arguments: --coun=3"),  # no abbreviations
        (["--verb"], "unrecognized arguments: --verb"),
        (["--fps"], "--fps: expected one argument"),
    ],
)
def test_options_of_tools_have_ranges(arguments, words):
    parser = cli.Parser()
    parser.add_argument("--fps", type=Number(above=0, maximum=1000))
    parser.add_argument("--count", type=Integer(minimum=1, maximum=100))
    parser.add_argument("--verbose", action="store_true")
    good = parser.parse_args(["--fps=24", "--count", "7"])
    assert (good.fps, good.count) == (24.0, 7)
    with pytest.raises(InputError) as caught:
        parser.parse_args(arguments)
    assert words in str(caught.value)


def test_it_loads_the_standard_library_alone():
    code = (
        "import sys, champ_jax.common.cli; print(sorted({'jax', 'numpy', 'absl', 'ml_collections'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
