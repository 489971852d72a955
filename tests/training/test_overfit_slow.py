"""The whole way on one clip: autoencoder, stage 1 and stage 2 learn it by heart, and the command draws it again."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from champ_jax.common.pictures import read_image
from champ_jax.evaluation.frames import pairwise

ROOT = Path(__file__).parents[2]
FRAMES = 8


def run(*arguments):
    environment = os.environ | {"PYTHONPATH": str(ROOT), "XLA_FLAGS": ""}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.slow
def test_one_clip_is_learned_by_heart(tmp_path):
    people, dataset = tmp_path / "people", tmp_path / "dataset"
    made = ["--plain", "--count=5", f"--frames={FRAMES}", "--size=64x64", "--test_share=0", "--seed=4"]
    run("tools/make_people.py", f"--output={people}", *made)
    for video in sorted((people / "train").iterdir())[:-1]:
        shutil.rmtree(video)  # the last one moves so much that its first frame is worth 18 dB at its end
    run("tools/build_dataset.py", f"--source={people / 'train'}", f"--output={dataset}")

    def train(name, *settings):
        common = ["data.margin=1", "data.image_size=(64,64)", "validation.every=0", "checkpoint.every=1000"]
        fields = [f"data.path={dataset}", *common, *settings]
        overrides = [f"--config.{field}" for field in fields]
        arguments = [f"--config=configs/people/{name}.py", f"--workdir={tmp_path / name}", *overrides]
        run("-m", "champ_jax.train", *arguments)

    train("autoencoder", "steps=750", "data.area=(1.0,1.0)")
    cache = ["--cache_latents", f"--weights={tmp_path / 'autoencoder'}", "--size=64x64"]
    run("tools/build_dataset.py", f"--output={dataset}", *cache)
    train("stage1", f"init={tmp_path / 'autoencoder'}", "steps=1500", "loss.drop_rate=0.0", "data.recolored=0.0")
    clip = [f"data.frames={FRAMES}", "data.batch_size=1", "loss.drop_rate=0.0"]
    train("stage2", f"init={tmp_path / 'stage1'}", "steps=400", *clip)

    video = next((people / "train").iterdir())
    fields = {
        "weights": tmp_path / "stage2",
        "reference": video / "images" / "0001.png",
        "motion": video,
        "output": tmp_path / "out.mp4",
        "frames_output": tmp_path / "frames",
        "width": 64,
        "height": 64,
        "steps": 1,  # what stage 1 is trained for
        "guidance_scale": 1.0,
    }
    run("-m", "champ_jax.animate", *(f"--config.{name}={value}" for name, value in fields.items()))
    true, made = (
        np.stack([read_image(path) for path in sorted(folder.iterdir())])
        for folder in (video / "images", tmp_path / "frames")
    )
    quality = pairwise(true, made)["psnr"]
    still = pairwise(true, np.broadcast_to(true[:1], true.shape).copy())["psnr"][1:]
    print(f"PSNR {np.round(quality, 1)} dB; the first frame, copied, {np.round(still, 1)} dB")
    assert still.mean() < 22
    assert quality.mean() >= 30
