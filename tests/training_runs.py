"""Work folders as trainings leave them, without a training."""

import dataclasses
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import optax
from training_data import tiny_config, tiny_model

from champ_jax.common.files import write_json
from champ_jax.models.champ import ChampConfig
from champ_jax.models.initial_values import initial_value
from champ_jax.training.checkpoints import Checkpoints, save_initial
from champ_jax.training.parameters import Network
from champ_jax.training.state import initial_state
from champ_jax.weights.work_folder import CONFIG


def write_work_folder(folder, stage, steps=(3,)):
    """What a run of `stage` leaves that saved `steps`; returns its model and, by name, what inference should take."""
    model = ChampConfig.from_json(tiny_model().to_dict())
    model = dataclasses.replace(model, motion=model.motion if stage == 2 else None)
    network = Network.build(model, f"stage{stage}")
    rng = np.random.default_rng(0)
    arrays = {name: initial_value(name, shape.shape, 0) for name, shape in network.shapes.items()}
    params = {name: jnp.asarray(arrays[name]) for name in network.trainable}
    average = {name: jnp.asarray(x + rng.normal(0, 0.05, x.shape), jnp.float32) for name, x in params.items()}
    frozen, unused = ({name: jnp.asarray(arrays[name]) for name in names} for names in (network.frozen, network.unused))
    save_initial(folder, model, frozen, unused)
    state = initial_state(params, optax.sgd(0.1), averaged=True)
    config = tiny_config("nowhere", stage=stage, trainable=f"stage{stage}").to_dict()
    write_json(Path(folder) / CONFIG, {name: value for name, value in config.items() if name != "distributed"})
    checkpoints = Checkpoints(folder, keep=len(steps), keep_every=0)
    for step in steps:
        state = dataclasses.replace(state, step=jnp.int32(step), average=average)
        checkpoints.save(state, seed=0, data={"seed": 0, "step": step})
    checkpoints.wait()
    checkpoints.close()
    return model, {**arrays, **{name: np.asarray(x) for name, x in average.items()}}
