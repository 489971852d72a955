"""The fields of the command, the pipeline's keywords and their ranges come from one list."""

import dataclasses
import json
from pathlib import Path

import pytest

from champ_jax.common.errors import InputError
from champ_jax.common.ranges import numbers_without_rule
from champ_jax.diffusion.windows import Windows
from champ_jax.inference import builtin
from champ_jax.inference.batch import settle
from champ_jax.inference.config import RULES, get_config
from champ_jax.inference.settings import Settings

GOLDEN = Path(__file__).parent / "golden_config.json"


def test_the_defaults_of_the_command_are_the_golden_ones():
    text = json.dumps(get_config().to_dict(), indent=1, sort_keys=True) + "\n"
    assert json.loads(text) == json.loads(GOLDEN.read_text()), f"if this is meant, write this to {GOLDEN}:\n{text}"


def test_every_number_of_the_command_has_a_range():
    config = get_config()
    del config["distributed"]  # checked where the processes are joined
    without = numbers_without_rule(config, RULES)
    assert without == ["windows.frames", "windows.overlap", "windows.stride"]
    for field in without:
        with pytest.raises(InputError, match=f"{field}=-1: expected a whole number"):
            Windows(**{field.removeprefix("windows."): -1})


def test_the_config_holds_the_defaults_and_goes_back():
    config = get_config()
    config.weights = "weights"
    settle(config)
    assert Settings.from_config(config) == Settings()
    changed = Settings(64, 128, 7, 2.0, 3, "unipc", windows=Windows("clamped", 12, 3, 2), batch=2, chunk=8)
    config = get_config()
    config.update(changed.to_config())
    assert Settings.from_config(config) == changed
    assert config.windows.batch == 2


def test_the_built_in_model_is_sampled_in_its_own_way():
    config = get_config()
    config.guidance_scale = 2.0
    settle(config)
    assert (config.steps, config.guidance_scale, config.height) == (builtin.SAMPLING["steps"], 2.0, builtin.HEIGHT)


def test_every_setting_has_a_rule():
    plain = {field.name for field in dataclasses.fields(Settings)} - {"windows", "batch"}
    assert plain | {"windows.batch"} <= set(RULES)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"guidance_scale": 1e300}, "guidance_scale=1e\\+300: expected a number from 0 to 1,000"),
        ({"eta": float("nan")}, "eta=nan: expected a number from 0 to 1"),
        ({"seed": 2**32}, "seed=4294967296: expected a whole number"),
        ({"steps": 2.5}, "steps=2.5: expected a whole number"),
        ({"batch": 0}, "windows.batch=0"),
        ({"sampler": "euler"}, "sampler=euler: expected ddim, dpm_solver_2m, unipc, lcm or tcd"),
        ({"sampler": "unipc", "eta": 0.5}, "eta=0.5: unipc takes no eta, only ddim and tcd do"),
        ({"sampler": "lcm", "eta": 0.5}, "eta=0.5: lcm takes no eta"),
    ],
)
def test_values_out_of_range_are_named(change, message):
    with pytest.raises(InputError, match=message):
        Settings(**change)
