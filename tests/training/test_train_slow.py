"""The real command in a process of its own: killed, terminated, out of disk; initialized from checkpoints."""

import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from training_data import tiny_model, write_dataset

from champ_jax.models.champ import ChampConfig
from champ_jax.models.initial_values import initial_value
from champ_jax.training.parameters import Network
from champ_jax.weights.checkpoint import save_checkpoint
from champ_jax.weights.flat import from_components, to_components
from champ_jax.weights.work_folder import load_for_inference

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.slow

CONFIG = """
import sys
sys.path.insert(0, {tests!r})
from training_data import tiny_config
def get_config():
    return tiny_config({dataset!r})
"""


@pytest.fixture(scope="module")
def config(dataset, tmp_path_factory):
    path = tmp_path_factory.mktemp("config") / "tiny.py"
    path.write_text(CONFIG.format(tests=str(ROOT / "tests"), dataset=str(dataset)))
    return path


def command(config, workdir, *fields):
    return [
        sys.executable,
        *("-m", "champ_jax.train", f"--config={config}", f"--workdir={workdir}"),
        *(f"--config.{field}" for field in fields),
    ]


def start(config, workdir, *fields, **options):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "XLA_FLAGS": "", "JAX_PLATFORMS": "cpu"}
    return subprocess.Popen(
        command(config, workdir, *fields),
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        **options,
    )


def finish(config, workdir, *fields):
    process = start(config, workdir, *fields)
    output, _ = process.communicate()
    return process.returncode, output


def losses(workdir):
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(1, len(lines) + 1))
    return [line["loss"] for line in lines]


def wait_for_step(workdir, step, process):
    path = workdir / "metrics.jsonl"
    while process.poll() is None and not (path.exists() and path.read_text().count("\n") >= step):
        time.sleep(0.02)
    assert process.poll() is None, process.stdout.read()


@pytest.fixture(scope="module")
def whole(config, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("whole")
    status, output = finish(config, workdir, "steps=12")
    assert status == 0, output
    return losses(workdir)


def test_kill_9_at_random_moments_loses_nothing(config, whole, tmp_path):
    rng = random.Random(0)
    for target in (3, 6, 8):  # a checkpoint every step: the kill falls into a write as often as not
        process = start(config, tmp_path, "steps=12", "checkpoint.every=1")
        wait_for_step(tmp_path, target, process)
        time.sleep(rng.uniform(0, 0.3))
        process.kill()
        process.wait()
    status, output = finish(config, tmp_path, "steps=12", "checkpoint.every=1")
    assert status == 0, output
    assert "resuming from step" in output
    assert losses(tmp_path) == whole


def test_sigterm_saves_and_exits_0_with_a_line(config, whole, tmp_path):
    process = start(config, tmp_path, "steps=12", "checkpoint.every=100")
    wait_for_step(tmp_path, 3, process)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate()
    assert process.returncode == 0, output
    assert "SIGTERM: saved step" in output
    assert finish(config, tmp_path, "steps=12", "checkpoint.every=100")[0] == 0
    assert losses(tmp_path) == whole


def test_a_disk_that_refuses_a_write_is_reported_and_the_last_checkpoint_kept(config, whole, tmp_path):
    assert finish(config, tmp_path, "steps=2")[0] == 0

    def limit():  # files larger than 100 kB fail as on a full disk
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    process = start(config, tmp_path, "steps=12", preexec_fn=limit)
    output, _ = process.communicate()
    assert process.returncode == 2, output
    (report,) = [line for line in output.splitlines() if "error: " in line]
    assert report.startswith("error: ")
    assert "Traceback" not in output
    assert "cannot be written (File too large)" in report
    assert "last good checkpoint is of step 2" in report
    assert finish(config, tmp_path, "steps=12")[0] == 0
    assert losses(tmp_path) == whole


def test_stage_2_starts_from_a_stage_1_run(config, tmp_path):
    assert finish(config, tmp_path / "one", "steps=2")[0] == 0
    status, output = finish(
        config, tmp_path / "two", "steps=2", "stage=2", "trainable=stage2", f"init={tmp_path / 'one'}"
    )
    assert status == 0, output
    assert "motion modules: not in init" in output
    assert np.isfinite(losses(tmp_path / "two")).all()


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """(checkpoint directory of the tiny model with motion modules, its config, its arrays by name)."""
    folder = tmp_path_factory.mktemp("weights") / "tiny"
    model = ChampConfig.from_json(tiny_model().to_dict())
    shapes = Network.build(model, "stage2").shapes
    arrays = {name: initial_value(name, shape.shape, 1) for name, shape in shapes.items()}
    save_checkpoint(folder, to_components(arrays), model.to_json())
    return folder, model, arrays


def test_cached_latents_give_the_losses_of_the_pictures(config, weights, tmp_path):
    folder = write_dataset(tmp_path)
    command = [sys.executable, str(ROOT / "tools/build_dataset.py"), f"--output={folder}", "--cache_latents"]
    command += [f"--weights={weights[0]}", "--size=64x64"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "XLA_FLAGS": ""}
    assert subprocess.run(command, env=environment, check=False).returncode == 0
    fields = ["steps=3", f"data.path={folder}", "data.crop=center", "data.workers=2", f"init={weights[0]}"]
    for cached in ("true", "false"):
        status, output = finish(config, tmp_path / cached, *fields, f"data.cached={cached}")
        assert status == 0, output
    np.testing.assert_allclose(losses(tmp_path / "true"), losses(tmp_path / "false"), rtol=1e-4)


def test_a_converted_checkpoint_is_trained_on(dataset, weights, tmp_path):
    folder, model, arrays = weights
    small = ["data.image_size=64,64", "data.batch_size=2", "data.workers=0", "validation.every=0", "mesh.data=1"]
    small += [f"data.path={dataset}", "conditions=depth", "dtype=float32", "frozen_dtype=float32", "steps=1"]
    status, output = finish(ROOT / "configs/stage1.py", tmp_path / "run", f"init={folder}", *small)
    assert status == 0, output
    loaded, components = load_for_inference(tmp_path / "run")
    after = from_components(components)
    assert loaded.motion == model.motion  # carried through stage 1
    assert set(after) == set(arrays)
    for name, value in arrays.items():
        if ".motion_modules." in name or name.startswith(("vae.", "image_encoder.")):
            np.testing.assert_array_equal(after[name], value, err_msg=name)
