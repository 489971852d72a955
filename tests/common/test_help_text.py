"""What --help looks like: it fits the terminal, commands in it can be copied."""

import shlex
import sys
import types
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from champ_jax.common import help_text
from champ_jax.common.cli import Parser
from champ_jax.common.help_text import fill, program
from champ_jax.common.ranges import Choice, Integer, Items, Number

TEXT = """Draws things.

  champ draw --input=FILE --output=DIR --a_long_option=of_many_letters --another=one --and=so_on
  champ draw --short
      What the second does, in words that are too many for a line of a terminal, so that they go on in a second one.

The end is prose, too,
of two lines.
"""


def test_prose_is_filled_and_commands_stay_commands():
    lines = fill(TEXT, 60).splitlines()
    assert max(map(len, lines)) <= 60
    assert lines[0] == "Draws things."
    assert "The end is prose, too, of two lines." in lines
    start = next(number for number, line in enumerate(lines) if "--input" in line)
    end = next(number for number in range(start, len(lines)) if not lines[number].endswith("\\"))
    command = "\n".join(lines[start : end + 1]).replace("\\\n", "")
    assert shlex.split(command) == shlex.split(TEXT.splitlines()[2])
    assert "  champ draw --short" in lines
    assert fill(TEXT, 200).splitlines()[2] == TEXT.splitlines()[2]


@given(st.lists(st.text(st.characters(codec="ascii", exclude_categories=["C"])), max_size=8), st.integers(20, 130))
def test_no_word_is_lost(lines, width):
    text = "\n".join(lines)
    assert [word for word in fill(text, width).split() if word != "\\"] == [w for w in text.split() if w != "\\"]


@pytest.mark.parametrize("width", [80, 120])
def test_an_option_says_its_values_and_its_default(capsys, monkeypatch, width):
    monkeypatch.setenv("COLUMNS", str(width))
    parser = Parser(prog="draw", description=TEXT)
    parser.add_argument("--input", type=Path, required=True, help="the picture")
    group = parser.add_argument_group("how")
    group.add_argument("--fps", type=Number(above=0, maximum=1000), default=24.0, help="frames per second")
    group.add_argument("--turn", type=float, default=0.0, help="degrees")
    group.add_argument("--count", type=Integer(minimum=1), help="how many, 50%% of which are seen (in all)")
    group.add_argument("--fit", choices=["crop", "pad"], default="crop", help="what is done (default: by the picture)")
    group.add_argument("--layout", type=Choice("a" * 20, "b" * 20, "c" * 20), help="the order")
    group.add_argument("--maps", type=Items(Choice("depth", "mask")), help="what is drawn")
    group.add_argument("--name", metavar="WHO", help="of a person")
    group.add_argument("--quiet", action="store_true", help="no progress")
    parser.print_help()
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= width
    words = " ".join(text.split())
    for expected in (
        "usage: draw --input=PATH [options]",
        "--input=PATH the picture",
        "--fps=NUMBER frames per second (a number above 0 and of at most 1,000; default: 24.0)",
        "--turn=NUMBER degrees (default: 0.0)",
        "--count=N how many, 50% of which are seen (in all; a whole number of at least 1)",
        "--fit={crop,pad} what is done (default: by the picture)",
        f"--layout=NAME the order (one of {'a' * 20}, {'b' * 20}, {'c' * 20})",
        "--maps=MAPS what is drawn (items separated by commas, each depth or mask)",
        "--name=WHO of a person",
        "--quiet no progress",
    ):
        assert expected in words
    assert "\nhow:\n" in text


def test_the_program_is_called_as_it_was_started(monkeypatch):
    main = types.ModuleType("__main__")
    monkeypatch.setitem(sys.modules, "__main__", main)
    monkeypatch.setattr(sys, "argv", ["/somewhere/tools/fit_motion.py", "--x"])
    main.__spec__ = None
    assert program() == "fit_motion.py"
    main.__spec__ = types.SimpleNamespace(name="champ_jax.train")
    assert program() == "python -m champ_jax.train"
    main.__spec__ = types.SimpleNamespace(name="champ_jax.doctor.__main__")
    assert program() == "python -m champ_jax.doctor"
    main.__spec__ = types.SimpleNamespace(name="champ_jax.__main__")
    monkeypatch.setattr(sys, "argv", ["champ fit", "--x"])
    assert program() == "champ fit"
    assert help_text.program() == "champ fit"
