"""The command: it plans without a trace, and a dry run fills a results folder that the page is written from."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hostile.harness import run_command

from tools.accelerator import travel
from tools.accelerator.runner import read_record

ROOT = Path(__file__).parents[2]
COMMAND = "tools/accelerator_day.py"
HOURS = ("--minutes=600", "--call_minutes=600")  # on a busy machine toys take long, too


def test_the_plan_leaves_no_trace(tmp_path):
    done = run_command(COMMAND, ["--plan", f"--results={tmp_path / 'results'}", "--minutes=15"], tmp_path)
    assert done.status == 0, done.stderr
    assert "15 minutes, of which this call takes 8:" in done.stdout
    assert "| speed: " in done.stdout
    assert "does not exist yet; nothing is done" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_what_travels_is_printed(tmp_path):
    if not (ROOT / ".git").exists():
        pytest.skip("no Git working tree")
    (tmp_path / "pip_list.txt").write_text("jax 0.11.2\nnumpy 2.5.2\n")
    arguments = ["--travel", "--results=results", "--installed=pip_list.txt", "--python=3.13"]
    done = run_command(COMMAND, arguments, tmp_path)
    fits = sum(travel.sizes(ROOT, []).values()) <= travel.LIMIT  # not with all assets there
    assert done.status == (0 if fits else 2), done.stderr
    assert fits or f"git sparse-checkout set --no-cone '/*' '!/{travel.UNREAD}/'" in done.stderr
    assert "--python-version=3.13" in done.stdout
    assert "grain" in done.stdout
    assert " numpy " not in done.stdout
    assert "of 60.0 MiB would travel" in done.stdout + done.stderr


def run_day(tmp_path, *options):
    command = [sys.executable, str(ROOT / COMMAND), "--dry_run", f"--results={tmp_path / 'results'}"]
    command += [f"--scratch={tmp_path / 'scratch'}", *options]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)


def test_a_dry_run_of_the_cheapest_leg(tmp_path):
    done = run_day(tmp_path, "--legs=parity,few_steps", *HOURS)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "parity, kernels: done", done.stdout
    (step,) = read_record(tmp_path / "results", "parity")["steps"].values()
    tests = step["result"]["tests"]
    assert {found["outcome"] for found in tests.values()} == {"passed", "skipped"}
    assert all(0 < found["largest"] < 1e-2 for found in tests.values() if found["outcome"] == "passed")
    again = run_day(tmp_path, "--legs=parity,few_steps", *HOURS, "--plan")
    assert "| kernels | 1200 | done |" in again.stdout


@pytest.mark.slow
def test_a_dry_run_of_everything(tmp_path):
    """At toy size: all legs, the weights in pieces, few and small files, and the page of it."""
    done = run_day(tmp_path, *HOURS)
    assert done.returncode == 0, done.stderr
    results = tmp_path / "results"
    names = sorted(path.name for path in results.iterdir() if not path.name.startswith("."))
    records = [name for name in names if name.endswith(".json")]
    assert len(records) >= 3
    for name in records:
        record = read_record(results, Path(name).stem)
        assert {step["state"] for step in record["steps"].values()} == {"done"}, json.dumps(record, indent=1)[-3000:]
    assert "model.00.piece" in names
    assert "held_out.png" in names
    assert sum((results / name).stat().st_size for name in names) < 60 * 2**20
    page = tmp_path / "page.md"
    status = run_command("tools/write_performance.py", [f"--results={results}", f"--output={page}"], tmp_path).status
    assert status == 0
    text = page.read_text()
    assert "### cpu, 2" in text
    assert "Not measured" not in text
    assert "| stage2 |" in text
