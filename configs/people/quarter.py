"""A recipe for the CPU with latents a quarter the size of the pictures, of which the built-in model has an eighth.

    python tools/train_builtin.py --variant=quarter --output=work/quarter

runs all of it; `--config=configs/people/quarter.py:NAME` is one training of it, each of which begins with the weights
of the one before: autoencoder, stage1, stage1_attention (the guidance encoders' self-attention joins), stage2, decoder
(the decoder alone goes on learning, for the denoiser has learned what the encoder makes).

Hardware: any CPU, and patience. The autoencoder alone reaches 32.6 dB on held-out people; docs/results.md says how far
stage 1 has come. What comes out is for samples of one step without guidance.
"""

import dataclasses
from pathlib import Path
from runpy import run_path

from ml_collections import ConfigDict

from champ_jax.common.errors import InputError
from champ_jax.models.guidance import GuidanceConfig
from champ_jax.models.vae import VAEConfig

FOLDER = Path(__file__).parent
TRAININGS = ("autoencoder", "stage1", "stage1_attention", "stage2", "decoder")
_BUILT_IN = run_path(str(FOLDER / "model.py"))["MODEL"]

# A face of twelve pixels is a blur in latents of an eighth: with as many numbers a picture, an autoencoder erred by a
# third more after as many steps. ReferenceNet and denoiser attend where the features are 16x16 and 8x8; at 32x32 four
# times the pixels would look at four times as many.
MODEL = dataclasses.replace(
    _BUILT_IN,
    unet=dataclasses.replace(
        _BUILT_IN.unet,
        in_channels=4,
        out_channels=4,
        block_out_channels=(32, 64, 96),
        attention_levels=(False, True, True),
        heads=(2, 2, 2),
    ),
    guidance=GuidanceConfig((8, 16, 32), out_channels=32, heads=1, norm_num_groups=2),
    vae=VAEConfig(latent_channels=4, block_out_channels=(16, 32, 48), layers_per_block=1, norm_num_groups=1),
)


def get_config(name: str) -> ConfigDict:
    if name not in TRAININGS:
        raise InputError(f"training {name}: unknown; choose {', '.join(TRAININGS)}")
    file = {"stage1_attention": "stage1", "decoder": "autoencoder"}.get(name, name)
    config = run_path(str(FOLDER / f"{file}.py"))["get_config"]()
    config.model = ConfigDict(MODEL.to_json())
    config.validation.samples = 16
    config.validation.steps, config.validation.guidance_scale = 1, 1.0
    if config.stage:
        # Samples of one step, from pure noise, in which nothing is to be seen: a network as small as this one learns to
        # leave it alone, and then it no longer shows through. Trained at every timestep, the same network lets noise
        # mottle walls and clothes, and spends most of its steps on timesteps that its samples do not pass through.
        config.loss.first_timestep = config.schedule.length - 1
        config.loss.person_weight = 3.0  # two thirds of a frame are wall
        config.loss.drop_rate = 0.05  # guidance costs a step as small as this more than it gives
    if name == "autoencoder":
        config.steps = 2000
        config.validation.every = 1000
    elif name == "decoder":
        config.trainable = "decoder"
        config.steps = config.validation.every = 1000
        config.optimizer.learning_rate = 5e-4
    elif name == "stage1":
        # The encoders' self-attention, over 1,024 latents of four maps, takes more than half of a step on a CPU. It
        # begins as the identity.
        config.model.guidance.attention = False
        config.steps = 20_000
        # Of 360 people's clothes too many are known by heart.
        config.data.recolored = 0.7
        config.data.cached = config.data.cached_embeddings = False
        config.validation.every = 1000
    elif name == "stage1_attention":
        config.steps = config.validation.every = 500
        config.optimizer.learning_rate = 3e-4
        config.average.decay = 0.99
    return config
