"""The built-in model from nothing: its legs as commands, run one after the other, each resumable.

DIR/people, DIR/held_out   synthetic people: to train on, and others to test on
DIR/dataset                of DIR/people/train, with the autoencoder's latents
DIR/TRAINING               work folders of the trainings: autoencoder, stage1, stage2 and what else a variant has
DIR/model.safetensors      the packed model
DIR/predictions            the held-out videos by the model
DIR/report.{json,md}       how good they are, beside baselines and ceilings; pictures in DIR/report_sheet.png
DIR/legs.json              {leg: {command, seconds, finished}} of what has run
DIR/times.md               the same for people
DIR/carried.json           what came from another machine (tools/carry_weights.py): weights in DIR/carried, or the model
"""

import dataclasses
import json
import math
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from champ_jax.common.errors import InputError
from champ_jax.common.files import atomic_path, read_json

LEGS, CARRIED = "legs.json", "carried"
TRAININGS = ("autoencoder", "stage1", "stage2")
# A step on a CPU asks for all of its memory anew, and page faults took a fifth of the processor: glibc is to keep what
# it was given, in huge pages. Other allocators do not read these.
_MEMORY = {
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(2**36),
}


@dataclasses.dataclass(frozen=True)
class Variant:
    """How much of everything.

    Attributes:
      videos, frames: Counts for the people to train on.
      plain: whether all of them stand in studios, in clothes of one color.
      held_out, held_out_frames: Counts for the people to test on.
      size: side of the pictures.
      trainings: the trainings, each of which begins with the weights of the one before.
      config: The config of a training, where '{leg}' stands for its name.
      settings: {leg: {field: value}} that differ from that config; those of 'report' are options of
        tools/report_builtin.py.
      shares: {leg: share} of the time that a call with `within` gives the legs that may end early.
    """

    videos: int = 400
    frames: int = 24
    plain: bool = True
    held_out: int = 16
    held_out_frames: int = 44  # two windows
    size: int = 128
    trainings: tuple[str, ...] = TRAININGS
    config: str = "configs/people/{leg}.py"
    settings: Mapping[str, Mapping[str, str]] = dataclasses.field(default_factory=dict)
    shares: Mapping[str, float] = dataclasses.field(default_factory=dict)


# Enough of everything for any machine; time ends it.
_ACCELERATOR = Variant(
    videos=3000,
    frames=48,
    plain=False,
    held_out=32,
    size=256,
    config="configs/people/accelerator.py:{leg}",
    shares={"people": 0.2, "autoencoder": 0.17, "stage1": 0.28, "stage2": 0.1},
)
_HALF = {"data.image_size": "128,128"}

VARIANTS = {
    "cpu": Variant(videos=1000, trainings=("autoencoder", "stage1", "stage1_pixels", "stage2")),
    # Larger networks at 256x256 on three times the people, in the world as it is drawn.
    "accelerator": _ACCELERATOR,
    # The same at 128x128, where that is too much for the time.
    "accelerator_128": dataclasses.replace(
        _ACCELERATOR,
        size=128,
        settings={"autoencoder": {"data.image_size": "64,64"}, "stage1": _HALF, "stage2": _HALF},
    ),
    # As little as shows that everything runs.
    "toy": Variant(
        videos=5,
        frames=6,
        held_out=1,
        held_out_frames=4,
        size=64,
        config="configs/people/accelerator.py:toy_{leg}",
        shares=_ACCELERATOR.shares,
    ),
}


@dataclasses.dataclass(frozen=True)
class Leg:
    """One step of the recipe.

    Attributes:
      name: The leg's name.
      arguments: The arguments of Python, relative to the checkout.
      share: The share of the time that is given by `within` after which the leg ends with what it has; None: it ends
        by itself.
    """

    name: str
    arguments: tuple[str, ...]
    share: float | None = None

    @property
    def command(self) -> str:
        """The command line as typed in a shell."""
        return shlex.join(["python", *self.arguments])


@dataclasses.dataclass(frozen=True)
class Carried:
    """Weights that another machine trained: in DIR/carried, or after the last training DIR/model.safetensors.

    Attributes:
      leg: The training they are of.
      finished: whether it was over.
    """

    leg: str
    finished: bool


