"""The command `champ`: its subcommands are the commands there were, with the same flags, and it starts fast."""

import io
import re
import subprocess
import sys
import tomllib
from contextlib import redirect_stdout

import pytest
from hostile.harness import ROOT

import champ_jax
from champ_jax import __main__ as program
from champ_jax.commands.catalog import COMMANDS, load, summary
from champ_jax.common.configs import Guide
from champ_jax.common.errors import InputError

CONFIGS = ("animate", "train", "evaluate", "app")
TOOLS = {
    "fit": "fit_motion",
    "align": "align_motion",
    "render": "render_conditions",
    "convert": "convert_weights",
    "export": "export_weights",
}


def run_python(*arguments, **options):
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, cwd=ROOT, **options)


def help_of(command, monkeypatch, width):
    monkeypatch.setenv("COLUMNS", str(width))
    text = io.StringIO()
    with redirect_stdout(text), pytest.raises(SystemExit) as exit_:
        load(command).main(["--help"])
    assert not exit_.value.code
    return text.getvalue()


def test_the_list_loads_no_jax():
    code = (
        "import sys\nfrom champ_jax import __main__ as program\nstatus = program.main(['--help'])\n"
        "print(status, sorted({'jax', 'numpy', 'absl', 'flax'} & set(sys.modules)))"
    )
    done = run_python("-c", code, check=True)
    assert done.stdout.splitlines()[-1] == "0 []"
    for command in COMMANDS:
        line = next(line for line in done.stdout.splitlines() if line.startswith(f"  {command} "))
        assert len(line.split()) > 3


def test_every_summary_is_a_sentence():
    for command in COMMANDS:
        assert re.fullmatch(r"[A-Z][^\n]{10,110}[^.\s]", summary(command)), command


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["ft"], "champ ft: no such command, did you mean fit?"),
        (["xyzzy"], "choose one of animate, fit"),
        ([], "champ: name a command, one of animate"),
        (["--config.steps=3"], "champ --config.steps=3: name a command"),
        (["a" * 10_000], "no such command"),
        (["completion", "tcsh"], "tcsh"),
    ],
)
def test_a_wrong_command_is_one_line(arguments, words):
    with pytest.raises(InputError) as caught:
        program.main(arguments)
    assert words in str(caught.value)
    assert len(str(caught.value)) < 300


def test_a_subcommand_gets_its_arguments_and_gives_its_status(monkeypatch):
    seen = []
    monkeypatch.setattr(sys, "argv", ["champ"])
    monkeypatch.setattr("champ_jax.commands.fit.main", lambda arguments: seen.append((arguments, sys.argv[0])) or 7)
    assert program.main(["fit", "--input=a", "--help"]) == 7
    assert seen == [(["--input=a", "--help"], "champ fit")]


def test_the_version(capsys):
    assert program.main(["--version"]) == 0
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert capsys.readouterr().out == f"champ_jax {champ_jax.__version__}\n"
    module, function = project["scripts"]["champ"].split(":")
    assert getattr(sys.modules[module], function) is program.champ


@pytest.mark.parametrize(("command", "tool"), TOOLS.items())
def test_tools_call_the_same_command(command, tool):
    source = (ROOT / "tools" / f"{tool}.py").read_text()
    assert f"from {COMMANDS[command]} import main\n" in source
    assert len(source.splitlines()) < 12  # no second copy


@pytest.mark.parametrize("command", COMMANDS)
def test_help_fits_the_terminal(command, monkeypatch):
    monkeypatch.setattr(sys, "argv", [f"champ {command}"])
    texts = {width: help_of(command, monkeypatch, width) for width in (80, 120)}
    for width, text in texts.items():
        assert max(map(len, text.splitlines())) <= width
        assert text.startswith(f"usage: champ {command}")
    assert texts[80].split() != texts[80].splitlines()
    assert len(texts[120].splitlines()) < len(texts[80].splitlines())


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_says_what_it_is(command):
    for action in load(command).parser()._actions:
        assert action.help, action.dest
        assert not action.help.startswith("(default"), f"{action.dest} has no comment in its config"


@pytest.mark.parametrize("command", CONFIGS)
def test_every_field_of_a_config_is_in_a_group(command):
    titles = {group.title for group in load(command).parser()._action_groups}
    assert not [title for title in titles if title and (title == "Fields" or title.endswith(" fields"))]


def test_a_guide_names_no_field_that_is_not_there():
    from champ_jax.evaluation import config as evaluation
    from champ_jax.inference import config as inference
    from champ_jax.training import config as training

    for get_config, guide in (
        (inference.get_config, inference.guide()),
        (evaluation.get_config, evaluation.guide()),
        (training.default_config, training.guide()),
    ):
        fields = set(flatten(get_config().to_dict()))
        assert isinstance(guide, Guide)
        assert set(guide.rules) <= fields
        members = [member for group in guide.groups.values() for member in group]
        assert all(member in fields or any(field.startswith(member) for field in fields) for member in members)


def flatten(fields, prefix=""):
    for name, value in fields.items():
        yield from flatten(value, f"{prefix}{name}.") if isinstance(value, dict) and value else [f"{prefix}{name}"]
