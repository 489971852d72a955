"""Configs of the networks as files may hold them: what cannot be a network is refused in one line that names the field.

Every field of every config is given every kind of wrong value, at construction and through from_json.
"""

import dataclasses
import itertools
import json
import math

import pytest

from champ_jax.common.errors import InputError
from champ_jax.diffusion.samplers import Path
from champ_jax.diffusion.schedules import Schedule
from champ_jax.diffusion.windows import Windows
from champ_jax.models.champ import ChampConfig, ScheduleConfig
from champ_jax.models.clip import CLIPVisionConfig
from champ_jax.models.guidance import GuidanceConfig
from champ_jax.models.motion_module import MotionConfig
from champ_jax.models.unet import UNetConfig
from champ_jax.models.vae import VAEConfig

CONFIGS = {
    "unet": UNetConfig(),
    "vae": VAEConfig(),
    "image_encoder": CLIPVisionConfig(),
    "motion": MotionConfig(),
    "guidance": GuidanceConfig(),
    "schedule": ScheduleConfig(),
    "windows": Windows(),
}
DEEP = json.loads("[" * 50 + "]" * 50)
# By the type that the field has: values of other types, and numbers out of any range.
WRONG = {
    bool: (None, "True", 1, 0, 1.0, [], {}),
    str: (None, "", "LINEAR", 3, True, ["linear"], {}),
    int: (None, 0, -1, True, 1.5, math.nan, "8", "", [8], {}, 10**9, 10**400),
    float: (None, -1.0, True, math.nan, math.inf, -math.inf, 1e30, 10**400, "1e-5", [1e-5], {}),
    tuple: (None, (), 3, "32", {}, (0, 32), (-32, 32), (32.0, 64.0), ("32", "64"), (True, 7), (None,), DEEP, (10**9,)),
}
# 0 is a valid overlap and shift, and temporal windows may be long.
VALID = {("windows", "overlap", 0), ("unet", "freq_shift", 0)}


def kind_of(field, value):
    return float if field == "freq_shift" else type(value)


CASES = [
    pytest.param(name, field.name, wrong, id=f"{name}.{field.name}-{index}")
    for name, config in CONFIGS.items()
    for field in dataclasses.fields(config)
    for index, wrong in enumerate(WRONG[kind_of(field.name, getattr(config, field.name))])
    if (name, field.name, wrong if isinstance(wrong, int) else None) not in VALID
]


def refuses(field):
    """Expects an InputError of one short line that names the field."""
    return pytest.raises(InputError, match=rf"^[^\n]*{field}[^\n]{{0,400}}$")


@pytest.mark.parametrize(("name", "field", "wrong"), CASES)
def test_no_field_takes_what_it_cannot_use(name, field, wrong):
    with refuses(field):
        dataclasses.replace(CONFIGS[name], **{field: wrong})


FILES = {"unet": UNetConfig, "vae": VAEConfig, "image_encoder": CLIPVisionConfig}
FIELDS_OF_FILES = {
    "unet": "block_out_channels attention_head_dim num_attention_heads norm_num_groups layers_per_block in_channels "
    "cross_attention_dim norm_eps down_block_types up_block_types",
    "vae": "block_out_channels norm_num_groups layers_per_block latent_channels scaling_factor down_block_types "
    "up_block_types",
    "image_encoder": "hidden_size num_attention_heads image_size patch_size vision_config",
}
SPELLED = {"attention_head_dim": "heads", "num_attention_heads": "heads"}


@pytest.mark.parametrize(
    ("name", "field", "wrong"),
    [
        pytest.param(name, field, wrong, id=f"{name}.{field}-{index}")
        for name, fields in FIELDS_OF_FILES.items()
        for field in fields.split()
        for index, wrong in enumerate(("8x", 0, -8, True, 1.5, [], {}, [[8]], ["a", 1], math.nan, 10**30, DEEP))
        if (field, wrong) not in (("scaling_factor", 1.5), ("vision_config", {}))
    ],
)
def test_files_of_other_programs(name, field, wrong):
    fields = json.loads(json.dumps({**CONFIGS[name].to_json(), field: wrong}))
    with refuses(field if name == "image_encoder" else SPELLED.get(field, field)):
        FILES[name].from_json(fields)


