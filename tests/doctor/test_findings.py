"""The report: levels, its width, JSON, what keeps the main job from running."""

import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from champ_jax.doctor.findings import LEVELS, OK, PROBLEM, WARNING, Finding, as_json, main_job_runs, show, table

FINDINGS = [
    Finding("Packages", "Python", OK, "3.11.2"),
    Finding("Packages", "av", PROBLEM, "not installed (needs 13)", "pip install 'av>=13'", needed=True),
    Finding("Machine", "/dev/shm", WARNING, "64.0 MiB of 64.0 MiB free", "docker run --shm-size=8g"),
    Finding("Weights", "--weights", PROBLEM, "is broken", "download it again"),
]
TEXT = st.text(max_size=80)
ANY = st.builds(Finding, TEXT, TEXT, st.sampled_from(LEVELS), TEXT, TEXT, needed=st.booleans())


def test_a_problem_stands_with_its_remedy_under_its_heading():
    assert table(FINDINGS[:3], 100) == (
        "Packages\n"
        "  ok       Python    3.11.2\n"
        "  problem  av        not installed (needs 13)\n"
        "           -> pip install 'av>=13'\n"
        "\n"
        "Machine\n"
        "  warning  /dev/shm  64.0 MiB of 64.0 MiB free\n"
        "           -> docker run --shm-size=8g\n"
        "\n"
        "champ animate cannot run here with the built-in model. Found 1 problem and 1 warning."
    )
    assert table([], 80) == "\nchamp animate can run here with the built-in model. All is well."


def test_only_what_the_main_job_needs_keeps_it_from_running():
    assert not main_job_runs(FINDINGS)
    assert main_job_runs([finding for finding in FINDINGS if not finding.needed])


@given(st.lists(ANY, max_size=6), st.integers(40, 130))
def test_any_report_fits_the_terminal(findings, width):
    text = table(findings, width)
    assert all(len(line) <= width for line in text.splitlines())
    assert all(character.isprintable() for character in text.replace("\n", ""))


@given(st.lists(ANY, max_size=6))
def test_any_report_is_json_that_reads_back(findings):
    report = json.loads(as_json(findings, "1.0"))
    assert [Finding.read(fields) for fields in report["findings"]] == findings
    assert report["main_job_runs"] == main_job_runs(findings)
    assert report["problems"] + report["warnings"] == sum(finding.level != OK for finding in findings)


@pytest.mark.parametrize("fields", [None, [], {}, {"group": 1}, {**FINDINGS[0].__dict__, "level": "fine"}])
def test_what_is_no_finding_is_refused(fields):
    with pytest.raises(ValueError, match="not a finding"):
        Finding.read(fields)


def test_a_terminal_without_unicode_gets_the_report(monkeypatch):
    terminal = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr("sys.stdout", terminal)
    show([Finding("Weights", "Gewicht-ü.pth", OK, "\x1b[31mrot\x07 \udcff")])
    terminal.flush()
    assert rb"Gewicht-\xfc.pth  ?[31mrot? ?" in terminal.buffer.getvalue()
