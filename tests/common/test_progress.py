"""What a long run prints, and the seconds it keeps."""

import pytest

from champ_jax.common.progress import Progress


def run(progress):
    for _ in range(2):
        with progress.stage("load"):
            pass
    with progress.bar("denoise", 3, "step") as bar:
        bar.update(3)
    progress.log("written: out.mp4")


def test_stages_bars_and_lines_go_to_stderr(capsys):
    progress = Progress()
    run(progress)
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.count("load ...\n") == 2
    assert "denoise: 3 of 3 steps |" in output.err
    assert output.err.endswith("written: out.mp4\n")


def test_quiet_prints_nothing_and_keeps_the_seconds(capsys):
    progress = Progress(quiet=True)
    run(progress)
    assert capsys.readouterr() == ("", "")
    assert set(progress.seconds) == {"load", "denoise"}


def test_seconds_are_summed_over_repetitions(monkeypatch):
    clock = iter([0.0, 1.5, 10.0, 12.0])
    monkeypatch.setattr("time.perf_counter", lambda: next(clock))
    progress = Progress(quiet=True)
    for _ in range(2):
        with progress.stage("load"):
            pass
    assert progress.seconds == {"load": pytest.approx(3.5)}
