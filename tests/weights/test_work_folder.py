"""A training's work folder as weights: animate and export take it, average and all."""

import dataclasses
import json
import runpy
from pathlib import Path

import jax
import numpy as np
import pytest
from training_runs import write_work_folder
from weights_trees import read_file

from champ_jax import animate
from champ_jax.common.errors import InputError
from champ_jax.common.videos import read_video
from champ_jax.inference.pipeline import ChampPipeline
from champ_jax.weights.checkpoint import save_checkpoint
from champ_jax.weights.flat import to_components
from champ_jax.weights.work_folder import CHECKPOINTS, MODEL, RunCheckpoint

ROOT = Path(__file__).parents[2]
PICTURES = ROOT / "tests" / "golden" / "model" / "pictures"


@pytest.fixture(scope="module")
def stage2(tmp_path_factory):
    """(work folder, checkpoint directory with the same weights)."""
    folder = tmp_path_factory.mktemp("stage2")
    model, arrays = write_work_folder(folder / "run", 2)
    model = dataclasses.replace(model, inference=model.training)
    save_checkpoint(folder / "checkpoint", to_components(arrays), model.to_json())
    return folder / "run", folder / "checkpoint"


def run(weights, output):
    status = animate.main(
        [
            *(f"--config.weights={weights}", f"--config.output={output}"),
            *(f"--config.reference={PICTURES / 'ref.png'}", f"--config.motion={PICTURES / 'motion'}"),
            *("--config.conditions=depth", "--config.frames=0:3", "--config.width=64", "--config.height=64"),
            *(
                "--config.steps=1",
                "--config.guidance_scale=1",
                "--config.dtype=float32",
                "--config.devices=1",
                "--config.quiet",
            ),
            *("--config.comparison=false", f"--config.latents_output={output.with_suffix('.npy')}"),
        ]
    )
    assert status == 0
    return np.load(output.with_suffix(".npy"))


def test_animate_takes_a_stage_2_run(stage2, tmp_path):
    workdir, _ = stage2
    latents = run(workdir, tmp_path / "run.mp4")
    assert latents.shape == (3, 8, 8, 4)
    assert np.isfinite(latents).all()
    assert len(list(read_video(tmp_path / "run.mp4"))) == 3
    record = json.loads((tmp_path / "run.json").read_text())
    assert record["checkpoint"] == RunCheckpoint.find(workdir).identity
    assert record["checkpoint"].startswith("step-3-average-")
    assert RunCheckpoint.find(workdir, average=False).identity != record["checkpoint"]


def test_the_pipeline_holds_the_averaged_parameters(stage2):
    run, checkpoint = (ChampPipeline.from_checkpoint(path, dtype="float32") for path in stage2)
    assert run.config == checkpoint.config
    ours, theirs = run.parameters, checkpoint.parameters
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)


def test_stage_1_without_motion_modules_is_refused(tmp_path):
    write_work_folder(tmp_path / "run", 1)
    with pytest.raises(InputError, match=r"no motion modules \(a stage-1 model\)"):
        run(tmp_path / "run", tmp_path / "out.mp4")


def test_a_run_that_saved_nothing_is_reported(stage2, tmp_path):
    (tmp_path / CHECKPOINTS).mkdir()
    (tmp_path / MODEL).write_bytes((stage2[0] / MODEL).read_bytes())
    with pytest.raises(InputError, match="saved no checkpoint yet"):
        run(tmp_path, tmp_path / "out.mp4")


def test_a_work_folder_is_exported_as_its_checkpoint_directory_is(stage2, tmp_path, capsys):
    main = runpy.run_path(str(ROOT / "tools/export_weights.py"))["main"]
    for name, source in zip(("run", "checkpoint"), stage2):
        main([f"--checkpoint={source}", f"--output={tmp_path / name}"])
    assert "champ/motion_module.pth" in capsys.readouterr().out
    files = {path.relative_to(tmp_path / "run") for path in (tmp_path / "run").rglob("*.*") if path.is_file()}
    assert files == {path.relative_to(tmp_path / "checkpoint") for path in (tmp_path / "checkpoint").rglob("*.*")}
    for file in files:
        if file.suffix != ".json":
            ours, theirs = (read_file(tmp_path / name / file) for name in ("run", "checkpoint"))
            assert set(ours) == set(theirs)
            for key, tensor in theirs.items():
                np.testing.assert_array_equal(ours[key], tensor)
