"""Every second of a run goes to one kind, through restarts and lost steps."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from champ_jax.training.wall_time import DATA, KINDS, RESTARTS, START, STEPS, WallTime


class Clock:
    """A clock that a test sets."""

    def __init__(self, now=1000.0):
        self.now = now

    def __call__(self):
        return self.now


def test_the_time_before_the_first_step_is_the_start():
    clock = Clock(1010.0)
    wall = WallTime(None, 1000.0, clock=clock)
    clock.now = 1030.0
    wall.begin()
    assert wall.seconds[START] == 30.0
    assert wall.line() == {"time": 1030.0, "wall": dict.fromkeys(KINDS, 0.0) | {START: 30.0}}


@given(st.lists(st.tuples(st.sampled_from(KINDS), st.floats(0, 1e6)), max_size=20))
def test_the_sums_are_the_whole_time(spans):
    clock = Clock()
    wall = WallTime(None, 1000.0, clock=clock)
    for kind, seconds in spans:
        clock.now += seconds
        wall.spend(kind)
    assert sum(wall.seconds.values()) == pytest.approx(clock.now - 1000.0)


def test_what_a_kill_took_is_a_restart():
    """Steps after the last line that is kept, and the time until the run was started again."""
    clock = Clock()
    wall = WallTime(None, clock=clock)
    clock.now += 60
    wall.spend(STEPS)
    line = wall.line()
    clock.now += 500  # steps that are lost, a kill, a night
    wall = WallTime(line, clock.now - 1, clock=clock)
    clock.now += 20
    wall.begin()
    assert wall.seconds[STEPS] == 60
    assert wall.seconds[RESTARTS] == 520
    assert str(wall) == "09:40 in all: restarts 90%, steps 10%"


@pytest.mark.parametrize(
    "line",
    [{"step": 3}, {"time": "now", "wall": {STEPS: 3}}, {"time": 5.0, "wall": 7}, {"time": -1, "wall": {STEPS: 3}}],
)
def test_lines_without_times_count_from_this_start(line):
    clock = Clock()
    wall = WallTime(line, 990.0, clock=clock)
    wall.begin()
    assert wall.seconds[RESTARTS] == 10
    assert sum(wall.seconds.values()) == 10


def test_a_clock_that_was_set_back_loses_nothing():
    clock = Clock()
    wall = WallTime(None, clock=clock)
    clock.now -= 50
    wall.spend(DATA)
    clock.now += 53
    wall.spend(STEPS)
    assert wall.seconds[DATA] == 0
    assert wall.seconds[STEPS] == 3


def test_nothing_has_no_shares():
    assert str(WallTime(None, clock=Clock())) == "00:00 in all: "
