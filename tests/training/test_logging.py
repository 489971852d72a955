"""metrics.jsonl and event files."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from hostile import kinds

from champ_jax.common.errors import InputError
from champ_jax.training.logging import METRICS, Logs


def steps_of(folder):
    return [json.loads(line)["step"] for line in (folder / METRICS).read_text().splitlines()]


def test_a_resumed_run_appends_and_repeats_no_step(tmp_path):
    logs = Logs(tmp_path, start=0, steps=10, every=1)
    for step in (1, 2, 3, 4):
        logs.step(step, {"loss": 0.5}, {})
    logs.close()
    with (tmp_path / METRICS).open("a") as file:
        file.write('{"step": 5, "lo')  # a kill cut it off
    logs = Logs(tmp_path, start=2, steps=10, every=1)
    assert steps_of(tmp_path) == [1, 2]
    logs.step(3, {"loss": 0.25}, {})
    logs.close()
    assert steps_of(tmp_path) == [1, 2, 3]


def test_damaged_lines_are_dropped_and_counted(tmp_path):
    logs = Logs(tmp_path, start=0, steps=10, every=1)
    for step in (1, 2):
        logs.step(step, {"loss": 0.5}, {})
    logs.close()
    path = tmp_path / METRICS
    path.write_bytes(b"\xff\xfe\n[1]\n" + path.read_bytes() + b'{"step": "3"}\nnull\n{"st')
    with pytest.warns(UserWarning, match=r"metrics\.jsonl: 4 damaged lines are dropped"):
        Logs(tmp_path, start=2, steps=10, every=1).close()
    assert steps_of(tmp_path) == [1, 2]


@pytest.mark.parametrize("kind", ["folder", "fifo", "device", "dangling-link", "link-loop"])
def test_metrics_that_are_not_a_file_are_named(tmp_path, kind):
    kinds.NO_FILE[kind](tmp_path / METRICS)
    with pytest.raises(InputError, match=METRICS):
        Logs(tmp_path, start=0, steps=10, every=1)


@pytest.mark.parametrize("write", ["step", "validation"])
def test_a_full_disk_is_an_error_at_once(tmp_path, write):
    logs = Logs(tmp_path, start=0, steps=1000, every=1)
    videos = [np.random.default_rng(0).integers(0, 256, (8, 64, 64, 3), np.uint8)]

    def log():
        for step in range(1, 1000):
            if write == "step":
                logs.step(step, {"loss": 0.5}, {})
            else:
                logs.validation(step, {"psnr": 12.0}, videos, fps=8)

    with kinds.largest_file(10_000), pytest.raises(OSError, match="File too large"):
        log()


def test_lines_are_json_even_if_the_loss_is_not_finite(tmp_path):
    logs = Logs(tmp_path, start=0, steps=2, every=1)
    logs.step(1, {"loss": float("nan"), "gradient_norm": float("inf"), "clips": ["a"]}, {})
    logs.close()
    line = json.loads((tmp_path / METRICS).read_text(), parse_constant=lambda word: 1 / 0)
    assert line == {"step": 1, "loss": None, "gradient_norm": None, "clips": ["a"]}


def test_event_file_holds_scalars_and_videos(tmp_path):
    logs = Logs(tmp_path, start=0, steps=2, every=1)
    logs.step(1, {"loss": 0.5}, {})
    logs.validation(1, {"psnr": 12.0}, [np.zeros((3, 8, 24, 3), np.uint8)], fps=8)
    logs.close()
    (events,) = tmp_path.glob("events.out.tfevents.*")
    data = events.read_bytes()
    assert all(word in data for word in (b"train/loss", b"validation/psnr", b"validation/0", b"GIF89a"))


def test_the_time_left_leaves_out_what_the_first_step_took(tmp_path, capsys, monkeypatch):
    clock = iter((100.0, 102.0, 104.0))
    monkeypatch.setattr(
        "champ_jax.training.logging.time", SimpleNamespace(monotonic=lambda: next(clock), time=lambda: 0.0)
    )
    logs = Logs(tmp_path, start=6, steps=100, every=1)
    for step in (7, 8, 9):  # two seconds each after the first
        logs.step(step, {"loss": 0.5}, {})
    logs.close()
    ends = [line.split("ETA ")[1] for line in capsys.readouterr().err.splitlines()]
    assert ends == ["?", "03:04", "03:02"]


def test_plain_progress_lines_where_there_is_no_terminal(tmp_path, capsys):
    logs = Logs(tmp_path, start=0, steps=4, every=2)
    for step in (1, 2, 3, 4):
        logs.step(step, {"loss": 0.5}, {"loss": "0.5000", "samples/s": "8.00"})
    logs.close()
    lines = capsys.readouterr().err.splitlines()
    assert [line.split()[1] for line in lines] == ["2/4", "4/4"]
    assert "loss 0.5000 samples/s 8.00 ETA" in lines[0]
