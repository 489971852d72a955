"""The built-in model from nothing: its legs as commands, run one after the other, each resumable.

DIR/people, DIR/held_out   synthetic people: to train on, and others to test on
DIR/dataset                of DIR/people/train, with the autoencoder's latents
DIR/{autoencoder,stage1,stage2}   work folders of the trainings
DIR/model.safetensors      the packed model
DIR/predictions            the held-out videos by the model
DIR/report.{json,md}       how good they are, beside baselines and ceilings; pictures in DIR/report_sheet.png
DIR/legs.json              {leg: {command, seconds, finished}} of what has run
DIR/times.md               the same for people
"""

import dataclasses
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from champ_jax.common.errors import InputError
from champ_jax.common.files import atomic_path

LEGS = "legs.json"
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
      settings: {leg: {field: value}} that differ from configs/people/LEG.py; those of 'report' are options of
        tools/report_builtin.py.
    """

    videos: int = 400
    frames: int = 24
    plain: bool = True
    held_out: int = 16
    held_out_frames: int = 44  # two windows
    settings: Mapping[str, Mapping[str, str]] = dataclasses.field(default_factory=dict)


_LARGE = {"dtype": "bfloat16", "attention": "auto", "data.workers": "12", "checkpoint.every": "500"}

VARIANTS = {
    "cpu": Variant(),
    # The same networks on 15 to 40 times the samples, of eight times the people, in the world as it is drawn.
    "accelerator": Variant(
        videos=3000,
        frames=48,
        plain=False,
        held_out=32,
        settings={
            "autoencoder": {**_LARGE, "steps": "6000", "data.batch_size": "64"},
            "stage1": {**_LARGE, "steps": "8000", "data.batch_size": "96", "average.decay": "0.999"},
            "stage2": {**_LARGE, "steps": "1500", "data.batch_size": "16", "average.decay": "0.99"},
        },
    ),
}


@dataclasses.dataclass(frozen=True)
class Leg:
    """One step of the recipe.

    Attributes:
      name: The leg's name.
      arguments: The arguments of Python, relative to the checkout.
    """

    name: str
    arguments: tuple[str, ...]

    @property
    def command(self) -> str:
        """The command line as typed in a shell."""
        return shlex.join(["python", *self.arguments])


def legs(directory: Path, variant: Variant, seed: int, settings: Mapping[str, str] | None = None) -> list[Leg]:
    """The commands of a recipe.

    Args:
      directory: DIR.
      variant: how much.
      seed: The seed of the people and of every training; the held-out people have seed + 1.
      settings: fields of every training's config that are set besides the variant's.
    """

    def train(leg: str, **fields: str) -> Leg:
        data = {"data.path": directory / "dataset", "validation.path": directory / "people" / "test", "seed": seed}
        everything = {**data, **fields, **variant.settings.get(leg, {}), **(settings or {})}
        overrides = [f"--config.{name}={value}" for name, value in everything.items()]
        folder = f"--workdir={directory / leg}"
        return Leg(leg, ("-m", "champ_jax.train", f"--config=configs/people/{leg}.py", folder, *overrides))

    plain = ("--plain",) if variant.plain else ()
    people = ("tools/make_people.py", f"--output={directory / 'people'}", f"--count={variant.videos}", *plain)
    held_out = ("tools/make_people.py", f"--output={directory / 'held_out'}", f"--count={variant.held_out}", *plain)
    dataset = f"--output={directory / 'dataset'}"
    cache = ("--cache_latents", f"--weights={directory / 'autoencoder'}", "--size=128x128", "--batch_size=32")
    pack = ("tools/pack_model.py", f"--run={directory / 'stage2'}")
    videos = f"--held_out={directory / 'held_out' / 'test'}"
    weights = f"--weights={directory / 'stage2'}"
    predictions = directory / "predictions"
    options = [f"--{name}={value}" for name, value in variant.settings.get("report", {}).items()]
    report = ("tools/report_builtin.py", videos, f"--train={directory / 'people' / 'train'}", weights, *options)
    return [
        Leg("people", (*people, f"--frames={variant.frames}", f"--seed={seed}")),
        Leg("dataset", ("tools/build_dataset.py", f"--source={directory / 'people' / 'train'}", dataset)),
        train("autoencoder"),
        Leg("latents", ("tools/build_dataset.py", dataset, *cache)),
        train("stage1", init=directory / "autoencoder"),
        train("stage2", init=directory / "stage1"),
        Leg("pack", (*pack, f"--output={directory / 'model.safetensors'}")),
        Leg("held_out", (*held_out, f"--frames={variant.held_out_frames}", f"--seed={seed + 1}", "--test_share=1")),
        Leg("predict", ("tools/predict_held_out.py", videos, weights, f"--output={predictions}")),
        Leg("report", (*report, f"--predictions={predictions}", f"--output={directory / 'report.json'}")),
    ]


def run(directory: Path, todo: list[Leg], checkout: Path, *, minutes: float | None = None) -> bool:
    """Runs the legs that are not done; the same call resumes after a stop.

    Args:
      directory: DIR.
      todo: The legs, from `legs`.
      checkout: where the commands run.
      minutes: after which the running leg is asked to stop (SIGTERM: a training saves and ends); None: no limit.

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
        stopped = _run(leg, checkout, deadline)
        seconds = before["seconds"] + time.monotonic() - start
        done[leg.name] = {"command": leg.command, "seconds": round(seconds, 1), "finished": not stopped}
        with atomic_path(record) as path:
            path.write_text(json.dumps(done, indent=1) + "\n")
        if stopped:
            print(f"{leg.name}: stopped after {minutes:g} minutes; run the same command again to resume", flush=True)
            return False
    return True


def _run(leg: Leg, checkout: Path, deadline: float | None) -> bool:
    """Whether the leg had to be stopped."""
    process = subprocess.Popen([sys.executable, *leg.arguments], cwd=checkout, env=_MEMORY | dict(os.environ))
    try:
        status = process.wait(None if deadline is None else max(deadline - time.monotonic(), 0))
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
