"""Rules for settings: what they let through, and what they say."""

import argparse
import math

import ml_collections
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from champ_jax.common.errors import InputError
from champ_jax.common.ranges import Choice, Integer, Items, Number, check_config, numbers_without_rule

BOUNDS = st.floats(-1e6, 1e6)


@given(value=st.floats(), low=BOUNDS, high=BOUNDS, open_low=st.booleans(), open_high=st.booleans())
def test_a_number_is_allowed_where_the_interval_holds_it(value, low, high, open_low, open_high):
    rule = Number(**{"above" if open_low else "minimum": low, "below" if open_high else "maximum": high})
    inside = (low < value if open_low else low <= value) and (value < high if open_high else value <= high)
    assert (rule.problem(value) is None) == inside


@given(st.integers() | st.floats() | st.text() | st.booleans() | st.none() | st.binary() | st.lists(st.integers()))
def test_what_passes_is_finite_and_of_the_kind(value):
    if Number().problem(value) is None:
        assert math.isfinite(np.float32(value))
    if Integer().problem(value) is None:
        assert np.int32(value) == value
        assert not isinstance(value, bool)


@given(st.integers(-(10**6), 10**6), st.integers(-(10**6), 10**6), st.integers(1, 100))
def test_integers(value, minimum, divisor):
    rule = Integer(minimum=minimum, multiple_of=divisor)
    assert (rule.problem(value) is None) == (value >= minimum and value % divisor == 0)
    assert rule.problem(value + 0.5) is not None


@given(st.text() | st.floats().map(str) | st.integers().map(str))
def test_an_argument_becomes_a_number_or_an_argparse_error(text):
    for rule, kind in ((Number(minimum=0, maximum=10), float), (Integer(minimum=0, maximum=10), int)):
        try:
            value = rule(text)
        except argparse.ArgumentTypeError:
            with pytest.raises((ValueError, AssertionError)):
                assert 0 <= kind(text) <= 10
        else:
            assert value == kind(text)
            assert 0 <= value <= 10


def test_arguments_of_choices_and_lists():
    assert Choice("a", 3)("3") == 3
    assert Items(Integer(minimum=1))("24, 100") == (24, 100)
    assert Items(Choice("a", "b"))("") == ()
    for rule, text, words in (
        (Choice("jax", "pyrender"), "jaxx", "expected jax or pyrender, did you mean jax?, got jaxx"),
        (Items(Integer(minimum=1)), "24,x", "expected a whole number of at least 1, got x"),
        (Items(Integer(minimum=1), 1), "", "expected 1 or more items separated by commas"),
        (Items(Choice("a", "b"), distinct=True), "a,a", "a appears twice, got a,a"),
    ):
        with pytest.raises(argparse.ArgumentTypeError) as caught:
            rule(text)
        assert words in str(caught.value)


def test_integers_of_any_length_are_refused_in_one_line():
    for text in ("9" * 400, "9" * 5000, "-" + "9" * 5000):
        with pytest.raises(argparse.ArgumentTypeError) as caught:
            Integer(minimum=1)(text)
        assert len(str(caught.value)) < 200
    for value in (10**400, 10**5000):
        with pytest.raises(InputError, match=r"n=.*: too large; expected a whole number of at least 1, up to 2,147"):
            Integer(minimum=1).check("n", value)
        with pytest.raises(InputError, match=r"n=.*: expected a number"):
            Number(minimum=1).check("n", value)


@pytest.mark.parametrize(
    ("rule", "value", "words"),
    [
        (Number(), float("nan"), "x=nan: expected a number"),
        (Number(), float("-inf"), "x=-inf: expected a number"),
        (Number(), 1e300, "x=1e+300: too large; expected a number, up to 3.4028235e+38"),
        (Number(), True, "x=True: expected a number"),
        (Number(), "1", "x=1: expected a number"),
        (Number(above=0), 0.0, "x=0.0: expected a number above 0"),
        (Number(above=0, maximum=1), 1.5, "x=1.5: expected a number above 0 and of at most 1"),
        (Number(minimum=0, below=1), 1.0, "x=1.0: expected a number of at least 0 and below 1"),
        (Number(minimum=0, maximum=1000, optional=True), -1, "x=-1: expected a number from 0 to 1,000 or None"),
        (Number(minimum=0), None, "x=None: expected a number of at least 0"),
        (Integer(minimum=1), 0, "x=0: expected a whole number of at least 1"),
        (
            Integer(minimum=8, maximum=64, multiple_of=8),
            12,
            "x=12: expected a whole number from 8 to 64 that 8 divides",
        ),
        (Integer(), 2.0, "x=2.0: expected a whole number"),
        (Choice("ddim", "unipc"), "dimm", "x=dimm: expected ddim or unipc, did you mean ddim?"),
        (Choice(0, 1, 2), True, "x=True: expected 0, 1 or 2"),
        (Choice("a", optional=True), "zzz", "x=zzz: expected a or None"),
        (Items(Choice("a", "b"), minimum=1), (), "x=: expected 1 or more items separated by commas, each a or b"),
        (Items(Choice("a", "b"), distinct=True), ("b", "a", "b"), "x=b,a,b: b appears twice"),
        (Items(Number(minimum=0), 2, 2, increasing=True), (1, 0.5), "x=1,0.5: the items must not decrease"),
        (Items(Integer(minimum=1), 2, 2), (64, 0), "x=64,0: 0: expected a whole number of at least 1"),
        (Items(Integer(), 2, 2), (1,), "x=1: expected 2 items separated by commas, each a whole number"),
        (Items(Integer()), "12", "x=12: expected items separated by commas, each a whole number"),
    ],
)
def test_messages_name_the_setting_and_what_it_allows(rule, value, words):
    with pytest.raises(InputError) as caught:
        rule.check("x", value)
    assert str(caught.value) == words


@pytest.mark.parametrize(
    ("rule", "value"),
    [
        (Number(minimum=0, maximum=1), 0),
        (Number(minimum=0, maximum=1), np.float32(1)),
        (Number(optional=True), None),
        (Integer(minimum=0), np.int64(3)),
        (Integer(maximum=2**63), 2**62),
        (Choice("a", optional=True), None),
        (Items(Choice("a", "b"), distinct=True), ["b", "a"]),
        (Items(Number(), 2, 2, increasing=True), (0.9, 0.9)),
    ],
)
def test_what_is_allowed_passes(rule, value):
    rule.check("x", value)


def test_a_config_is_checked_by_dotted_names():
    config = ml_collections.ConfigDict({"steps": 3, "optimizer": {"rate": 0.1, "betas": (0.9, 2.0)}, "name": "x"})
    rules = {"steps": Integer(minimum=1), "optimizer.rate": Number(above=0)}
    check_config(config, rules)
    assert numbers_without_rule(config, rules) == ["optimizer.betas"]
    rules["optimizer.betas"] = Items(Number(minimum=0, below=1))
    assert numbers_without_rule(config, rules) == []
    with pytest.raises(InputError, match=r"^--config.optimizer.betas=0.9,2.0: 2.0: expected a number of at least 0"):
        check_config(config, rules)
    with pytest.raises(InputError, match=r"^steps=0: expected a whole number of at least 1$"):
        check_config({"steps": 0}, {"steps": Integer(minimum=1)}, prefix="")


@given(st.lists(st.integers(0, 5)))
def test_distinct_items(items):
    assume(items)
    twice = Items(Integer(), distinct=True).problem(items)
    assert (twice is None) == (len(set(items)) == len(items))