@pytest.mark.parametrize("reader", [*FILES.values(), MotionConfig, GuidanceConfig, ChampConfig])
@pytest.mark.parametrize("fields", [None, [], "unet", 3, True, DEEP])
def test_files_that_hold_no_object(reader, fields):
    with pytest.raises(InputError, match="expected a JSON object"):
        reader.from_json(fields)


CHAMP = json.loads(json.dumps(ChampConfig().to_json()))


@pytest.mark.parametrize(
    ("field", "wrong"),
    itertools.product(CHAMP, ([], "x", 3, True, 1e400, {"surprise": 1})),
    ids=lambda value: str(value)[:20],
)
def test_parts_of_a_models_config(field, wrong):
    if wrong == {"surprise": 1} and field in FILES:
        pytest.skip("files of other programs hold more fields than ours")
    with refuses(field):
        ChampConfig.from_json({**CHAMP, field: wrong})


@pytest.mark.parametrize("field", CHAMP)
def test_parts_that_are_missing_or_unknown(field):
    with refuses(f"missing field {field}"):
        ChampConfig.from_json({name: value for name, value in CHAMP.items() if name != field})
    with refuses("unknown field surprise"):
        ChampConfig.from_json({**CHAMP, "surprise": 1})


@pytest.mark.parametrize(
    "conditions", [[""], ["a b"], ["a.b"], ["../a"], ["depth", "depth"], [1], [None], "depth", [[]]]
)
def test_names_of_conditions(conditions):
    with refuses("conditions"):
        ChampConfig.from_json({**CHAMP, "conditions": conditions})


def odd_unet():
    return UNetConfig(
        block_out_channels=(15,), attention_levels=(True,), heads=(3,), norm_num_groups=5, cross_attention_dim=8
    )


@pytest.mark.parametrize(
    ("field", "make"),
    [
        ("heads", lambda: UNetConfig(heads=(7, 8, 8, 8))),
        ("norm_num_groups", lambda: UNetConfig(norm_num_groups=33)),
        ("differ in length", lambda: UNetConfig(heads=(8, 8))),
        ("differ in length", lambda: UNetConfig(attention_levels=(True,))),
        ("time embedding", odd_unet),
        ("norm_num_groups", lambda: VAEConfig(norm_num_groups=48)),
        ("num_attention_heads", lambda: CLIPVisionConfig(num_attention_heads=7)),
        ("patch_size", lambda: CLIPVisionConfig(patch_size=225)),
        ("heads", lambda: GuidanceConfig(heads=5)),
        ("norm_num_groups", lambda: GuidanceConfig(norm_num_groups=28)),
        ("motion.heads", lambda: ChampConfig(motion=MotionConfig(heads=7))),
        ("guidance out_channels", lambda: ChampConfig(guidance=GuidanceConfig(out_channels=64))),
        ("projection_dim", lambda: ChampConfig(image_encoder=CLIPVisionConfig(projection_dim=512))),
        ("latent_channels", lambda: ChampConfig(vae=VAEConfig(latent_channels=8))),
        ("shrink", lambda: ChampConfig(guidance=GuidanceConfig((16, 32, 96)))),
        ("vae.in_channels", lambda: ChampConfig(vae=VAEConfig(in_channels=1))),
        ("vae.out_channels", lambda: ChampConfig(vae=VAEConfig(out_channels=4))),
        ("num_channels", lambda: ChampConfig(image_encoder=CLIPVisionConfig(num_channels=1))),
        ("unet.out_channels", lambda: ChampConfig(unet=UNetConfig(out_channels=8))),
        ("beta_end", lambda: Schedule(beta_start=0.5, beta_end=0.1)),
        ("prediction", lambda: Schedule(prediction="epsilon")),
        ("windows.overlap", lambda: Windows(frames=4, overlap=4)),
        ("eta", lambda: Path.of(Schedule(), 4, eta=1.5)),
        ("eta", lambda: Path.of(Schedule(), 4, eta=math.nan)),
        ("steps", lambda: Path.of(Schedule(), 0)),
        ("steps", lambda: Path.of(Schedule(), 1001)),
    ],
)
def test_fields_that_do_not_fit_together(field, make):
    with refuses(field):
        make()


def test_lists_of_a_file_become_tuples():
    """A config is compared and hashed."""
    config = VAEConfig(block_out_channels=[32, 64])
    assert config == VAEConfig(block_out_channels=(32, 64))
    assert hash(config) == hash(VAEConfig(block_out_channels=(32, 64)))
