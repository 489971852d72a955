"""Extras are needed by what they are for and by nothing else, and a command without its extra says which it is."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hostile.harness import ROOT

from champ_jax.commands.catalog import COMMANDS
from champ_jax.common import extras
from champ_jax.doctor.packages import requirements

ABSENT = sorted({module for modules in extras.MODULES.values() for module in modules})
# One process for all, as JAX takes seconds to load: [[its arguments, its status, what it printed on stderr], ...]
PROGRAM = """
import contextlib, io, json, runpy, sys
sys.modules.update(dict.fromkeys({absent!r}))
from champ_jax import __main__ as program
from champ_jax.commands.catalog import COMMANDS, load
from champ_jax.common import cli
helps = [command for command in COMMANDS if load(command).parser().format_help()]
ends = []
for name, *arguments in {commands!r}:
    sys.argv = [name, *arguments]
    main = program.main if name == "champ" else lambda _: runpy.run_path(name)
    with contextlib.redirect_stderr(io.StringIO()) as printed:
        try:
            cli.run(main, arguments)
        except SystemExit as end:
            ends.append([[name, *arguments], end.code, printed.getvalue()])
print(json.dumps([helps, ends]))
"""
COMMANDS_OF = {
    "app": "champ app --config.port=0",
    "train": "champ train --workdir=w",
    "fit": f"champ fit --detector=dwpose --dwpose_weights=. --input={ROOT}/champ_jax/assets/people/"
    "p00000_m00000/reference.png --output=m.npz",
    "pyrender": f"champ render --backend=pyrender --motion={ROOT}/champ_jax/assets/motions/wave.npz --output=maps",
    "train of tools": f"{ROOT}/tools/build_dataset.py",
}
"""{extra: a command that needs it}."""


@pytest.fixture(scope="module")
def without_extras(tmp_path_factory):
    """(commands whose parsers were made, {command line: (status, stderr)}, files left), with no extra's package."""
    folder = tmp_path_factory.mktemp("without")
    commands = [line.split() for line in COMMANDS_OF.values()]
    code = PROGRAM.format(absent=ABSENT, commands=commands)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=folder)
    assert done.returncode == 0, done.stderr
    helps, ends = json.loads(done.stdout.splitlines()[-1])
    return helps, {" ".join(line): (status, printed) for line, status, printed in ends}, list(folder.iterdir())


def test_the_list_is_that_of_the_distribution():
    asked: dict[str, set[str]] = {}
    for requirement in requirements():
        asked.setdefault(requirement.extra, set()).add(requirement.module)
    assert set(extras.PURPOSES) == set(asked) - {"", "docs", "test"}
    assert {extra: set(modules) for extra, modules in extras.MODULES.items()} == {
        extra: asked[extra] for extra in extras.PURPOSES if extra not in ("tpu", "cuda")
    }


def test_every_command_helps_without_extras(without_extras):
    assert without_extras[0] == list(COMMANDS)


@pytest.mark.parametrize("extra", COMMANDS_OF)
def test_a_command_names_the_extra_it_lacks(extra, without_extras):
    line = COMMANDS_OF[extra]
    if line.startswith("champ ") and line.split()[1] not in COMMANDS:
        pytest.skip(f"there is no command {line.split()[1]}")
    status, printed = without_extras[1][line]
    assert (status, printed.count("\n")) == (2, 1), printed
    assert printed.startswith("error: ")
    assert f"pip install 'champ_jax[{extra.split()[0]}]'" in printed
    assert without_extras[2] == []


def test_only_modules_that_extras_bring_get_the_advice():
    line = "grain is not installed; pip install 'champ_jax[train]'"
    assert extras.advice(ModuleNotFoundError("x", name="grain.python")) == line
    assert extras.advice(ModuleNotFoundError("x", name="champ_jax.nothing")) is None
    assert extras.advice(ModuleNotFoundError("x")) is None
    assert Path(extras.__file__).is_relative_to(ROOT)
