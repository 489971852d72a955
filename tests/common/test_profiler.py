"""A profiler's trace holds the steps that were asked for, and no others."""

import gzip
import json

import jax
import jax.numpy as jnp
import pytest

from champ_jax.common.errors import InputError
from champ_jax.common.profiler import OFF, Profiler, parse_steps


@pytest.mark.parametrize(("text", "numbers"), [("", []), ("1:2", [1]), (" 3:6 ", [3, 4, 5]), ("20:21", [20])])
def test_ranges_count_from_one(text, numbers):
    assert list(parse_steps(text, 20)) == numbers


@pytest.mark.parametrize("text", ["3", "0:2", "2:2", "5:3", "-1:2", "a:b", "1:2:3", "1" * 20 + ":2"])
def test_what_is_no_range_is_named(text):
    with pytest.raises(InputError, match=r"profile\.steps=.*: expected A:B"):
        parse_steps(text, 20)


def test_a_range_beyond_the_run_is_named():
    with pytest.raises(InputError, match=r"profile\.steps=20:22: the run has 20 steps; name B up to 21"):
        parse_steps("20:22", 20)


def test_a_trace_holds_the_steps_asked_for(tmp_path):
    double = jax.jit(lambda x: 2 * x)
    x = jnp.ones(4)
    with Profiler(parse_steps("2:4", 5), tmp_path) as profiler:
        for number in range(1, 6):
            with profiler.step(number):
                x = double(x)
            profiler.end(number, x)
    assert list(tmp_path.rglob("*.xplane.pb"))
    (perfetto,) = tmp_path.rglob("perfetto_trace.json.gz")
    with gzip.open(perfetto) as file:
        events = json.load(file)["traceEvents"]
    steps = {int(event["args"]["step_num"]) for event in events if "step_num" in event.get("args", {})}
    assert steps == {2, 3}


def test_an_error_ends_the_trace(tmp_path):
    with pytest.raises(ZeroDivisionError), Profiler(parse_steps("1:3", 5), tmp_path) as profiler, profiler.step(1):
        raise ZeroDivisionError
    assert list(tmp_path.rglob("*.xplane.pb"))
    with Profiler(parse_steps("1:2", 5), tmp_path / "next") as profiler:  # JAX allows one trace at a time
        with profiler.step(1):
            pass
        profiler.end(1, jnp.ones(1))
    assert list((tmp_path / "next").rglob("*.xplane.pb"))


def test_without_steps_nothing_is_traced():
    with OFF as profiler:
        with profiler.step(1):
            pass
        profiler.end(1, None)
