"""Hostile settings, config files, work folders and weights of `python -m champ_jax.train`."""

import atexit
import functools
import json
import shutil
import tempfile
from pathlib import Path

import pytest
from hostile import kinds
from hostile.harness import ROOT, Case, check
from training_data import write_dataset

from champ_jax.common.locks import hold_folder
from champ_jax.common.ranges import Choice, Integer, Items, Number
from champ_jax.training.config import RULES, LayerPart

SMOKE = ROOT / "configs/people/smoke.py"


def train(folder, *fields, config=SMOKE, workdir="run", data="data"):
    """The arguments of a training that could run, but for `fields`."""
    fields = [f"--config.{field}" for field in fields]
    return [f"--config={config}", f"--workdir={folder / workdir}", f"--config.data.path={data}", *fields]


@functools.cache
def dataset():
    folder = Path(tempfile.mkdtemp(prefix="hostile-training-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return write_dataset(folder)


def bad_values(rule):
    """Texts that a setting's rule excludes."""
    if isinstance(rule, Choice):
        return ["nonsense", ""]
    assert isinstance(rule, Integer | Number | Items)
    if isinstance(rule, Items) and isinstance(rule.rule, LayerPart):
        return ["", "to q", "../to_q", "to_q,to_q", "reference:"]
    if isinstance(rule, Items):
        return ["", "nan,nan", "1", "1,2,3,4,5,6,7,8,9"]
    low = rule.minimum if rule.minimum is not None else rule.above
    values = [
        str(low - 1) if isinstance(rule, Integer) else str(low - 0.5),
        "1e300" if isinstance(rule, Number) else "",
    ]
    return [*values, "text", str(2**70)] if isinstance(rule, Integer) else [*values, "nan", "inf", "text"]


def settings():
    for field, rule in RULES.items():
        for value in bad_values(rule):
            if field == "seed" and value == "":
                continue
            yield Case(
                f"setting-{field}={value}",
                "train",
                lambda folder, field=field, value=value: train(folder, f"{field}={value}"),
                field,
            )


def with_config(name, body, culprit):
    """A config file whose get_config changes the smoke config."""

    def make(folder):
        path = folder / "config.py"
        path.write_text(
            "from runpy import run_path\n\n\ndef get_config():\n"
            f"    config = run_path({str(SMOKE)!r})['get_config']()\n"
            f"    {body}\n    return config\n"
        )
        return train(folder, config=path)

    return Case(f"config-{name}", "train", make, culprit)


CONFIG_FILES = [
    with_config("another-field", "config.learning_rate = 1.0", "learning_rate"),
    with_config("group-for-a-value", "del config['steps']; config.steps = {}", "steps"),
    with_config("value-for-a-group", "del config['mesh']; config.mesh = 8", "mesh"),
    with_config("text-for-a-number", "del config['steps']; config.steps = 'many'", "steps"),
    with_config("number-for-text", "del config['init']; config.init = 3", "init"),
    with_config("number-for-a-choice", "config.remat = 'some'", "remat"),
    with_config("list-of-texts-for-numbers", "config.data.image_size = ('wide', 'high')", "image_size"),
    with_config("one-size", "config.data.image_size = (64,)", "image_size"),
    with_config("no-conditions", "config.conditions = ()", "conditions"),
    with_config("a-condition-twice", "config.conditions = ('depth', 'depth')", "conditions"),
    with_config("no-such-condition", "config.conditions = ('heat',)", "conditions"),
    with_config("betas-of-1", "config.schedule.beta_end = 1.0", "schedule.beta_end"),
    with_config("epsilon-at-zero-snr", "config.schedule.prediction = 'epsilon'", "schedule"),
    with_config("nan", "config.optimizer.learning_rate = float('nan')", "optimizer.learning_rate"),
    with_config(
        "embeddings-cached-and-trained",
        "config.data.cached = True; config.trainable = 'stage1_image_encoder'",
        "cached_embeddings",
    ),
    with_config(
        "latents-of-what-is-trained",
        "config.stage = 0; config.trainable = 'autoencoder'; config.data.cached = True",
        "data.cached",
    ),
    with_config("motion-for-stage-1", "config.init_motion = 'weights'", "init_motion"),
    with_config("adapters-of-nothing", "config.trainable = 'lora'", "init"),
    with_config("adapters-of-no-rank", "config.lora.rank = 0", "lora.rank"),
    with_config("adapters-of-no-layer", "config.lora.targets = ()", "lora.targets"),
    with_config("adapters-of-a-pattern", "config.lora.targets = ('.*',)", "lora.targets"),
    with_config("raises", "raise KeyError('x')", "config.py"),
    with_config("exits", "import sys; sys.exit(3)", "config.py"),
    with_config("returns-nothing", "return None", "config.py"),
    Case("config-of-animate", "train", lambda folder: train(folder, config=ROOT / "configs/animate.py"), "config"),
    Case("config-of-evaluate", "train", lambda folder: train(folder, config=ROOT / "configs/evaluate.py"), "config"),
]

MODEL = {
    "unet.block_out_channels": ("0,0", "-16,32", "16"),
    "unet.attention_head_dim": ("0", "-2", "3"),
    "unet.norm_num_groups": ("0", "-8", "7"),
    "unet.layers_per_block": ("0", "-1"),
    "unet.cross_attention_dim": ("0", "-32"),
    "motion.heads": ("0", "-2", "3"),
    "motion.max_length": ("0", "-32"),
    "guidance.heads": ("0", "-1"),
    "guidance.norm_num_groups": ("0", "-8"),
    "guidance.out_channels": ("0", "15"),
    "vae.norm_num_groups": ("0", "-8", "7"),
    "vae.layers_per_block": ("0", "-1"),
    "vae.latent_channels": ("0", "3"),
    "vae.scaling_factor": ("0", "nan", "-1", "inf"),
    "image_encoder.num_attention_heads": ("0", "-2", "3"),
    "image_encoder.patch_size": ("0", "-32"),
    "image_encoder.hidden_size": ("0", "-32"),
    "image_encoder.num_hidden_layers": ("0", "-1"),
    "training.length": ("0", "-1"),
}


def sizes():
    for field, values in MODEL.items():
        for value in values:
            yield Case(
                f"model-{field}={value}",
                "train",
                lambda folder, field=field, value=value: train(folder, f"model.{field}={value}"),
                "model",
            )


def work_folders():
    for kind, make in kinds.FOLDER_OUTPUTS.items():
        if kind in ("folder-of-user", "link-to-folder"):  # a run may live in a folder with other files
            continue
        yield Case(
            f"workdir-{kind}",
            "train",
            lambda folder, make=make: [
                f"--config={SMOKE}",
                f"--workdir={make(folder / 'run')}",
                f"--config.data.path={dataset()}",
            ],
            "",
        )


def in_work_folder(name, fill, culprit, **options):
    """A training in a folder that `fill` has written."""

    def make(folder):
        fill(folder / "run")
        return train(folder)

    return Case(name, "train", make, culprit, **options)


def converted(folder):
    kinds.content(json.dumps({"format": "champ_jax weights", "version": 1, "model": {}}).encode())(
        folder / "config.json"
    )
    (folder / "vae").mkdir()


def foreign_initial(folder):
    kinds.content(b"the user's own")(folder / "initial" / "notes.txt")


def run_folder(folder):
    """A work folder with a checkpoint by name, for what is read before arrays are."""
    (folder / "checkpoints" / "2").mkdir(parents=True)
    config = json.loads((ROOT / "tests/training/configs/people_smoke.json").read_text())
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "model.json").write_text(json.dumps(config["model"]))


def damaged_runs():
    for name in ("config.json", "model.json"):
        for kind, make in kinds.JSON.items():

            def fill(folder, name=name, make=make, kind=kind):
                run_folder(folder)
                (folder / name).unlink()
                make(folder / name)

            if not (kind == "missing" and name == "config.json"):
                yield in_work_folder(f"run-{name}-{kind}", fill, "run")


def readers_of_damaged_runs():
    """Other commands that take a work folder."""
    commands = {
        "champ_jax/animate.py": ("--config.weights={run}", "--config.output={output}.mp4"),
        "tools/export_weights.py": ("--checkpoint={run}", "--output={output}"),
        "tools/pack_model.py": ("--run={run}", "--output={output}.safetensors"),
    }
    for command, arguments in commands.items():
        for kind, make in kinds.JSON.items():

            def fill(folder, make=make, arguments=arguments):
                run_folder(folder / "run")
                (folder / "run" / "model.json").unlink()
                make(folder / "run" / "model.json")
                return [one.format(run=folder / "run", output=folder / "output") for one in arguments]

            yield Case(f"{Path(command).stem}-of-a-run-with-model.json-{kind}", command, fill, "run")


def scaling_reports():
    tool = "tools/compile_for_tpu.py"
    for kind, make in kinds.JSON.items():
        yield Case(f"scaling-report-{kind}", tool, lambda f, make=make: [f"--scaling={make(f / 'report')}"], "report")
    good = json.loads((ROOT / "docs/scaling/stage2.json").read_text())
    changes = [
        {"mesh": [0, 8]},
        {"mesh": 8},
        {"batch_size": -8},
        {"memory": {}},
        {"collectives": [1]},
        {"seconds": "1"},
    ]
    for change in changes:
        (field,) = change

        def make(folder, change=change):
            (folder / "report").write_text(json.dumps(good | change))
            return [f"--scaling={folder / 'report'}"]

        yield Case(f"scaling-report-{field}", tool, make, "report")


def cost_reports():
    tool = "tools/compile_for_gpu.py"
    for kind, make in kinds.JSON.items():
        yield Case(f"cost-report-{kind}", tool, lambda f, make=make: [f"--compare={make(f / 'report')}"], "report")
    good = json.loads((ROOT / "docs/performance/compiled_h100_512.json").read_text())
    for change in ({"gpu": "abacus"}, {"size": 8}, {"memory": {}}, {"groups": [1]}, {"total": None}):
        (field,) = change

        def make(folder, change=change):
            (folder / "report").write_text(json.dumps(good | {"reports": [good["reports"][0] | change]}))
            return [f"--compare={folder / 'report'}"]

        yield Case(f"cost-report-{field}", tool, make, "report")


FOLDERS = [
    in_work_folder("workdir-of-converted-weights", converted, "config.json"),
    in_work_folder("workdir-with-a-folder-initial-of-the-user", foreign_initial, "initial"),
    in_work_folder("workdir-with-a-file-initial", lambda folder: kinds.content(b"mine")(folder / "initial"), "initial"),
    Case(
        "workdir-of-another-run",
        "train",
        lambda folder: ((folder / "run").mkdir(), train(folder, data=dataset()))[1],
        "run",
        during=lambda folder: hold_folder(folder / "run"),
    ),
    Case("workdir-not-given", "train", lambda folder: [f"--config={SMOKE}"], "--workdir"),
    Case("no-data", "train", lambda folder: train(folder, data=""), "data.path"),
    Case("no-such-data", "train", lambda folder: train(folder, data=folder / "nowhere"), "nowhere"),
    Case("weights-at-an-address", "train", lambda folder: train(folder, "init=gs://a/b", data=dataset()), "gs:/"),
    Case("mesh-too-large", "train", lambda folder: train(folder, "mesh.data=999"), "mesh.data"),
    Case(
        "batch-that-does-not-spread",
        "train",
        lambda folder: train(folder, "data.batch_size=3", "mesh.data=2"),
        "data.batch_size",
    ),
]


def initial_weights():
    for kind, make in {**kinds.NO_FILE, **kinds.FOREIGN, "long-name": kinds.long_name}.items():
        yield Case(
            f"init-{kind}",
            "train",
            lambda folder, make=make: train(folder, f"init={make(folder / 'weights')}", data=dataset()),
            "init",
        )
    for kind, make in kinds.JSON.items():
        yield Case(
            f"init-config-{kind}",
            "train",
            lambda folder, make=make: (
                make(folder / "weights" / "config.json"),
                train(folder, f"init={folder / 'weights'}", data=dataset()),
            )[1],
            "weights",
        )


CASES = [
    *settings(),
    *CONFIG_FILES,
    *sizes(),
    *work_folders(),
    *damaged_runs(),
    *readers_of_damaged_runs(),
    *scaling_reports(),
    *cost_reports(),
    *FOLDERS,
    *initial_weights(),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_hostile(case, tmp_path):
    check(case, tmp_path)
