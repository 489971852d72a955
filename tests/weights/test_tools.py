"""The two commands as people run them; time and memory at full size."""

import os
import runpy
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from make_full_size_tree import noise
from weights_trees import LAYOUTS, Payload, read_file, same_tensors

from champ_jax.weights.checkpoint import load_checkpoint, read_config
from champ_jax.weights.names import tensor_names

ROOT = Path(__file__).parents[2]


def command(script, *arguments, cwd):
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}
    return subprocess.run(
        [sys.executable, str(ROOT / script), *arguments], cwd=cwd, env=environment, capture_output=True, text=True
    )


def test_there_and_back(tree, tmp_path, monkeypatch, capfd):
    """Both commands, from another folder; stderr has the progress bar and nothing else."""
    monkeypatch.chdir(tmp_path)
    convert, export = (runpy.run_path(str(ROOT / f"tools/{name}_weights.py"))["main"] for name in ("convert", "export"))
    convert([f"--source={tree}", "--output=champ"])
    output = capfd.readouterr()
    assert all("%|" in line for line in output.err.replace("\r", "\n").splitlines() if line.strip())
    for word in ("motion_module", "1,238,016", "guidance_encoder_dwpose", "written: champ"):
        assert word in output.out
    export(["--checkpoint=champ", "--output=out"])
    assert "champ/motion_module.pth: 546 float16, 42 float32" in capfd.readouterr().out
    for path in (tree / "champ").iterdir():
        assert same_tensors(read_file(tmp_path / "out" / "champ" / path.name), read_file(path))


def test_bad_input_is_one_line_and_status_2(tree, tmp_path):
    broken = Path(shutil.copytree(tree, tmp_path / "broken"))
    torch.save({"x": Payload(tmp_path / "trace")}, broken / "champ" / "motion_module.pth")
    done = command("tools/convert_weights.py", f"--source={broken}", f"--output={tmp_path / 'out'}", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "champ/motion_module.pth: is a pickle that asks to run io.open" in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["broken"]


@pytest.mark.slow
def test_full_size_memory(tmp_path):
    """Converting float32 files of the published sizes: peak <= 1.3 x the converted model + the largest file."""
    if shutil.disk_usage(tmp_path).free < 24 * 10**9:
        pytest.skip("needs 24 GB of disk")
    source, output = tmp_path / "pretrained_models", tmp_path / "champ"
    assert command("tests/make_full_size_tree.py", f"--output={source}", cwd=tmp_path).returncode == 0
    measure = (
        "import resource, runpy, sys; sys.argv = sys.argv[1:]\n"
        "try: runpy.run_path(sys.argv[0], run_name='__main__')\n"
        "finally: print('peak', resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)"
    )
    begin = time.monotonic()
    done = subprocess.run(
        [
            *(sys.executable, "-c", measure, str(ROOT / "tools/convert_weights.py")),
            *(f"--source={source}", f"--output={output}"),
        ],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    seconds = time.monotonic() - begin
    assert done.returncode == 0, done.stderr
    peak = int(done.stdout.split("peak")[1])
    model = sum(component["bytes"] for component in read_config(output)["components"].values())
    largest = max(path.stat().st_size for path in source.rglob("*.pth"))
    print(f"{model / 1e9:.2f} GB in {seconds:.0f} s, peak {peak / 1e9:.2f} GB, largest file {largest / 1e9:.2f} GB")
    assert peak <= 1.3 * model + largest
    shutil.rmtree(source)

    tree = load_checkpoint(output, ["guidance"])[1]["guidance"]["encoders"]["depth"]
    for key, name in tensor_names(tree).items():
        node = tree
        for step in name.path:
            node = node[step]
        assert np.array_equal(name.to_torch(node), noise(key, LAYOUTS["guidance_encoder"][key], "float32"))
