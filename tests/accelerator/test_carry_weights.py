"""Weights go from machine to machine: bfloat16, whole, with what is known of their training."""

import json
import shutil
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from hostile.harness import run_command
from training_runs import write_work_folder

from champ_jax.weights.flat import from_components
from champ_jax.weights.opening import open_weights
from tools import recipe

ROOT = Path(__file__).parents[2]


def carry(*arguments):
    """Runs the command in this process."""
    done = run_command("tools/carry_weights.py", list(map(str, arguments)), ROOT)
    return done.status, done.stdout, done.stderr


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A recipe whose stage 1 was stopped, and what it hands back."""
    folder = tmp_path_factory.mktemp("recipe")
    write_work_folder(folder / "stage1", 1)
    (folder / "stage1" / "metrics.jsonl").write_text('{"step": 2}\n{"step": 3, "loss": 0.5}\n')
    entry = {"command": "python -m champ_jax.train", "seconds": 70.5, "finished": False}
    (folder / "legs.json").write_text(json.dumps({"people": entry, "stage1": entry}))
    (folder / "report_sheet.png").write_bytes(b"a picture")
    results = tmp_path_factory.mktemp("results")
    status, _, stderr = carry(f"--recipe={folder}", f"--to={results}", f"--summary={results / 'summary.json'}")
    assert status == 0, stderr
    return folder, results


def test_weights_arrive_rounded_with_the_time_they_took(trained, tmp_path):
    folder, results = trained
    status, stdout, stderr = carry(f"--recipe={tmp_path / 'new'}", f"--from={results}")
    assert status == 0, stderr
    assert "the weights of stage1" in stdout
    sent, arrived = (
        from_components(open_weights(path).load()) for path in (folder / "stage1", tmp_path / "new/carried")
    )
    assert set(sent) == set(arrived)
    for name, array in sent.items():
        rounded = array.astype(ml_dtypes.bfloat16).astype(np.float32) if array.dtype == np.float32 else array
        np.testing.assert_array_equal(arrived[name], rounded)
    assert open_weights(tmp_path / "new/carried").model == open_weights(folder / "stage1").model
    assert recipe.find_carried(tmp_path / "new") == recipe.Carried("stage1", False)
    spent = json.loads((tmp_path / "new/legs.json").read_text())
    assert spent == {"stage1": {"command": "", "seconds": 70.5, "finished": False}}  # people have to be made again


def test_the_summary_has_times_and_the_last_lines(trained):
    _, results = trained
    summary = json.loads((results / "summary.json").read_text())
    assert summary["legs"]["people"]["seconds"] == 70.5
    assert summary["steps"] == {"stage1": {"step": 3, "loss": 0.5}}
    assert summary["report"] is None
    assert (results / "held_out.png").read_bytes() == b"a picture"


def test_a_recipe_that_has_begun_and_results_without_weights_bring_nothing(trained, tmp_path):
    folder, results = trained
    before = sorted(path.name for path in folder.iterdir())
    status, stdout, _ = carry(f"--recipe={folder}", f"--from={results}")
    assert (status, "has begun" in stdout) == (0, True)
    assert sorted(path.name for path in folder.iterdir()) == before
    (tmp_path / "empty").mkdir()
    status, stdout, _ = carry(f"--recipe={tmp_path / 'new'}", f"--from={tmp_path / 'empty'}")
    assert (status, "holds no weights" in stdout) == (0, True)
    assert not (tmp_path / "new").exists()


def test_the_packed_model_travels_as_it_is(tmp_path):
    model = tmp_path / "recipe" / "model.safetensors"
    model.parent.mkdir()
    shutil.copy(ROOT / "champ_jax/assets/model/model.safetensors", model)
    status, _, stderr = carry(f"--recipe={model.parent}", f"--to={tmp_path / 'results'}")
    assert status == 0, stderr
    for arguments, place in (
        ((f"--output={tmp_path / 'again.safetensors'}",), tmp_path / "again.safetensors"),
        ((f"--recipe={tmp_path / 'new'}",), tmp_path / "new/model.safetensors"),
    ):
        assert carry(f"--from={tmp_path / 'results'}", *arguments)[0] == 0
        assert place.read_bytes() == model.read_bytes()
    assert recipe.find_carried(tmp_path / "new") == recipe.Carried("stage2", True)
