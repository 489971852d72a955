"""Probes that crash, hang or talk too much are findings, and the others are heard."""

import time
from pathlib import Path

import pytest

from champ_jax.doctor import probing
from champ_jax.doctor.findings import OK, PROBLEM, WARNING, Finding
from champ_jax.doctor.probes import PROBES
from champ_jax.doctor.probing import Attempt, attempts, run_probes

FIRST = Attempt("Machine", "first", "do something", needed=True)
NEXT = Attempt("Machine", "next", "do another thing")


@pytest.fixture
def shadow(tmp_path, monkeypatch):
    """Puts a module in front of an installed one, for this process's children."""

    def put(name, source):
        path = tmp_path / f"{name}.py"
        path.write_text(source)
        monkeypatch.syspath_prepend(str(tmp_path))

    return put


def probe(names, seconds=60.0, arguments=()):
    return run_probes({name: (PROBES[name].first, list(arguments)) for name in names}, seconds)


def levels(findings):
    return {finding.name: finding.level for finding in findings}


def test_an_exception_is_the_finding_of_what_was_tried():
    def run():
        yield NEXT
        yield Finding("Machine", "next", OK, "works")
        yield FIRST
        raise ValueError("a\nb")

    found = [item for item in attempts(run, FIRST) if isinstance(item, Finding)]
    assert found[1] == Finding("Machine", "first", PROBLEM, "ValueError: a b", "do something", needed=True)
    assert levels(found) == {"next": OK, "first": PROBLEM}


@pytest.mark.parametrize("error", [SystemExit(3), ImportError("No module named 'x'"), MemoryError(), RecursionError()])
def test_no_exception_ends_the_report(error):
    def run():
        raise error
        yield

    (found,) = [item for item in attempts(run, NEXT) if isinstance(item, Finding)]
    assert (found.level, found.remedy) == (WARNING, "do another thing")


def test_a_package_that_does_not_load_is_a_problem_with_a_remedy(shadow):
    shadow("av", "print('noise on the output')\nraise ImportError('libavcodec.so.61: cannot open shared object file')")
    found = probe(["media"])["media"]
    video = next(finding for finding in found if finding.name == "H.264 (.mp4)")
    assert video.level == PROBLEM
    assert video.needed
    assert "libavcodec.so.61" in video.value
    assert "pip install" in video.remedy
    assert levels(found)["PNG"] == OK  # the others are tried


def test_a_crash_is_named(shadow):
    shadow("pyrender", "import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)")
    (crashed,) = probe(["graphics"])["graphics"]
    assert crashed.value == "crashed (SIGSEGV)"
    assert "--backend=jax" in crashed.remedy
    assert crashed.level == WARNING


def test_a_hang_ends_after_the_time_limit_with_what_it_started(shadow, tmp_path):
    source = "import subprocess, sys, time\n"
    source += "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
    source += f"open({str(tmp_path / 'child')!r}, 'w').write(str(child.pid))\ntime.sleep(600)"
    shadow("PIL", source)
    start = time.monotonic()
    (hung,) = probe(["media"], seconds=3.0)["media"]
    assert time.monotonic() - start < 20
    assert hung.value == "no answer within 3 s"
    assert (hung.level, hung.needed) == (PROBLEM, True)
    assert "pip install" in hung.remedy
    if (tmp_path / "child").exists():  # a busy machine may not have come so far
        state = Path(f"/proc/{(tmp_path / 'child').read_text()}/stat")
        assert not state.exists() or state.read_text().split(") ")[1][0] in "ZX"


def test_a_probe_that_cannot_be_started_is_a_finding(monkeypatch):
    monkeypatch.setattr(probing, "python", lambda *_: ["/nonexistent/python"])
    (found,) = probe(["media"])["media"]
    assert found.level == PROBLEM
    assert "no process can be started" in found.value


def test_what_a_child_sends_is_not_trusted():
    received = b'{"level": 3}\n[]\n"x"\nnot json\n{"group": 1}\n' + b"[" * 100_000 + b'\n{"level": "ok"}'
    assert probing._parse(received, FIRST) == ([], FIRST, False)