def find_carried(directory: Path) -> Carried | None:
    """What DIR/carried.json says; None where there is none.

    Raises:
      InputError: it is damaged.
    """
    path = directory / f"{CARRIED}.json"
    if not path.exists():
        return None
    fields = read_json(path)
    good = isinstance(fields, dict) and fields.get("leg") in TRAININGS and isinstance(fields.get("finished"), bool)
    if not good:
        raise InputError(f"{path}: is damaged; remove it and {directory / CARRIED}")
    return Carried(fields["leg"], fields["finished"])


def legs(
    directory: Path,
    variant: Variant,
    seed: int,
    settings: Mapping[str, str] | None = None,
    carried: Carried | None = None,
) -> list[Leg]:
    """The commands of a recipe.

    Args:
      directory: DIR.
      variant: how much.
      seed: The seed of the people and of every training; the held-out people have seed + 1.
      settings: fields of every training's config that are set besides the variant's.
      carried: weights that stand for the trainings up to theirs.
    """
    names = variant.trainings
    done = names.index(carried.leg) + carried.finished if carried else 0
    places = {leg: directory / (CARRIED if number < done else leg) for number, leg in enumerate(names)}

    def train(leg: str, **fields: str) -> Leg:
        data = {"data.path": directory / "dataset", "validation.path": directory / "people" / "test", "seed": seed}
        everything = {**data, **fields, **variant.settings.get(leg, {}), **(settings or {})}
        overrides = [f"--config.{name}={value}" for name, value in everything.items()]
        options = (f"--config={variant.config.format(leg=leg)}", f"--workdir={directory / leg}")
        return Leg(leg, ("-m", "champ_jax.train", *options, *overrides), variant.shares.get(leg))

    plain = ("--plain",) if variant.plain else ()
    people = ("tools/make_people.py", f"--output={directory / 'people'}", f"--count={variant.videos}", *plain)
    held_out = ("tools/make_people.py", f"--output={directory / 'held_out'}", f"--count={variant.held_out}", *plain)
    size, dataset = f"--size={variant.size}x{variant.size}", f"--output={directory / 'dataset'}"
    cache = ("--cache_latents", f"--weights={places['autoencoder']}", size, "--batch_size=32")
    trainings = []
    for number, leg in enumerate(names):
        if number == 1:
            trainings.append(Leg("latents", ("tools/build_dataset.py", dataset, *cache)))
        if number >= done:
            start = directory / CARRIED if carried and leg == carried.leg else None
            start = start or (places[names[number - 1]] if number else None)
            trainings.append(train(leg, **({} if start is None else {"init": start})))
    packed = directory / "model.safetensors"
    pack = Leg("pack", ("tools/pack_model.py", f"--run={places[names[-1]]}", f"--output={packed}"))
    frames = f"--frames={variant.held_out_frames}"
    videos = f"--held_out={directory / 'held_out' / 'test'}"
    weights = f"--weights={packed if done == len(names) else places[names[-1]]}"
    predictions = directory / "predictions"
    predict = ("tools/predict_held_out.py", videos, weights, f"--output={predictions}")
    options = [f"--{name}={value}" for name, value in variant.settings.get("report", {}).items()]
    if variant.shares:  # there is no time for what needs a detector of its own, and no PyAV
        predict, train_folder = (*predict, "--no_videos"), ()
    else:
        train_folder = (f"--train={directory / 'people' / 'train'}",)
    report = ("tools/report_builtin.py", videos, *train_folder, weights, *options)
    after = [
        Leg("held_out", (*held_out, size, frames, f"--seed={seed + 1}", "--test_share=1")),
        Leg("predict", predict),
        Leg("report", (*report, f"--predictions={predictions}", f"--output={directory / 'report.json'}")),
    ]
    if done == len(names):
        return after
    return [
        Leg("people", (*people, size, f"--frames={variant.frames}", f"--seed={seed}"), variant.shares.get("people")),
        Leg("dataset", ("tools/build_dataset.py", f"--source={directory / 'people' / 'train'}", dataset)),
        *trainings,
        pack,
        *after,
    ]


