"""The commands in docs/launch.md."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hosts import ROOT, free_port
from training_data import write_dataset

from champ_jax.training.config import default_config

PAGE = (ROOT / "docs" / "launch.md").read_text()


def section(title):
    return re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)[1]


def blocks(text):
    return re.findall(r"```\w*\n(.*?)```", text, re.DOTALL)


COMMAND = blocks(PAGE)[0].strip()


@pytest.mark.parametrize("launcher", ["SLURM", "Open MPI", "Cloud TPU", "GKE"])
def test_job_files_run_the_command(launcher):
    (line,) = [line for block in blocks(section(launcher)) for line in block.splitlines() if "champ_jax.train" in line]
    assert COMMAND in line


def test_the_command_names_what_there_is():
    module, *arguments = COMMAND.removeprefix("python -m ").split()
    assert (ROOT / Path(*module.split(".")).with_suffix(".py")).is_file()
    for argument in arguments:
        name, value = argument.removeprefix("--").split("=")
        if name == "config":
            assert (ROOT / value).is_file()
        elif name != "workdir":
            node = default_config()
            for part in name.removeprefix("config.").split("."):
                node = node[part]


@pytest.mark.slow
def test_two_processes_on_this_machine(tmp_path):
    (script,) = blocks(section("Two processes on this machine"))
    dataset = write_dataset(tmp_path)
    changes = {"work/two": tmp_path / "two", "DATASET": dataset, "8476": free_port()}
    changes["python -m"] = f"{sys.executable} -m"
    for old, new in changes.items():
        assert script.count(old) == 1
        script = script.replace(old, str(new))
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        ["bash", "-c", script], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    lines = [json.loads(line) for line in (tmp_path / "two" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2], done.stderr
    assert np.isfinite([line["loss"] for line in lines]).all()
