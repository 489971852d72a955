"""The built-in model for an accelerator: larger networks, trained at 256x256 until their time is over.

    python tools/train_builtin.py --variant=accelerator --within=15 --output=work/accelerator

runs the whole recipe; `--config=configs/people/accelerator.py:NAME` is one training of it, NAME autoencoder, stage1 or
stage2, each as in the file of that name beside this one but for what follows. The learning rate stays as it is and the
parameters are averaged, so that a training may end at any step. toy_autoencoder, toy_stage1 and toy_stage2 are the same
at a size that a CPU takes a few steps of.

Hardware: one GPU of 40 GB, or a TPU. **It has not been run on one.**
"""

import dataclasses
from pathlib import Path
from runpy import run_path

from ml_collections import ConfigDict

from champ_jax.common.errors import InputError
from champ_jax.models.champ import ChampConfig

FOLDER = Path(__file__).parent
STAGES = ("autoencoder", "stage1", "stage2")
TOY = "toy_"
BATCHES = {"autoencoder": 32, "stage1": 32, "stage2": 4}


def large(model: ChampConfig) -> ChampConfig:
    """The networks of model.py, wider; as they ship they take 23 MiB."""
    return dataclasses.replace(
        model,
        unet=dataclasses.replace(model.unet, block_out_channels=(48, 80, 128)),
        guidance=dataclasses.replace(model.guidance, out_channels=48),
        vae=dataclasses.replace(model.vae, block_out_channels=(32, 48, 64)),
    )


def small(model: ChampConfig) -> ChampConfig:
    """The smoke config's networks, of one level: what compiles fastest."""
    unet = dataclasses.replace(model.unet, block_out_channels=(16,), attention_levels=(True,), heads=(2,))
    return dataclasses.replace(model, unet=unet)


def get_config(name: str) -> ConfigDict:
    stage = name.removeprefix(TOY)
    if stage not in STAGES:
        raise InputError(f"training {name}: unknown; choose {', '.join((*STAGES, *(TOY + one for one in STAGES)))}")
    config = run_path(str(FOLDER / f"{stage}.py"))["get_config"]()
    config.steps = 1_000_000  # time ends it
    config.optimizer.schedule = "constant"
    config.optimizer.warmup = 100
    config.optimizer.learning_rate = 5e-4
    config.average.decay = 0.998
    config.validation.every = 0  # the recipe's last leg measures
    config.checkpoint.every = 500
    config.log_every = 50
    if name.startswith(TOY):
        config.model = ConfigDict(small(run_path(str(FOLDER / "smoke.py"))["MODEL"]).to_json())
        config.data.image_size = (32, 32) if stage == "autoencoder" else (64, 64)
        config.data.batch_size = 1
        config.data.margin = 1
        config.data.frames = 4
        config.fast_compile = True
        config.steps = 2
        return config
    model = large(run_path(str(FOLDER / "model.py"))["MODEL"])
    config.model = ConfigDict(model.to_json())
    config.data.image_size = (128, 128) if stage == "autoencoder" else (256, 256)  # windows of a quarter, as they are
    config.data.batch_size = BATCHES[stage]
    config.data.workers = 12
    config.data.read_ahead = 4
    config.dtype = "bfloat16"
    config.attention = "auto"
    return config
