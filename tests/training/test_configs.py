"""The configs of configs/ are the golden ones; every number has a range; what cannot work is refused by name."""

import json

import pytest
from golden_configs import FOLDER, resolved
from ml_collections import ConfigDict
from training_data import smoke_config, tiny_model

from champ_jax.common.errors import InputError
from champ_jax.common.ranges import numbers_without_rule
from champ_jax.training.config import RULES, check, default_config

CONFIGS = resolved()


@pytest.mark.parametrize("name", CONFIGS)
def test_resolved_configs_are_the_golden_ones(name):
    golden = json.loads((FOLDER / name).read_text())
    assert json.loads(CONFIGS[name]) == golden, "if this is meant: python tests/training/golden_configs.py"


def test_every_golden_config_is_one_of_a_file():
    assert {path.name for path in FOLDER.iterdir()} == set(CONFIGS)


@pytest.mark.parametrize("name", CONFIGS)
def test_configs_pass_their_checks(name):
    check(ConfigDict(json.loads(CONFIGS[name])))


def test_the_command_runs_stage_1_if_no_config_is_named():
    assert json.loads(json.dumps(default_config().to_dict())) == json.loads(CONFIGS["stage1.json"])


def test_every_number_has_a_range():
    assert numbers_without_rule(default_config(), RULES) == []


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"stepz": 1}, "stepz: unknown field, did you mean steps"),
        ({"data": {"path": 3}}, r"data\.path='3': expected text"),
        ({"data": {"cached": 1}}, r"data\.cached='1': expected true or false"),
        ({"optimizer": 1}, "optimizer: expected a group of fields"),
        ({"model": {"unet": 1}}, "model: "),
        ({"loss": {"first_timestep": 1000}}, r"loss\.first_timestep=1000: the schedule's timesteps are 0 \.\.\. 999"),
        ({"data": {"cached": True, "recolored": 0.5}}, r"data\.recolored=0\.5: cached latents keep their colors"),
        ({"data": {"cached": True}, "loss": {"pixel_weight": 1.0}}, r"loss\.pixel_weight=1\.0: needs the pictures"),
        ({"stage": 1, "trainable": "stage1_pixels"}, "trainable=stage1_pixels: trains the decoder by the error"),
        ({"profile": {"steps": "9"}}, r"profile\.steps=9: expected A:B"),
        ({"validation": {"every": 1, "steps": 2000}}, r"validation\.steps=2000: the schedule has 1000"),
    ],
)
def test_configs_of_another_form_are_named(fields, message):
    config = smoke_config("somewhere", model=tiny_model()).to_dict()
    for name, value in fields.items():
        config[name] = {**config[name], **value} if isinstance(value, dict) else value
    with pytest.raises(InputError, match=message):
        check(ConfigDict(config))


def test_a_config_without_a_group_is_of_another_command():
    config = smoke_config("somewhere").to_dict()
    del config["optimizer"]
    with pytest.raises(InputError, match="optimizer: the config has no such field; is it of another command"):
        check(ConfigDict(config))
