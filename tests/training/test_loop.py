"""Whole runs of a tiny model: what they leave, how they resume, how they stop."""

import dataclasses
import json
import os
import re
import signal

import jax
import numpy as np
import pytest
from training_data import tiny_config

from champ_jax.common.errors import InputError
from champ_jax.training import checkpoints, loop
from champ_jax.training.logging import Logs
from champ_jax.training.loop import Run, train
from champ_jax.training.parameters import Network
from champ_jax.training.sharding import make_mesh
from champ_jax.weights.flat import from_components
from champ_jax.weights.work_folder import load_for_inference

STEPS = 4


@pytest.fixture(scope="module")
def one_step():
    """One jitted step for every run on one device: they differ in nothing that is compiled."""
    jitted = {}
    make = loop.jit_step

    def once(step, shardings, mesh, **options):
        return jitted.setdefault(mesh.size, make(step, shardings, mesh, **options))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "jit_step", once)
        yield


@pytest.fixture(scope="module")
def finished(dataset, one_step, tmp_path_factory):
    """The work folder of an uninterrupted run."""
    workdir = tmp_path_factory.mktemp("finished")
    train(tiny_config(dataset, steps=STEPS), workdir)
    return workdir


def lines_of(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def losses(workdir):
    return [line["loss"] for line in lines_of(workdir)]


def test_a_run_leaves_what_the_contract_says(finished, dataset):
    lines = lines_of(finished)
    assert [line["step"] for line in lines] == [1, 2, 3, 4]
    for line in lines:
        assert np.isfinite(line["loss"])
        assert line["samples_per_second"] > 0
        assert line["gradient_norm"] > 0
        assert line["memory_bytes"] > 0
        assert line["skipped"] == 0
    sums = [sum(line["wall"].values()) for line in lines]
    assert sums == sorted(sums)
    assert sums[-1] - sums[0] == pytest.approx(lines[-1]["time"] - lines[0]["time"], abs=0.05)
    assert lines[-1]["wall"]["checkpoints"] > 0
    config = json.loads((finished / "config.json").read_text())
    assert config["steps"] == STEPS
    assert config["data"]["path"] == str(dataset)
    assert {path.name for path in (finished / "checkpoints").iterdir()} == {"2", "4"}
    assert list(finished.glob("events.out.tfevents.*"))


def test_a_run_in_two_parts_equals_one_in_one(finished, dataset, one_step, tmp_path, capsys):
    train(tiny_config(dataset, steps=2), tmp_path)
    train(tiny_config(dataset, steps=STEPS, profile__steps="3:4"), tmp_path)
    output = capsys.readouterr().out
    assert "resuming from step 2" in output
    assert re.search(r"wall time: \d\d:\d\d in all: .*restarts \d+%", output)
    assert lines_of(tmp_path)[-1]["wall"]["start"] == lines_of(tmp_path)[0]["wall"]["start"] > 0
    assert list((tmp_path / "profile").rglob("*.xplane.pb"))
    assert losses(tmp_path) == losses(finished)
    ours, theirs = (from_components(load_for_inference(path)[1]) for path in (tmp_path, finished))
    assert all(np.array_equal(ours[name], theirs[name]) for name in theirs)


def test_a_work_folder_is_inference_weights(finished):
    model, components = load_for_inference(finished)
    assert model.motion is None
    assert model.inference == model.training
    assert model.conditions == ("depth",)
    network = Network.build(model, "stage1")
    shapes = {name: array.shape for name, array in from_components(components).items()}
    assert shapes == {name: shape.shape for name, shape in network.shapes.items()}
    average, last = (from_components(load_for_inference(finished, average=average)[1]) for average in (True, False))
    changed = {name for name in average if not np.array_equal(average[name], last[name])}
    assert len(changed) > len(network.trainable) // 2
    assert changed <= set(network.trainable)
    with pytest.raises(InputError, match=r"no checkpoint of step 3; it has 2, 4"):
        load_for_inference(finished, 3)


def test_sigterm_saves_and_the_run_resumes(finished, dataset, one_step, tmp_path, monkeypatch, capsys):
    record = Logs.step

    def terminate_at_2(logs, step, metrics, shown):
        record(logs, step, metrics, shown)
        if step == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    config = tiny_config(dataset, steps=STEPS, checkpoint__every=100)
    with monkeypatch.context() as patch:
        patch.setattr(Logs, "step", terminate_at_2)
        train(config, tmp_path)
    assert "SIGTERM: saved step 3" in capsys.readouterr().out  # step 3 was under way
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    train(config, tmp_path)
    assert losses(tmp_path) == losses(finished)


def test_steps_that_are_not_finite_are_skipped_counted_and_stop_the_run(dataset, one_step, tmp_path):
    config = tiny_config(dataset, steps=STEPS, nonfinite__in_row=2)
    mesh = make_mesh(1, 1, jax.devices()[:1])
    with jax.set_mesh(mesh), Run(config, tmp_path, mesh) as run:
        before = dict(run.state.params)
        name = "denoising_unet.conv_in.bias"
        poisoned = {**before, name: before[name] * np.nan}
        run.state = dataclasses.replace(run.state, params=poisoned)
        kept = {n: np.asarray(x) for n, x in poisoned.items()}
        moments = [np.asarray(x) for x in jax.tree.leaves(run.state.opt_state)]
        with pytest.raises(InputError, match=r"2 steps in a row.*clips: videos/video\d reference \d{4} frames"):
            run.take_steps()
        assert all(np.array_equal(kept[n], x, equal_nan=True) for n, x in run.state.params.items())
        assert all(np.array_equal(a, b) for a, b in zip(moments, jax.tree.leaves(run.state.opt_state)))
    for line in lines_of(tmp_path):
        assert line["loss"] is None
        assert len(line["clips"]) == 8


def test_a_disk_that_fills_up_keeps_the_last_good_checkpoint(dataset, one_step, tmp_path, monkeypatch):
    train(tiny_config(dataset, steps=2), tmp_path)

    def full(path, size):
        raise InputError(f"{path}: needs {size} bytes")

    monkeypatch.setattr(checkpoints, "require_space", full)
    with pytest.raises(InputError, match=r"needs \d+ bytes\); the last good checkpoint is of step 2\. Free some"):
        train(tiny_config(dataset, steps=STEPS), tmp_path)
    assert {path.name for path in (tmp_path / "checkpoints").iterdir()} == {"2"}


def test_a_damaged_checkpoint_is_reported_and_the_one_before_taken(finished, dataset, one_step, tmp_path, capsys):
    train(tiny_config(dataset, steps=STEPS), tmp_path)
    for path in (tmp_path / "checkpoints" / "4" / "params").rglob("*"):
        if path.is_file():
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    capsys.readouterr()
    train(tiny_config(dataset, steps=STEPS), tmp_path)
    out = capsys.readouterr().out
    assert "checkpoints/4: cannot be read" in out
    assert "resuming from step 2" in out
    assert losses(tmp_path) == losses(finished)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"seed": 1}, "seed=1: the run in .* was started with 0"),
        ({"conditions": ("normal",)}, "conditions="),
        ({"average__decay": 0.0}, "average.decay=0.0"),
        ({"optimizer__name": "adafactor"}, r"optimizer\.name=adafactor"),
    ],
)
def test_another_run_in_the_same_folder_is_refused(finished, dataset, fields, words):
    with pytest.raises(InputError, match=words):
        train(tiny_config(dataset, **fields), finished)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"stage": 3}, "stage=3"),
        ({"data__path": ""}, "data.path"),
        ({"data__image_size": (60, 64)}, "multiples of 8"),
        ({"dtype": "float16"}, "dtype=float16"),
        ({"mesh__data": 16}, "needs 16 devices, there are 8"),
        ({"data__batch_size": 6, "mesh__data": 4}, "batch_size=6 is not a multiple of 4"),
        ({"init": "nowhere"}, "init=nowhere: no such folder"),
        ({"trainable": "stage2"}, "none of these parameters"),
    ],
)
def test_configs_that_cannot_work_are_named(dataset, tmp_path, fields, words):
    with pytest.raises(InputError, match=words):
        train(tiny_config(dataset, **fields), tmp_path / "run")


