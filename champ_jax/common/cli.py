"""What every command shares: config files with overrides, plain options, exit statuses.

Exit status: 0 done; 2 the command or its input is wrong (one line on stderr); 1 anything else (a traceback).
"""

import argparse
import difflib
import importlib.util
import inspect
import json
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import ml_collections

from champ_jax.common.errors import InputError


class Parser(argparse.ArgumentParser):
    """An argparse parser whose complaints are one line (InputError) and which takes no abbreviations."""

    def __init__(self, **kwargs: Any):
        kwargs.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(allow_abbrev=False, **kwargs)

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message}; see --help")


def run(main: Callable[[Sequence[str]], int | None], argv: Sequence[str] | None = None) -> NoReturn:
    """Runs `main(arguments)` and exits with the project's statuses; warnings are one line each, too."""
    with_source = warnings.showwarning

    def show(message: Warning | str, category: type[Warning], *rest: Any) -> None:
        if category is UserWarning:
            print(f"warning: {' '.join(str(message).split())}", file=sys.stderr)
        else:
            with_source(message, category, *rest)

    warnings.showwarning = show
    try:
        status = main(list(sys.argv[1:] if argv is None else argv))
    except (Exception, KeyboardInterrupt) as error:
        status = tell(error)
    sys.exit(status or 0)


def tell(error: BaseException) -> int:
    """Says on stderr what ends a command; returns the exit status that goes with it."""
    if isinstance(error, InputError):
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    if isinstance(error, KeyboardInterrupt):
        print("error: interrupted", file=sys.stderr)
    elif not isinstance(error, BrokenPipeError):
        traceback.print_exception(error)
    return 1


def parse_config(
    argv: Sequence[str],
    default: Callable[[], ml_collections.ConfigDict],
    *,
    description: str = "",
    options: Sequence[str] = (),
) -> tuple[ml_collections.ConfigDict, dict[str, str]]:
    """Reads `--config=FILE --config.a.b=value ... --option=value`.

    FILE is a Python file with get_config(), FILE:NAME for its get_config(NAME), or the JSON record of an earlier run,
    which repeats it.

    Args:
      argv: the arguments, without the program's name.
      default: makes the config when no `--config=FILE` is given.
      description: printed by --help, before the table of fields.
      options: names of the further `--name=value` options the command takes (for example 'workdir').

    Returns:
      The config with every override applied and locked, and the options given.

    Raises:
      InputError: unknown field or option (names the nearest), a value that is not of the field's type,
        a config file that does not exist or fails to load.
    """
    arguments = _joined(argv)
    config_file = None
    overrides: list[tuple[str, str]] = []
    given: dict[str, str] = {}
    wants_help = False
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if argument in ("-h", "--help"):
            wants_help = True
        elif name == "--config" and equals:
            config_file = value
        elif name.startswith("--config."):  # a bare --config.quiet means true
            overrides.append((name.removeprefix("--config."), value if equals else "true"))
        elif name.startswith("--") and name[2:] in options and equals:
            given[name[2:]] = value
        else:
            known = ["--config", *(f"--{option}" for option in options)]
            raise InputError(f"{argument}: unknown argument{_nearest(name, known)}; write --name=value, see --help")
    if config_file is None:
        config = default()
    elif config_file.endswith(".json"):
        config = load_record(config_file, default)
    else:
        config = load_config_file(config_file)
    if wants_help:
        print(description.strip() + "\n\nFields and their defaults:")
        for field, value in _flatten(config):
            print(f"  --config.{field}={value}")
        sys.exit(0)
    for field, text in overrides:
        override(config, field, text)
    config.lock()
    return config, given


def load_config_file(path: str) -> ml_collections.ConfigDict:
    """Runs `get_config()` of a Python config file, `get_config(NAME)` for FILE:NAME, and returns its ConfigDict."""
    path, *argument = path.rsplit(":", 1) if ".py:" in path else [path]
    file = Path(path)
    if not file.is_file():
        raise InputError(f"--config={path}: no such file")
    spec = importlib.util.spec_from_file_location(f"champ_jax_config_{file.stem}", file)
    if spec is None or spec.loader is None:
        raise InputError(f"--config={path}: not a Python file")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise InputError(f"--config={path}: fails to load ({type(error).__name__}: {error})") from error
    if not hasattr(module, "get_config"):
        raise InputError(f"--config={path}: defines no get_config()")
    try:
        inspect.signature(module.get_config).bind(*argument)
    except TypeError:
        wanted = "takes no name" if argument else "needs a name"
        raise InputError(f"--config={path}: {wanted}; write --config={path}{'' if argument else ':NAME'}") from None
    return module.get_config(*argument)


