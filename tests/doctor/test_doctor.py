"""The command as a user starts it: here, and where nothing works."""

import json
import subprocess
import sys

import pytest
from hostile import kinds
from hostile.harness import ROOT, Case, check

from champ_jax.common.children import environment
from champ_jax.doctor.probes import PROBES

DOCTOR = "champ_jax/doctor/__main__.py"


def doctor(*arguments, cwd, **changes):
    command = [sys.executable, "-m", "champ_jax", "doctor", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=environment(**changes))


def test_here_the_main_job_runs(tmp_path):
    done = doctor("--json", cwd=tmp_path)
    report = json.loads(done.stdout)
    assert (done.returncode, done.stderr) == (0, "")
    assert report["main_job_runs"] is True
    assert report["problems"] == 0
    groups = {finding["group"] for finding in report["findings"]}
    assert groups == {"Packages", "Devices and kernels", "Pictures and videos", "Weights", "Machine"}
    assert list(tmp_path.iterdir()) == []


def test_it_reports_where_neither_jax_nor_absl_nor_numpy_load(tmp_path):
    broken = tmp_path / "broken"
    broken.mkdir()
    for name in ("jax", "numpy", "absl", "ml_collections"):
        (broken / f"{name}.py").write_text("raise ImportError('lib.so.1: cannot open shared object file')")
    done = doctor(cwd=tmp_path, PYTHONPATH=f"{broken}:{ROOT}", COLUMNS="80")
    assert (done.returncode, done.stderr) == (1, "")
    lines = done.stdout.splitlines()
    assert max(map(len, lines)) <= 80
    assert "  problem  import numpy" in done.stdout
    assert "champ animate cannot run here" in done.stdout
    problems = [number for number, line in enumerate(lines) if line.startswith("  problem")]
    assert len(problems) >= len(PROBES) - 2
    for number in problems:
        below = lines[number + 1 : number + 6]
        assert any(line.strip().startswith("-> ") for line in below), lines[number]


def test_the_command_imports_the_standard_library_alone():
    code = (
        "import sys, champ_jax.doctor.__main__\n"
        "print(sorted({'jax', 'numpy', 'absl', 'PIL', 'av', 'ml_collections'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout == "[]\n"


def _cases():
    nothing = {name: maker for name, maker in kinds.NO_FILE.items() if name not in ("folder", "no-permission")}
    for name, maker in nothing.items():
        yield Case(
            f"weights-{name}", DOCTOR, lambda f, m=maker: [f"--weights={m(f / 'w.safetensors')}"], "w.safetensors"
        )
    yield Case("weights-long-name", DOCTOR, lambda f: [f"--weights={kinds.LONG_NAME}"], "nnn")
    yield Case("weights-empty", DOCTOR, lambda f: ["--weights"], "--weights")
    yield Case("unknown", DOCTOR, lambda f: ["--jso"], "--jso")
    yield Case("positional", DOCTOR, lambda f: ["weights"], "weights")
    for value in (value for value in kinds.NUMBERS if value != "1e300"):
        yield Case(f"timeout={value}", DOCTOR, lambda f, v=value: [f"--timeout={v}"], "--timeout")
    champ = "champ_jax/__main__.py"
    yield Case("champ-nothing", champ, lambda f: [], "name a command")
    yield Case("champ-unknown", champ, lambda f: ["\x1b[31mft\n"], "no such command")
    yield Case("champ-long", champ, lambda f: ["x" * 100_000], "no such command")
    yield Case("champ-undecodable", champ, lambda f: ["\udcff"], "no such command")
    yield Case("champ-option-first", champ, lambda f: ["--input=x", "fit"], "--input=x")
    yield Case("completion-shell", champ, lambda f: ["completion", "fish"], "fish")
    yield Case("completion-nothing", champ, lambda f: ["completion"], "shell")


@pytest.mark.parametrize("case", list(_cases()), ids=str)
def test_hostile(case, tmp_path):
    check(case, tmp_path)
