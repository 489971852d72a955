"""The recipe of the built-in model: its commands parse, its legs resume and stop, its ablations leave parts out."""

import json
from pathlib import Path
from runpy import run_path

import pytest

from champ_jax.common.configs import parse_config
from champ_jax.common.errors import InputError
from champ_jax.models.champ import ChampConfig
from champ_jax.training.config import check, default_config
from tools import recipe
from tools.recipe import VARIANTS, Leg, legs, run

ROOT = Path(__file__).parents[2]
MODEL = run_path(str(ROOT / "configs/people/model.py"))["MODEL"]
ACCELERATOR = run_path(str(ROOT / "configs/people/accelerator.py"))
LARGE = ACCELERATOR["large"](MODEL)
SMALL = ACCELERATOR["small"](run_path(str(ROOT / "configs/people/smoke.py"))["MODEL"])
MODELS = {"cpu": MODEL, "accelerator": LARGE, "accelerator_128": LARGE, "toy": SMALL}
ABLATIONS = run_path(str(ROOT / "configs/people/ablations.py"))["ABLATIONS"]


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_trainings_of_a_recipe_are_good_configs(variant, monkeypatch):
    monkeypatch.chdir(ROOT)
    trainings = [leg for leg in legs(Path("work/x"), VARIANTS[variant], seed=3) if "champ_jax.train" in leg.arguments]
    stages = []
    for leg in trainings:
        config, options = parse_config(leg.arguments[2:], default_config, options=("workdir",))
        check(config)
        assert config.seed == 3
        assert options["workdir"] == f"work/x/{leg.name}"
        config.model.guidance.attention |= leg.name == "stage1"  # joins in the next leg
        assert ChampConfig.from_json(config.model.to_dict()) == MODELS[variant]
        size = VARIANTS[variant].size
        assert tuple(config.data.image_size) == ((size, size) if config.stage else (size // 2, size // 2))
        stages.append(config.stage)
    assert stages == ([0, 1, 1, 2] if variant == "cpu" else [0, 1, 2])


def test_every_leg_runs_a_file_that_is_there():
    for leg in legs(Path("work/x"), VARIANTS["cpu"], seed=0):
        first = leg.arguments[0]
        assert first == "-m" or (ROOT / first).is_file()
        assert leg.command.startswith("python ")


def append(name, code="0"):
    """A leg that writes a line to log.txt and ends with a status."""
    return Leg(name, ("-c", f"import sys; print('{name}', file=open('log.txt', 'a')); sys.exit({code})"))


def test_done_legs_are_skipped_and_failed_ones_run_again(tmp_path):
    with pytest.raises(InputError, match=r"second: .* ended with status 3"):
        run(tmp_path, [append("first"), append("second", "3")], tmp_path)
    assert run(tmp_path, [append("first"), append("second")], tmp_path)
    assert (tmp_path / "log.txt").read_text().split() == ["first", "second", "second"]
    done = json.loads((tmp_path / "legs.json").read_text())
    assert [leg["finished"] for leg in done.values()] == [True, True]


def test_a_leg_whose_command_has_changed_runs_again(tmp_path):
    assert run(tmp_path, [append("first")], tmp_path)
    assert run(tmp_path, [Leg("first", ("-c", "open('other', 'w')"))], tmp_path)
    assert (tmp_path / "other").exists()


def test_the_deadline_stops_a_leg_which_the_next_call_finishes(tmp_path):
    patient = Leg("patient", ("-c", "import os, time; time.sleep(0 if os.path.exists('go') else 60)"))
    assert not run(tmp_path, [patient], tmp_path, minutes=0.01)
    assert not json.loads((tmp_path / "legs.json").read_text())["patient"]["finished"]
    (tmp_path / "go").touch()
    assert run(tmp_path, [patient], tmp_path)


STUBBORN = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: (os.makedirs('autoencoder/checkpoints/7', exist_ok=True), sys.exit(0)))
print(sys.argv[1:], file=open('calls', 'a'))
time.sleep(0 if '--config.steps=7' in sys.argv else 60)
"""


def test_a_leg_with_a_share_ends_with_what_it_has(tmp_path):
    """An autoencoder is closed by a call for the steps it has, which measures its latents' scale."""
    todo = [Leg("autoencoder", ("-c", STUBBORN), share=0.1), append("next")]
    assert run(tmp_path, todo, tmp_path, within=0.2)  # its share are 1.2 seconds
    assert (tmp_path / "calls").read_text().split("\n")[:2] == ["[]", "['--config.steps=7']"]
    assert (tmp_path / "log.txt").read_text() == "next\n"
    assert json.loads((tmp_path / "legs.json").read_text())["autoencoder"]["finished"]


def test_a_training_without_a_step_in_its_share_is_an_error(tmp_path):
    with pytest.raises(InputError, match="stage1: took no step in its share of the time; give more with --within"):
        run(tmp_path, [Leg("stage1", ("-c", "import time; time.sleep(60)"), share=0.1)], tmp_path, within=0.03)


def test_the_end_of_a_call_is_not_the_end_of_a_share(tmp_path):
    patient = Leg("stage1", ("-c", "import os, time; time.sleep(0 if os.path.exists('go') else 60)"), share=0.5)
    assert not run(tmp_path, [patient], tmp_path, minutes=0.01, within=10)
    (tmp_path / "go").touch()
    assert run(tmp_path, [patient], tmp_path, within=10)


@pytest.mark.parametrize(
    ("carried", "trained", "start"),
    [
        (None, ["autoencoder", "stage1", "stage2"], None),
        (recipe.Carried("autoencoder", False), ["autoencoder", "stage1", "stage2"], "work/x/carried"),
        (recipe.Carried("autoencoder", True), ["stage1", "stage2"], "work/x/carried"),
        (recipe.Carried("stage1", False), ["stage1", "stage2"], "work/x/carried"),
        (recipe.Carried("stage1", True), ["stage2"], "work/x/carried"),
        (recipe.Carried("stage2", True), [], None),
    ],
)
def test_weights_of_another_machine_stand_for_the_trainings_up_to_theirs(carried, trained, start):
    todo = legs(Path("work/x"), VARIANTS["accelerator"], seed=0, carried=carried)
    trainings = [leg for leg in todo if "champ_jax.train" in leg.arguments]
    assert [leg.name for leg in trainings] == trained
    first = next((word for leg in trainings[:1] for word in leg.arguments if word.startswith("--config.init=")), None)
    assert first == (start and f"--config.init={start}")
    if not trained:
        assert [leg.name for leg in todo] == ["held_out", "predict", "report"]
        assert "--weights=work/x/model.safetensors" in todo[1].arguments


def test_a_damaged_note_of_carried_weights_is_named(tmp_path):
    assert recipe.find_carried(tmp_path) is None
    (tmp_path / "carried.json").write_text('{"leg": "stage9", "finished": true}')
    with pytest.raises(InputError, match=r"carried\.json: is damaged"):
        recipe.find_carried(tmp_path)


def test_the_times_of_all_legs_are_written(tmp_path):
    run(tmp_path, [append("first"), append("second")], tmp_path)
    text = recipe.write_times(tmp_path)
    assert [line.split(" | ")[0] for line in text.splitlines()[2:]] == ["| first", "| second", "| all"]
    assert (tmp_path / "times.md").read_text() == text


def test_the_last_leg_measures_what_the_one_before_made():
    *_, predict, report = legs(Path("work/x"), VARIANTS["cpu"], seed=0)
    made = dict(argument.removeprefix("--").split("=") for argument in predict.arguments[1:])
    measured = dict(argument.removeprefix("--").split("=") for argument in report.arguments[1:])
    assert measured["predictions"] == made["output"]
    assert measured["held_out"] == made["held_out"]
    assert measured["weights"] == made["weights"]


def test_ablations_leave_out_what_their_names_say(monkeypatch):
    monkeypatch.chdir(ROOT)
    for name, conditions in ABLATIONS.items():
        config, _ = parse_config([f"--config=configs/people/ablations.py:{name}"], default_config)
        assert tuple(config.conditions) == conditions
        assert config.model.guidance.attention == (name != "without_guidance_attention")
    with pytest.raises(InputError, match="ablation x: unknown; choose full"):
        parse_config(["--config=configs/people/ablations.py:x"], default_config)


def test_a_config_file_that_needs_a_name_says_so(monkeypatch):
    monkeypatch.chdir(ROOT)
    with pytest.raises(InputError, match=r"needs a name; write --config=configs/people/ablations.py:NAME"):
        parse_config(["--config=configs/people/ablations.py"], default_config)
    with pytest.raises(InputError, match="takes no name"):
        parse_config(["--config=configs/stage1.py:x"], default_config)
