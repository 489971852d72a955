"""What the fields of a network's config may hold, checked when the config is made."""

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeVar

from champ_jax.common.errors import InputError
from champ_jax.common.ranges import Choice, Integer, Items, Number

Config = TypeVar("Config")

CHANNELS = Integer(minimum=1, maximum=2**16)
GROUPS = Integer(minimum=1, maximum=2**16)
HEADS = Integer(minimum=1, maximum=2**10)
LAYERS = Integer(minimum=1, maximum=2**8)
WIDTHS = Items(CHANNELS, minimum=1, maximum=10)
EPSILON = Number(above=0, maximum=1)
FLAG = Choice(True, False)


def check_fields(config: Any, name: str, rules: Mapping[str, Number | Choice | Items]) -> None:
    """Checks every field of a frozen dataclass; lists become tuples.

    Args:
      config: the dataclass, in its __post_init__.
      name: its place in the model's config, for messages: 'unet'.
      rules: {field: rule}.

    Raises:
      InputError: for the first field that breaks its rule; names the field.
    """
    for field, rule in rules.items():
        value = getattr(config, field)
        if isinstance(value, list):
            value = tuple(value)
            object.__setattr__(config, field, value)
        rule.check(f"{name}.{field}", value)


def check_divides(name: str, width: int, field: str, divisor: int) -> None:
    """Raises InputError, naming both fields, unless `divisor` (the value of `field`) divides the width."""
    if width % divisor:
        raise InputError(f"{name}={width}: not a multiple of {field}={divisor}")


def require_object(name: str, fields: Any) -> Mapping[str, Any]:
    """`fields` if they are a JSON object; raises InputError otherwise."""
    if not isinstance(fields, Mapping):
        raise InputError(f"{name}: expected a JSON object with the config's fields, got {type(fields).__name__}")
    return fields


def require_supported(name: str, fields: Mapping[str, Any], supported: Mapping[str, Any]) -> None:
    """Raises InputError, naming the field, where a file asks for another variant than the one implemented.

    Args:
      name: The config's name, for messages.
      fields: what the file holds.
      supported: {field: the one value that is implemented}; a field that the file lacks has it.
    """
    for field, value in supported.items():
        if fields.get(field, value) != value:
            raise InputError(f"{name}: {field}={fields[field]!r} is not supported, only {value!r}")


def known_fields(config: type, fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that a dataclass has; the others are passed over."""
    return {field.name: fields[field.name] for field in dataclasses.fields(config) if field.name in fields}


def from_own_json(config: type[Config], name: str, fields: Any) -> Config:
    """A config from what `dataclasses.asdict` gave; fields that are missing take their defaults.

    Raises:
      InputError: unknown fields, or values that the config refuses; names the field.
    """
    known = known_fields(config, require_object(name, fields))
    unknown = sorted(map(str, set(fields) - set(known)))
    if unknown:
        raise InputError(f"{name} config: unknown field {unknown[0]}")
    return config(**known)