def run(
    directory: Path,
    todo: list[Leg],
    checkout: Path,
    *,
    minutes: float | None = None,
    within: float | None = None,
) -> bool:
    """Runs the legs that are not done; the same call resumes after a stop.

    Args:
      directory: DIR.
      todo: The legs, from `legs`.
      checkout: where the commands run.
      minutes: after which the running leg is asked to stop (SIGTERM: a training saves and ends); None: no limit.
      within: minutes of all calls together, of which legs with a share get theirs: where that is used up, such a leg is
        asked to stop and is finished with what it has; None: every leg ends by itself.

    Returns:
      Whether everything is done.

    Raises:
      InputError: a leg failed; its own message came before.
    """
    directory.mkdir(parents=True, exist_ok=True)
    deadline = None if minutes is None else time.monotonic() + 60 * minutes
    record = directory / LEGS
    done = json.loads(record.read_text()) if record.is_file() else {}
    for leg in todo:
        before = done.get(leg.name, {"seconds": 0.0, "finished": False})
        if before["finished"] and before["command"] == leg.command:
            continue
        print(f"{leg.name}: {leg.command}", flush=True)
        start = time.monotonic()
        own = math.inf if leg.share is None or within is None else start + 60 * within * leg.share - before["seconds"]
        stopped = _run(leg, checkout, min(own, math.inf if deadline is None else deadline))
        if stopped and (deadline is None or own <= deadline):
            _close(leg, directory, checkout, deadline)
            stopped = False
        seconds = before["seconds"] + time.monotonic() - start
        done[leg.name] = {"command": leg.command, "seconds": round(seconds, 1), "finished": not stopped}
        with atomic_path(record) as path:
            path.write_text(json.dumps(done, indent=1) + "\n")
        if stopped:
            print(f"{leg.name}: stopped after {minutes:g} minutes; run the same command again to resume", flush=True)
            return False
    return True


def _close(leg: Leg, directory: Path, checkout: Path, deadline: float | None) -> None:
    """Finishes a leg that was stopped when its share of the time was used up."""
    print(f"{leg.name}: its share of the time is used up", flush=True)
    if leg.name not in TRAININGS:
        return
    steps = [int(path.name) for path in (directory / leg.name / "checkpoints").glob("*") if path.name.isdecimal()]
    from_elsewhere = any(CARRIED in argument for argument in leg.arguments)
    if not any(steps) and not (steps and from_elsewhere):
        raise InputError(f"{leg.name}: took no step in its share of the time; give more with --within")
    if leg.name == "autoencoder":  # a training that ends by itself measures its latents' scale
        _run(dataclasses.replace(leg, arguments=(*leg.arguments, f"--config.steps={max(steps)}")), checkout, deadline)


def _run(leg: Leg, checkout: Path, deadline: float | None) -> bool:
    """Whether the leg had to be stopped."""
    process = subprocess.Popen([sys.executable, *leg.arguments], cwd=checkout, env=_MEMORY | dict(os.environ))
    try:
        left = math.inf if deadline is None else max(deadline - time.monotonic(), 0)
        status = process.wait(None if left == math.inf else left)
        stopped = False
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGTERM)
        status, stopped = process.wait(), True
    except BaseException:
        process.terminate()
        process.wait()
        raise
    if status and not (stopped and status == -signal.SIGTERM):
        raise InputError(
            f"{leg.name}: `{leg.command}` ended with status {status}; run the same command again to resume"
        )
    return stopped


def write_times(directory: Path) -> str:
    """Writes and returns DIR/times.md: the legs with their minutes and commands. Figures are in DIR/report.md."""
    done = json.loads((directory / LEGS).read_text())
    lines = ["| leg | minutes | command |", "| --- | --- | --- |"]
    lines += [f"| {name} | {leg['seconds'] / 60:.1f} | `{leg['command']}` |" for name, leg in done.items()]
    lines.append(f"| all | {sum(leg['seconds'] for leg in done.values()) / 60:.1f} | |")
    text = "\n".join(lines) + "\n"
    with atomic_path(directory / "times.md") as path:
        path.write_text(text)
    return text