def test_a_folder_that_cannot_be_written_is_named(dataset, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"file/run: .*file is a file, not a folder"):
        train(tiny_config(dataset), tmp_path / "file" / "run")


def test_out_of_memory_names_what_lowers_it(dataset, tmp_path, monkeypatch):
    def exhausted(*_):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 9 bytes.")

    monkeypatch.setattr(loop, "jit_step", lambda *_, **__: exhausted)
    with pytest.raises(InputError, match=r"out of memory .*optimizer\.accumulate=1.*batch_size=8.*remat=none"):
        train(tiny_config(dataset), tmp_path)


@pytest.mark.slow
def test_sharded_losses_and_updates_equal_those_of_one_device(finished, dataset, one_step, tmp_path):
    train(tiny_config(dataset, steps=2, mesh__data=4, mesh__fsdp=2), tmp_path)
    np.testing.assert_allclose(losses(tmp_path), losses(finished)[:2], rtol=2e-5)
    folders = (tmp_path, finished)
    ours, theirs = (from_components(load_for_inference(folder, 2, average=False)[1]) for folder in folders)
    for name, value in theirs.items():
        # Adam moves a weight whose gradient is rounding noise by up to the learning rate, 1e-3.
        np.testing.assert_allclose(ours[name], value, atol=1e-3, err_msg=name)
        assert np.abs(ours[name] - value).mean() < 2e-5, name


def test_validation_leaves_the_training_alone(finished, dataset, one_step, tmp_path):
    train(tiny_config(dataset, steps=STEPS, validation__every=2, validation__samples=2), tmp_path)
    assert losses(tmp_path) == losses(finished)
    assert len(list((tmp_path / "samples" / "0000002").glob("*.png"))) == 2
    (events,) = tmp_path.glob("events.out.tfevents.*")
    assert b"validation/psnr" in events.read_bytes()
