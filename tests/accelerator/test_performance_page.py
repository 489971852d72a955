"""The page of figures is what its generator makes; results that are damaged are named."""

import json
import runpy
import sys
from pathlib import Path

import pytest
from hostile.harness import run_command

from tools.accelerator.runner import FORMAT, VERSION

ROOT = Path(__file__).parents[2]
MACHINE = {"device": "NVIDIA H200", "devices": 1, "platform": "gpu", "jax": "0.11.2", "python": "3.12.3"}
CALL = {"date": "2026-12-01T10:00:00+00:00", "command": "python tools/accelerator_day.py --minutes=15", "seconds": 9.0}


@pytest.fixture(scope="module")
def tool():
    sys.path.insert(0, str(ROOT / "tools"))
    try:
        yield runpy.run_path(str(ROOT / "tools/write_performance.py"))
    finally:
        sys.path.remove(str(ROOT / "tools"))


def test_the_page_in_the_repository_is_what_the_generator_makes(tool):
    page = tool["make_page"](tool["result_folders"]())
    assert page == (ROOT / "docs/performance.md").read_text(), "run python tools/write_performance.py"


@pytest.mark.slow
def test_the_counted_flops_are_those_of_the_networks(tool):
    assert tool["count_flops"]() == pytest.approx(json.loads((ROOT / "docs/performance/flops.json").read_text()))


def row(name, seconds, **more):
    known = dict.fromkeys(("tflop", "reference_seconds", "memory", "reference_memory", "moved"))
    return {"name": name, "seconds": seconds, "fastest": seconds, "slowest": seconds, "per": "24 frames"} | known | more


def results(folder):
    """What a machine would leave."""

    def write(leg, steps):
        entries = {
            name: {"state": "done", "tries": 1, "seconds": 3.0, "result": result} for name, result in steps.items()
        }
        record = {"format": FORMAT, "version": VERSION, "leg": leg, "minutes": 4.5, "calls": [CALL], "steps": entries}
        (folder / f"{leg}.json").write_text(json.dumps(record))

    settings = {"size": [512]}
    shares = [
        {"kind": "convolution", "module": "ResNetBlock", "seconds": 0.03, "count": 4},
        {"kind": "elementwise", "module": "MotionModule, FeedForward", "seconds": 0.01, "count": 2},
    ]
    peaks = [row("matrix product, bfloat16", 0.01, tflop=8.0), row("copy, float32", 0.5, moved=2 * 10**12)]
    step = row("denoising step", 0.1, tflop=40.0, reference_seconds=0.292, memory=5 * 2**30, moved=10**11)
    speed = {
        "peaks": {"machine": MACHINE, "settings": settings, "rows": peaks},
        "inference_512": {"machine": MACHINE, "settings": settings, "rows": [step]},
        "kernels_512": {"machine": MACHINE, "settings": settings, "rows": [row("level 0, cudnn", 0.002, tflop=0.8)]},
        "trace_512": {
            "machine": MACHINE,
            "settings": settings,
            "rows": [],
            "profiles": [{"size": 512, "shares": shares}],
        },
    }
    write("speed", speed)
    found = {"outcome": "passed", "seconds": 1.0, "comparisons": 3, "largest": 4e-7, "message": ""}
    tests = {"t.py::test_a": found, "t.py::test_b": found | {"outcome": "failed", "largest": 0.1}}
    write("parity", {"networks": {"device": "NVIDIA H200", "matmul_precision": "highest", "tests": tests}})
    summary = {"legs": {"stage1": {"seconds": 120.0}}, "steps": {}, "report": None}
    write("model_1", {"carry": summary})
    return folder


def test_results_of_a_machine_become_tables(tool, tmp_path):
    page = tool["make_page"]([results(tmp_path)])
    for line in (
        "### NVIDIA H200, 2026-12-01",
        "    python tools/accelerator_day.py --minutes=15",
        "Best rates: matrix product, bfloat16 800 TFLOP/s, copy, float32 4,000 GB/s.",
        "| denoising step | 512x512 | 24 frames | 0.1 | 400 | 50.0% | 25.0% | 5.0 | 0.292 | 2.92 |",
        "| level 0, cudnn | 512x512 | 24 frames | 2 | 50.0% |",
        "| convolution | 30.000 | 75.0% |",
        "| MotionModule, FeedForward | 10.000 | 25.0% |",
        "| networks | highest | 1 of 2 | 0 | 6 | 0.1 | test_b |",
        "| stage1 | 2.0 |",
    ):
        assert line in page.splitlines()
    assert "Not measured." not in page


@pytest.mark.parametrize(
    ("leg", "change"),
    [
        ("speed", lambda record: record["steps"]["peaks"].update(result=[])),
        ("speed", lambda record: record["steps"]["inference_512"]["result"]["rows"][0].update(seconds=0)),
        ("speed", lambda record: record["steps"]["inference_512"]["result"].pop("settings")),
        ("parity", lambda record: record["steps"]["networks"]["result"].update(tests=[1])),
        ("parity", lambda record: record["steps"]["networks"]["result"].update(device=["x"])),
        ("model_1", lambda record: record["steps"]["carry"].update(result="text")),
        ("model_1", lambda record: record.update(calls="never")),
    ],
)
def test_damaged_results_are_named(tmp_path, leg, change):
    (tmp_path / "results").mkdir()
    path = results(tmp_path / "results") / f"{leg}.json"
    record = json.loads(path.read_text())
    change(record)
    path.write_text(json.dumps(record))
    done = run_command("tools/write_performance.py", ["--results=results", "--output=page.md"], tmp_path)
    assert done.status == 2, done.stderr
    assert len(done.errors) == 1
    assert "results" in done.errors[0]
    assert not (tmp_path / "page.md").exists()
