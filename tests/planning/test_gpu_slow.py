"""Compiling for a GPU without one, against the budget in docs/performance."""

import importlib.util
import os
import subprocess
import sys

import pytest
from hosts import ROOT

from champ_jax.planning.cost_report import load_reports

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("jax_cuda12_plugin") is None,
        reason="JAX's CUDA plugin is not installed: pip install 'champ_jax[cuda]'",
    ),
]
BUDGET = ROOT / "docs/performance/compiled_h100_reduced.json"


def compile_for_gpu(*arguments):
    command = [sys.executable, str(ROOT / "tools/compile_for_gpu.py"), *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "XLA_FLAGS": ""}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_the_denoiser_stays_within_its_budget(tmp_path):
    (budget,) = load_reports(BUDGET)
    path = tmp_path / "now.json"
    sizes = (f"--size={budget.size[0]}x{budget.size[1]}", f"--frames={budget.frames}")
    result = compile_for_gpu(
        f"--gpu={budget.gpu}", f"--reduction={budget.reduction}", *sizes, f"--report={path}", f"--compare={BUDGET}"
    )
    assert result.returncode == 0, result.stderr
    (now,) = load_reports(path)
    assert now.key == budget.key
    assert f"| {now.key} | {budget.total.kernels} to {now.total.kernels}" in result.stdout
    assert now.total.flops == budget.total.flops
    assert now.total.kernels <= 1.03 * budget.total.kernels
    assert now.total.moved <= 1.03 * budget.total.moved
    assert now.memory.temporaries <= 1.03 * budget.memory.temporaries
    assert now.groups["kind"]["cuDNN attention"].kernels == budget.groups["kind"]["cuDNN attention"].kernels


def test_a_program_that_does_not_exist_is_named():
    result = compile_for_gpu("--program=denoiser,dancer")
    assert result.returncode == 2
    assert "--program=dancer: unknown; choose denoiser" in result.stderr
