"""Completion of `champ`, in the shells themselves."""

import json
import os
import re
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hostile.harness import ROOT

from champ_jax.commands import completion, options
from champ_jax.commands.catalog import COMMANDS, load
from champ_jax.commands.options import Option, all_options, options_of
from champ_jax.common.errors import InputError

COMPLETE = r"""
source "$1"
COMP_LINE=$2 COMP_POINT=${3:-${#2}}
[[ -z $4 ]] || COMP_WORDBREAKS=$4
_champ
printf '%s\n' "${COMPREPLY[@]}"
"""


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """A cache folder that holds the options of all commands."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        all_options()
    return folder


@pytest.fixture(autouse=True)
def use_cache(cache, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))


@pytest.fixture(scope="module")
def script(cache, tmp_path_factory):
    """The script for bash."""
    path = tmp_path_factory.mktemp("bash") / "champ"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(cache))
        path.write_text(completion.bash_script(all_options()))
    return path


def complete(script, line, *more, cwd=None):
    command = ["bash", "--norc", "-c", COMPLETE, "bash", str(script), line, *map(str, more)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=cwd)
    assert done.stderr == ""
    return [word for word in done.stdout.splitlines() if word]


def test_the_data_are_the_parsers_own():
    assert all_options() == {command: options_of(load(command).parser()) for command in COMMANDS}


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("champ an", ["animate "]),
        ("champ f", ["fit "]),
        ("champ --v", ["--version "]),
        ("champ animate --config.sam", ["--config.sampler="]),
        ("champ animate --config.windows.s", ["--config.windows.scheme=", "--config.windows.stride="]),
        ("champ animate --config.sampler=", ["ddim ", "dpm_solver_2m ", "unipc ", "lcm ", "tcd "]),
        ("champ animate --config.sampler un", ["unipc "]),
        ("champ animate --config.quiet=", ["true ", "false "]),
        ("champ animate --config.conditions=depth,no", ["depth,normal"]),
        ("champ animate --config.conditions=depth,d", ["depth,dwpose"]),  # not depth again
        ("champ train --config.optimizer.name=", ["adamw ", "adafactor "]),
        ("champ train --wor", ["--workdir="]),
        ("champ evaluate --config.protocol=t", ["tiktok "]),
        ("champ fit --no", ["--no_pictures ", "--no_ground "]),
        ("champ fit --layout=h", ["h36m17 "]),
        ("champ fit --fps=", []),
        ("champ render --backend=p", ["pyrender "]),
        ("champ completion z", ["zsh "]),
        ("champ nonsense --", []),
    ],
)
def test_bash_completes(script, line, expected):
    assert complete(script, line) == expected


def test_bash_completes_paths(script, tmp_path):
    (tmp_path / "dance with me.mp4").touch()
    (tmp_path / "dances").mkdir()
    assert sorted(complete(script, "champ fit --input=dan", cwd=tmp_path)) == ["dance with me.mp4", "dances"]
    assert complete(script, "champ animate --config.driving dances", cwd=tmp_path) == ["dances"]


def test_bash_looks_at_what_stands_before_the_cursor(script):
    assert complete(script, "champ an --config.seed=1", 8) == ["animate "]


def test_bash_without_equals_among_its_word_breaks(script):
    assert complete(script, "champ fit --layout=h", "", " \t\n") == ["--layout=h36m17 "]


def test_every_field_and_choice_is_in_the_script(script):
    text = script.read_text()
    for command, listed in all_options().items():
        names = next(line for line in text.splitlines() if line.startswith(f"    {command}) words="))
        assert {option.name for option in listed if option.name} <= set(
            names.replace("=", " ").replace("'", " ").split()
        )
    assert "--config.data.batch_size" in text


def test_words_of_strangers_do_not_run(tmp_path):
    """A word is text to the shell, whatever it holds."""
    bad = [Option("--x", "words", ("$(touch pwned)", "`touch pwned`", "';touch pwned;'"), "it's [a]: \\ $(x)")]
    path = tmp_path / "champ"
    path.write_text(completion.bash_script({"fit": bad}))
    done = subprocess.run(["bash", "-n", str(path)], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    subprocess.run(["bash", "--norc", "-c", f"source {path}"], cwd=tmp_path, check=True)
    assert [entry.name for entry in tmp_path.iterdir()] == ["champ"]


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_a_started_shell_completes_by_the_tab_key(shell, tmp_path):
    """An interactive shell on a pseudo terminal."""
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    path = tmp_path / "champ"
    path.write_text({"bash": completion.bash_script, "zsh": completion.zsh_script}[shell](all_options()))
    start = {
        "bash": f"source {path}; bind 'set enable-bracketed-paste off'",
        "zsh": f"autoload -U compinit; compinit -u -d {tmp_path}/dump; source {path}; unset zle_bracketed_paste",
    }
    flags = {"bash": ["--norc", "--noprofile", "-i"], "zsh": ["-f", "-i"]}
    terminal, inside = os.openpty()
    variables = os.environ | {"TERM": "dumb", "PS1": "$ ", "HISTFILE": ""}
    streams = {"stdin": inside, "stdout": inside, "stderr": inside}
    process = subprocess.Popen([shell, *flags[shell]], env=variables, start_new_session=True, **streams)
    os.close(inside)
    try:
        os.write(terminal, f"{start[shell]}; echo re''ady\n".encode())
        read_until(terminal, b"ready\r\n")
        for typed, expected in TYPED.items():
            os.write(terminal, typed.encode())
            read_until(terminal, expected)
            os.write(terminal, b"\x15")  # clears the line
    finally:
        os.close(terminal)
        process.kill()
        process.wait()


TYPED = {
    "champ animate --config.samp\tun\t": b"champ animate --config.sampler=unipc ",
    "champ animate --config.conditions=depth,norm\t": b"--config.conditions=depth,normal",
    "champ completion b\t": b"champ completion bash ",
}


def read_until(terminal, end):
    seen, late = b"", time.monotonic() + 60
    while end not in re.sub(rb".\x08", b"", seen):  # zsh takes characters back
        assert select.select([terminal], [], [], late - time.monotonic())[0], seen
        seen += os.read(terminal, 4096)
        assert len(seen) < 100_000


@pytest.mark.skipif(shutil.which("zsh") is None, reason="zsh is not installed")
def test_zsh_takes_the_script(tmp_path):
    path = tmp_path / "_champ"
    path.write_text(completion.zsh_script(all_options()))
    code = f"autoload -U compinit && compinit -u -d {tmp_path}/dump && source {path} && print $_comps[champ]"
    done = subprocess.run(["zsh", "-f", "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "_champ\n", "")


def test_the_zsh_script_holds_every_option():
    text = completion.zsh_script(all_options())
    for command, listed in all_options().items():
        assert f"({command})" in text
        assert all(f"'{option.name}" in text for option in listed if option.name)
    assert "'--config.sampler=[" in text
    assert ":value:(ddim dpm_solver_2m unipc lcm tcd)'" in text


def test_it_loads_no_jax_and_prints_for_either_shell():
    code = (
        "import sys\nfrom champ_jax import __main__ as program\n"
        "for shell in ('bash', 'zsh'):\n    program.main(['completion', shell])\n"
        "print(sorted({'jax', 'numpy', 'absl'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    assert "complete -o nospace -F _champ champ" in done.stdout
    assert "#compdef champ" in done.stdout


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", '{"key": 1}', "[" * 100_000, '{"key": "KEY", "options": {"fit": [3]}}']
)
def test_a_damaged_cache_is_written_again(tmp_path, monkeypatch, cache, text):
    good = json.loads((cache / "champ_jax" / "options.json").read_text())
    path = tmp_path / "champ_jax" / "options.json"
    path.parent.mkdir()
    path.write_text(text.replace("KEY", good["key"]))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: answer(json.dumps(good["options"])))
    assert set(all_options()) == set(COMMANDS)
    assert json.loads(path.read_text()) == good


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path, monkeypatch, cache):
    good = json.loads((cache / "champ_jax" / "options.json").read_text())
    (tmp_path / "champ_jax").write_text("a file in the folder's place")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: answer(json.dumps(good["options"])))
    assert set(all_options()) == set(COMMANDS)


def test_a_changed_package_is_imported_again(monkeypatch):
    before = options._state_of_package()
    assert options._state_of_package() == before
    monkeypatch.setattr(options, "__file__", str(Path(__file__)))
    assert options._state_of_package() != before


def test_commands_that_cannot_be_imported_are_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: answer(""))
    with pytest.raises(InputError, match="the commands cannot be imported; champ doctor says why"):
        all_options()


def answer(text):
    return subprocess.CompletedProcess([], 0, text, "")
