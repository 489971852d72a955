"""Compiling for a TPU slice without one."""

import importlib.util
import os
import subprocess
import sys

import pytest
from hosts import ROOT
from training_data import tiny_config

from champ_jax.planning import scaling
from champ_jax.planning.report import Report
from champ_jax.training.initial_weights import load_initial

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("libtpu") is None, reason="libtpu is not installed: pip install 'champ_jax[tpu]'"
    ),
]

CONFIG = """
import sys
sys.path.insert(0, {tests!r})
from training_data import tiny_config
def get_config():
    return tiny_config("", attention="auto", dtype="bfloat16", remat="full", data__image_size=(128, 128), mesh__data=0)
"""


def run(*arguments):
    command = [sys.executable, str(ROOT / "tools/compile_for_tpu.py"), *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "XLA_FLAGS": ""}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    path = tmp_path_factory.mktemp("config") / "tiny.py"
    path.write_text(CONFIG.format(tests=str(ROOT / "tests")))
    return path


@pytest.fixture(scope="module")
def compiled(config, tmp_path_factory):
    """(what the command said, the report's file) of the tiny step on four chips."""
    report = tmp_path_factory.mktemp("report") / "report.json"
    arguments = (f"--config={config}", "--topology=v5e:2x2", "--config.mesh.fsdp=2", f"--report={report}")
    done = run(*arguments, "--machine_code=true")
    assert done.returncode == 0, done.stderr
    return done.stdout, report


def test_a_step_compiles_for_a_slice_and_reports_memory_and_collectives(compiled):
    said, path = compiled
    assert "stage 1 on v5e:2x2, mesh data=2 fsdp=2, batch 8" in said
    assert "attention, level 0: 256 tokens, splash" in said
    assert "GiB (4 x TPU v5 lite)" in said
    report = Report.load(path)
    assert report.mesh == (2, 2)
    network = load_initial(tiny_config("", data__image_size=(128, 128)), "tpu").network
    cost = scaling.estimate(tiny_config("", data__image_size=(128, 128)), network, report, 2, 2)
    # A chip pads small arrays to its tiles; none is repeated that the rules split.
    assert cost.state < report.memory.arguments
    assert report.memory.outputs - report.memory.aliased < 2**16  # the state is updated in its place
    assert report.memory.total < 2**30
    gathered = [one for one in report.collectives if one.kind == "all-gather" and one.group == 2]
    assert sum(one.count for one in gathered) > 50
    assert {one.kind for one in report.collectives} <= {"all-gather", "all-reduce", "reduce-scatter"}


def test_the_plan_alone_says_the_same(config, compiled, tmp_path):
    path = tmp_path / "plan.json"
    done = run(f"--config={config}", "--topology=v5e:2x2", "--config.mesh.fsdp=2", f"--report={path}")
    assert done.returncode == 0, done.stderr
    assert "until its buffers were placed" in done.stdout
    plan, whole = Report.load(path), Report.load(compiled[1])
    assert plan.collectives == whole.collectives
    assert plan.seconds < whole.seconds
    assert plan.memory.arguments == pytest.approx(whole.memory.arguments, rel=0.01)
    # Machine code brings itself and some scratch.
    more = whole.memory.temporaries - plan.memory.temporaries
    assert 0 <= more < whole.memory.program


def test_the_mesh_table_follows_from_the_report(config, compiled):
    done = run(f"--config={config}", f"--scaling={compiled[1]}")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") == 2 + 7


def test_slices_that_do_not_exist_are_named(config):
    done = run(f"--config={config}", "--topology=v9:2x2")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("error: --topology=v9:2x2: cannot be described")