def load_record(path: str, default: Callable[[], ml_collections.ConfigDict]) -> ml_collections.ConfigDict:
    """The default config with the fields of a run's JSON record (its `config`) set."""
    try:
        fields = json.loads(Path(path).read_text())["config"]
        if not isinstance(fields, dict):
            raise ValueError("its config is not an object")
    except FileNotFoundError:
        raise InputError(f"--config={path}: no such file") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"--config={path}: not the record of a run ({type(error).__name__}: {error})") from error
    config = default()

    def assign_all(prefix: str, values: dict[str, Any]) -> None:
        for name, value in values.items():
            if isinstance(value, dict):
                assign_all(f"{prefix}{name}.", value)
            else:
                assign(config, prefix + name, value)

    assign_all("", fields)
    return config


def assign(config: ml_collections.ConfigDict, field: str, value: Any) -> None:
    """Sets `config.<field>` (dotted) from a JSON value, which must fit the type the field has now.

    Raises:
      InputError: no such field (names the nearest), or a value of another type.
    """
    if isinstance(value, (list, tuple)):
        value = ",".join(map(str, value))
    if isinstance(value, dict):
        raise InputError(f"{field}: is an object; write its fields as {field}.name")
    text = str(value).lower() if isinstance(value, bool) else str(value)
    override(config, field, text)


def override(config: ml_collections.ConfigDict, field: str, text: str) -> None:
    """Sets `config.<field>` (dotted) from text, converted to the type the field has now.

    Booleans take true/false, tuples and lists comma-separated items, a field that is None takes the text
    (or a placeholder's type).
    """
    node: Any = config
    *parents, leaf = field.split(".")
    for depth, name in enumerate([*parents, leaf]):
        prefix = ".".join(field.split(".")[:depth])
        if not isinstance(node, ml_collections.ConfigDict):
            raise InputError(f"--config.{field}: {prefix} is a value, it has no fields")
        if name not in node:
            known = [key for key, _ in _flatten(config)]
            raise InputError(f"--config.{field}: no such field{_nearest(field, known)}")
        if depth < len(parents):
            node = node[name]
    if isinstance(node[leaf], ml_collections.ConfigDict):
        raise InputError(f"--config.{field}: is a group of fields; set one of {', '.join(sorted(node[leaf]))}")
    kind = node.get_type(leaf)
    try:
        value = _convert(text, node[leaf], kind)
    except ValueError:
        raise InputError(f"--config.{field}={text}: not a value of type {kind.__name__}") from None
    with node.ignore_type():
        node[leaf] = value


def _convert(text: str, current: Any, kind: type) -> Any:
    if text == "None" and (current is None or kind is type(None)):
        return None
    if kind is bool:
        lowered = text.lower()
        if lowered not in ("true", "false", "1", "0"):
            raise ValueError(text)
        return lowered in ("true", "1")
    if kind in (int, float):
        return kind(text)
    if kind in (tuple, list):
        items = [item.strip() for item in text.strip("()[]").split(",") if item.strip()]
        inner = type(current[0]) if current else str
        return kind(_convert(item, None, inner) for item in items)
    return text


def _flatten(config: ml_collections.ConfigDict, prefix: str = "") -> list[tuple[str, Any]]:
    fields: list[tuple[str, Any]] = []
    for key in sorted(config):
        value = config[key]
        if isinstance(value, ml_collections.ConfigDict):
            fields += _flatten(value, f"{prefix}{key}.")
        else:
            fields.append((f"{prefix}{key}", value))
    return fields


def _nearest(name: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f", did you mean {close[0]}?" if close else ""


def _joined(argv: Sequence[str]) -> list[str]:
    """`--name value` becomes `--name=value`."""
    joined: list[str] = []
    for argument in argv:
        if joined and joined[-1].startswith("--") and "=" not in joined[-1] and not argument.startswith("--"):
            joined[-1] += f"={argument}"
        else:
            joined.append(argument)
    return joined
