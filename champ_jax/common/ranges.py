"""What a setting may hold, declared once and checked before any work starts.

    RULES = {
        "steps": Integer(minimum=1, maximum=1000),
        "optimizer.learning_rate": Number(above=0, maximum=1),
        "sampler": Choice("ddim", "unipc"),
        "conditions": Items(Choice(*CONDITIONS), minimum=1),
    }
    check_config(config, RULES)

The first value that breaks its rule raises `InputError` with one line that names the field and what it allows. NaN and
infinity are never allowed.
"""

import argparse
import dataclasses
import difflib
import math
import numbers
from collections.abc import Iterator, Mapping
from typing import Any, Protocol, runtime_checkable

from champ_jax.common.errors import InputError

LARGEST_FLOAT = 3.4028235e38  # float32, in which the networks and samplers compute
LARGEST_INTEGER = 2**31 - 1  # int32, in which JAX counts


@runtime_checkable
class Rule(Protocol):
    """What one setting may hold; `str(rule)` says it in words that follow "expected ".

    As an argparse type it converts and checks an argument: `add_argument("--fps", type=Number(above=0))`.
    """

    def problem(self, value: Any) -> str | None:
        """The reason why `value` is not allowed, to follow "name=value: "; None if it is allowed."""

    def __call__(self, text: str) -> Any:
        """The value of an argument; raises argparse.ArgumentTypeError if it is not allowed."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Number:
    """A finite real number.

    Attributes:
      minimum, maximum: the smallest and the largest number allowed; without a maximum, what float32 can hold.
      above, below: the same bounds, where they themselves are not allowed.
      optional: whether None is allowed, too.
    """

    minimum: float | None = None
    maximum: float | None = None
    above: float | None = None
    below: float | None = None
    optional: bool = False

    _noun = "a number"
    _largest = LARGEST_FLOAT

    def __str__(self) -> str:
        low = None if self.minimum is None else f"{self.minimum:,}"
        high = None if self.maximum is None else f"{self.maximum:,}"
        if low and high:
            bounds = f" from {low} to {high}"
        else:
            parts = [f"above {self.above:,}" if self.above is not None else "", f"of at least {low}" if low else ""]
            parts += [f"below {self.below:,}" if self.below is not None else "", f"of at most {high}" if high else ""]
            bounds = "".join(f" {part}" for part in [" and ".join(filter(None, parts))] if part)
        return f"{self._noun}{bounds}{' or None' if self.optional else ''}"

    def problem(self, value: Any) -> str | None:
        if value is None:
            return None if self.optional else f"expected {self}"
        if not self._is_kind(value):
            return f"expected {self}"
        within = (
            (self.minimum is None or value >= self.minimum)
            and (self.maximum is None or value <= self.maximum)
            and (self.above is None or value > self.above)
            and (self.below is None or value < self.below)
        )
        if not within:
            return f"expected {self}"
        if abs(value) > self._largest and self.maximum is None:
            return f"too large; expected {self}, up to {self._largest:,}"
        return None

    def check(self, name: str, value: Any) -> None:
        """Raises InputError, naming the setting `name`, unless `value` is allowed."""
        _check(self, name, value)

    def __call__(self, text: str) -> Any:
        """Converts and checks an argparse argument."""
        try:
            value = self._convert(text)
        except ValueError:
            value = text
        _check_argument(self, value, text)
        return value

    def _is_kind(self, value: Any) -> bool:
        return isinstance(value, numbers.Real) and not isinstance(value, bool) and _is_finite(value)

    def _convert(self, text: str) -> Any:
        return float(text)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Integer(Number):
    """A whole number; without a maximum, what int32 can hold.

    Attributes:
      multiple_of: a number that divides it.
    """

    multiple_of: int = 1

    _noun = "a whole number"
    _largest = LARGEST_INTEGER

    def __str__(self) -> str:
        return super().__str__() + (f" that {self.multiple_of} divides" if self.multiple_of > 1 else "")

    def problem(self, value: Any) -> str | None:
        reason = super().problem(value)
        if reason is None and value is not None and value % self.multiple_of:
            reason = f"expected {self}"
        return reason

    def _is_kind(self, value: Any) -> bool:
        return isinstance(value, numbers.Integral) and not isinstance(value, bool)

    def _convert(self, text: str) -> Any:
        return int(text)


@dataclasses.dataclass(frozen=True, init=False)
class Choice:
    """One of a few values.

    Attributes:
      values: the values that are allowed.
      optional: whether None is allowed, too.
    """

    values: tuple[Any, ...]
    optional: bool

    def __init__(self, *values: Any, optional: bool = False):
        object.__setattr__(self, "values", values)
        object.__setattr__(self, "optional", optional)

    def __str__(self) -> str:
        names = [str(value) for value in (*self.values, *((None,) if self.optional else ()))]
        return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"

    def problem(self, value: Any) -> str | None:
        if (value is None and self.optional) or any(
            type(value) is type(allowed) and value == allowed for allowed in self.values
        ):
            return None
        return f"expected {self}{did_you_mean(str(value), [str(allowed) for allowed in self.values])}"

    def check(self, name: str, value: Any) -> None:
        """Raises InputError, naming the setting `name`, unless `value` is allowed."""
        _check(self, name, value)

    def __call__(self, text: str) -> Any:
        """Finds an argparse argument among the values."""
        value = next((value for value in self.values if str(value) == text), text)
        _check_argument(self, value, text)
        return value


@dataclasses.dataclass(frozen=True)
class Items:
    """A tuple or list whose items all obey one rule.

    Attributes:
      rule: what each item may be.
      minimum, maximum: how many items there may be; None: any number.
      distinct: whether no item may stand twice.
      increasing: whether no item may be smaller than the one before it, as in (low, high).
    """

    rule: Rule
    minimum: int = 0
    maximum: int | None = None
    distinct: bool = False
    increasing: bool = False

    def __str__(self) -> str:
        if self.minimum == self.maximum:
            count = f"{self.minimum} items"
        elif self.maximum is not None:
            count = f"{self.minimum} to {self.maximum} items"
        else:
            count = f"{self.minimum} or more items" if self.minimum else "items"
        return f"{count} separated by commas, each {self.rule}"

    def problem(self, value: Any) -> str | None:
        if not isinstance(value, (tuple, list)):
            return f"expected {self}"
        if not self.minimum <= len(value) <= (len(value) if self.maximum is None else self.maximum):
            return f"expected {self}"
        for item in value:
            reason = self.rule.problem(item)
            if reason:
                return f"{_shorten(item)}: {reason}"
        if self.distinct:
            twice = next((item for place, item in enumerate(value) if item in value[:place]), None)
            if twice is not None:
                return f"{twice} appears twice"
        if self.increasing and any(value[place] < value[place - 1] for place in range(1, len(value))):
            return "the items must not decrease"
        return None

    def check(self, name: str, value: Any) -> None:
        """Raises InputError, naming the setting `name`, unless `value` is allowed."""
        _check(self, name, value)

    def __call__(self, text: str) -> Any:
        """Splits an argparse argument at its commas; each item is converted and checked by the rule."""
        value = tuple(self.rule(item.strip()) for item in text.split(",")) if text.strip() else ()
        _check_argument(self, value, text)
        return value


def check_config(config: Mapping[str, Any], rules: Mapping[str, Rule], prefix: str = "--config.") -> None:
    """Checks every field that has a rule.

    Args:
      config: a ConfigDict or nested dictionaries.
      rules: {dotted field: rule}; every field is in `config`.
      prefix: stands before the field's name in messages.

    Raises:
      InputError: for the first field that breaks its rule.
    """
    for field, rule in rules.items():
        value: Any = config
        for name in field.split("."):
            value = value[name]
        _check(rule, prefix + field, value)


def numbers_without_rule(config: Mapping[str, Any], rules: Mapping[str, Rule]) -> list[str]:
    """The dotted names of fields that hold a number, or numbers, and have no rule; a test keeps this empty."""

    def walk(node: Mapping[str, Any], prefix: str) -> Iterator[str]:
        for name, value in node.items():
            if isinstance(value, Mapping) or hasattr(value, "items"):
                yield from walk(value, f"{prefix}{name}.")
                continue
            items = value if isinstance(value, (tuple, list)) else [value]
            if any(isinstance(item, numbers.Real) and not isinstance(item, bool) for item in items):
                yield prefix + name

    return [field for field in walk(config, "") if field not in rules]


def did_you_mean(name: str, known: list[str]) -> str:
    """The words ", did you mean NAME?" for the known name that is nearest to `name`; '' if none is near."""
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f", did you mean {close[0]}?" if close else ""


def _check(rule: Rule, name: str, value: Any) -> None:
    reason = rule.problem(value)
    if reason:
        text = ",".join(map(_shorten, value)) if isinstance(value, (tuple, list)) else value
        raise InputError(f"{name}={_shorten(text)}: {reason}")


def _check_argument(rule: Rule, value: Any, text: str) -> None:
    reason = rule.problem(value)
    if reason:
        raise argparse.ArgumentTypeError(f"{reason}, got {_shorten(text)}")


def _shorten(value: Any) -> str:
    try:
        text = str(value)
    except ValueError:  # Python does not print whole numbers of more than 4,300 digits
        return "a number of more than 4,300 digits"
    return text if len(text) <= 60 else f"{text[:57]}..."


def _is_finite(value: Any) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number beyond float64
        return False
