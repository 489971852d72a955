"""Legs run in order, record every step, survive failures and kills, and continue."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from champ_jax.common.errors import InputError
from tools.accelerator import runner
from tools.accelerator.runner import Day, Leg, Step, read_record

ROOT = Path(__file__).parents[2]
WRITE = "import json, sys; json.dump({{'value': 3}}, open(sys.argv[1], 'w'))"


def step(name, code=WRITE, seconds=20.0, **options):
    """A step that runs Python code, its braces doubled; sys.argv[1:] are its JSON file and its folder for files."""
    return Step(name, ("-c", code, "{output}", "{files}"), seconds, least=0.05, **options)


def day(tmp_path, legs, **options):
    places = {name: tmp_path / name for name in ("results", "output", "scratch")}
    return Day(legs, **places, checkout=tmp_path, command="python day.py", **options)


def states(tmp_path, leg="one"):
    record = read_record(tmp_path / "output", leg)
    return {name: entry["state"] for name, entry in record["steps"].items()}


def test_a_leg_that_fails_does_not_stop_the_rest(tmp_path):
    bad = step("bad", "print('all is lost'); raise SystemExit(3)")
    legs = [Leg("one", "first", 1.0, (bad, step("good"))), Leg("two", "second", 1.0, (step("good"),))]
    assert day(tmp_path, legs).run(1.0)
    assert states(tmp_path) == {"bad": "failed", "good": "done"}
    record = read_record(tmp_path / "output", "one")
    assert record["steps"]["bad"]["message"] == "status 3 (all is lost)"
    assert record["steps"]["bad"]["log"] == "all is lost\n"
    assert record["steps"]["good"]["result"] == {"value": 3}
    assert record["calls"][0]["command"] == "python day.py"
    assert states(tmp_path, "two") == {"good": "done"}


def test_what_is_done_is_not_done_again_and_a_failed_step_only_on_request(tmp_path):
    log = "open('log', 'a').write('x')"
    legs = [Leg("one", "first", 1.0, (step("good", log), step("bad", f"{log}; raise SystemExit(1)")))]
    for retry, count in ((False, 2), (False, 2), (True, 3)):
        assert day(tmp_path, legs, retry=retry).run(1.0)
        assert len((tmp_path / "log").read_text()) == count


def test_results_of_an_earlier_machine_are_continued_in_another_folder(tmp_path):
    legs = [Leg("one", "first", 1.0, (step("a"), step("b", "raise SystemExit(1)")))]
    day(tmp_path, legs).run(1.0)
    (tmp_path / "output").rename(tmp_path / "results")
    more = [Leg("one", "first", 1.0, (step("a", "raise SystemExit(1)"), step("b"), step("c")))]
    assert day(tmp_path, more).run(1.0)
    assert states(tmp_path) == {"a": "done", "b": "failed", "c": "done"}


def test_time_that_is_over_leaves_the_rest_to_the_next_call(tmp_path, capsys):
    legs = [Leg("one", "first", 1.0, (step("slow", "import time; time.sleep(30)", resumes=True), step("next")))]
    began = time.monotonic()
    assert not day(tmp_path, legs).run(1.2 / 60)
    assert time.monotonic() - began < 10
    assert states(tmp_path) == {"slow": "stopped"}
    assert "run the same command again" in capsys.readouterr().out
    legs = [Leg("one", "first", 1.0, (step("slow"), step("next")))]
    assert day(tmp_path, legs).run(1.0)
    assert states(tmp_path) == {"slow": "done", "next": "done"}


def test_a_leg_that_has_used_up_its_minutes_leaves_steps_out_and_the_next_leg_runs(tmp_path):
    slow = step("slow", "import time; time.sleep(30)")
    legs = [Leg("one", "first", 0.8 / 60, (slow, step("next"))), Leg("two", "second", 1.0, (step("good"),))]
    assert day(tmp_path, legs).run(1.0)
    assert states(tmp_path) == {"slow": "left out", "next": "left out"}
    assert states(tmp_path, "two") == {"good": "done"}
    assert not day(tmp_path, legs).is_over(legs[0])  # with more minutes both run
    longer = [Leg("one", "first", 1.0, (step("slow", "import time; time.sleep(30)", seconds=0.3), step("next")))]
    assert day(tmp_path, longer).run(1.0)
    assert states(tmp_path) == {"slow": "failed", "next": "done"}
    assert read_record(tmp_path / "output", "one")["steps"]["slow"]["message"] == "ended after 0 s, its limit"


def test_a_step_that_the_call_has_no_time_for_waits_for_the_next_one(tmp_path):
    """Ended with the call it would count as failed."""
    legs = [Leg("one", "first", 1.0, (step("first", seconds=2.0), step("second", seconds=20.0)))]
    assert not day(tmp_path, legs).run(4 / 60)
    assert states(tmp_path) == {"first": "done"}
    assert day(tmp_path, legs).run(4 / 60)  # a call's first step takes what there is
    assert states(tmp_path) == {"first": "done", "second": "done"}


def test_a_step_leaves_time_to_those_after_it(tmp_path):
    slow = step("slow", "import time; time.sleep(30)", resumes=True, leave=3.0)
    legs = [Leg("one", "first", 1.0, (slow, step("keep", seconds=2.0)))]
    assert day(tmp_path, legs).run(4 / 60)
    assert states(tmp_path) == {"slow": "stopped", "keep": "done"}


KILLED = """
import sys
from pathlib import Path
from tools.accelerator.runner import Day, Leg, Step
place = Path(sys.argv[1])
sleep = "import os, time; open('pid', 'w').write(str(os.getpid())); open('ready', 'w'); time.sleep(60)"
steps = (Step("good", ("-c", "open('log', 'a').write('x')"), 20), Step("slow", ("-c", sleep), 60))
legs = [Leg("one", "first", 2.0, steps)]
places = {name: place / name for name in ("results", "output", "scratch")}
Day(legs, **places, checkout=place, command="python day.py").run(2.0)  # both steps have all the time they may take
"""


def kill_a_day(tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path)], env=environment, stdout=subprocess.PIPE)
    while not (tmp_path / "ready").exists():
        assert process.poll() is None
        time.sleep(0.02)
    process.kill()
    process.communicate()
    (tmp_path / "ready").unlink()
    return int((tmp_path / "pid").read_text())


def is_alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_killed_day_continues_where_it_was(tmp_path):
    pid = kill_a_day(tmp_path)
    assert states(tmp_path) == {"good": "done", "slow": "running"}
    for _ in range(100):
        if not is_alive(pid):
            break
        time.sleep(0.05)
    else:
        os.kill(pid, signal.SIGKILL)
        raise AssertionError("the step outlived the day")
    legs = [Leg("one", "first", 1.0, (step("good", "open('log', 'a').write('x')"), step("slow")))]
    assert day(tmp_path, legs).state(legs[0], legs[0].steps[1]) == "stopped"
    assert day(tmp_path, legs).run(1.0)
    assert states(tmp_path) == {"good": "done", "slow": "done"}
    assert (tmp_path / "log").read_text() == "x"


def test_a_step_that_kills_its_machine_twice_is_not_begun_again(tmp_path):
    for _ in range(2):
        kill_a_day(tmp_path)
    legs = [Leg("one", "first", 1.0, (step("good"), step("slow"), step("last")))]
    assert day(tmp_path, legs).run(1.0)
    assert states(tmp_path) == {"good": "done", "slow": "failed", "last": "done"}
    assert read_record(tmp_path / "output", "one")["steps"]["slow"]["message"] == "was killed, 2 times"


def test_measures_beyond_their_bounds_are_results(tmp_path):
    code = f"{WRITE}; raise SystemExit(1)"
    legs = [Leg("one", "first", 1.0, (step("tests", code, measures=True), step("crash", "exit(1)", measures=True)))]
    assert day(tmp_path, legs).run(1.0)
    assert states(tmp_path) == {"tests": "done", "crash": "failed"}


def test_files_of_steps_are_kept_if_a_machine_would_hand_them_back(tmp_path, capsys, monkeypatch):
    make = "import sys; [open(f'{{sys.argv[2]}}/{{name}}', 'w').write('x') for name in {names}]"
    good, bad = (make.replace("{names}", names) for names in ("'ab'", "['a b']"))
    legs = [Leg("one", "first", 1.0, (step("good", good), step("bad", bad)))]
    monkeypatch.setattr(runner, "FILES", 2)
    assert day(tmp_path, legs).run(1.0)
    record = read_record(tmp_path / "output", "one")
    assert record["steps"]["good"]["files"] == ["a", "b"]
    assert record["steps"]["bad"]["state"] == "failed"
    assert "a b: is no file of at most 15.0 MiB with a plain name" in record["steps"]["bad"]["message"]
    assert sorted(path.name for path in (tmp_path / "output").iterdir()) == ["a", "b", "one.json"]
    assert "warning: this call makes more than 2 files: a, b, one.json" in capsys.readouterr().err


def test_the_plan_says_what_is_left(tmp_path):
    legs = [
        Leg("one", "first", 1.5, (step("good"), step("bad", "raise SystemExit(1)"))),
        Leg("few", "few steps", 0.0, (), absent="does not exist"),
    ]
    before = day(tmp_path, legs)
    assert "| one: first | 1.5 | good | 20 | to do |" in before.plan()
    assert "| few: few steps | | | | does not exist |" in before.plan()
    assert not (tmp_path / "output").exists()
    before.run(1.0)
    after = day(tmp_path, legs)
    assert "| bad | 20 | failed |" in after.plan()
    assert all(after.is_over(leg) for leg in legs)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"format": "x"}, "is not the record of the leg one"),
        ({"leg": "two"}, "is not the record of the leg one"),
        ({"version": 9}, "is of version 9, not 1"),
        ({"steps": []}, "it has no steps"),
        ({"steps": {"a": {"state": "good", "tries": 1, "seconds": 1}}}, "step a"),
        ({"steps": {"a": {"state": "done", "tries": 1, "seconds": "1"}}}, "step a"),
        ({"steps": {"a": {"state": "done", "tries": 1, "seconds": float("nan")}}}, "step a"),
        ({"calls": [{"date": 3}]}, "its calls"),
    ],
)
def test_a_damaged_record_is_named(tmp_path, change, words):
    legs = [Leg("one", "first", 1.0, (step("good"),))]
    day(tmp_path, legs).run(1.0)
    path = tmp_path / "output" / "one.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(InputError, match=rf"one\.json: .*{words}"):
        day(tmp_path, legs)
