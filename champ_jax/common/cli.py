"""What every command shares: config files with overrides, plain options, exit statuses.

absl's flags and ml_collections' config_flags parse the arguments; this module adds what they lack: errors of one line,
records of earlier runs as configs, and lists separated by commas. It loads no JAX, so that errors in arguments show at
once. (absl.app is not used: it turns on log lines of level INFO and ends with status 1 after a page of usage. Nor is
config_flags' loader of files, which takes get_config from the file before where a file defines none.)

Exit status: 0 done; 2 the command or its input is wrong (one line on stderr); 1 anything else (a traceback).
"""

import argparse
import errno
import inspect
import re
import runpy
import sys
import traceback
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn, TextIO

import ml_collections
from absl import flags
from ml_collections import config_flags

from champ_jax.common.errors import InputError
from champ_jax.common.files import read_json, read_text
from champ_jax.common.ranges import did_you_mean

# What the operating system answers about paths and disks that the user named.
_REFUSALS = {
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT),
    *(errno.ENAMETOOLONG, errno.ELOOP, errno.ENOTDIR, errno.EISDIR),
}


class Parser(argparse.ArgumentParser):
    """An argparse parser whose errors are one line (InputError) and which takes no abbreviations.

    Numbers have ranges (`champ_jax.common.ranges`): `add_argument("--fps", type=Number(above=0, maximum=1000))`.
    """

    def __init__(self, **kwargs: Any):
        kwargs.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(allow_abbrev=False, **kwargs)

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message.removeprefix('argument ')}; see --help")


def run(main: Callable[[Sequence[str]], int | None], argv: Sequence[str] | None = None) -> NoReturn:
    """Runs `main(arguments)` and exits with the project's statuses; a warning is one line, too."""
    show_with_source = warnings.showwarning

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        if category is UserWarning:
            print(f"warning: {_one_line(message)}", file=sys.stderr)
        else:
            show_with_source(message, category, filename, lineno, file, line)

    with warnings.catch_warnings():
        warnings.showwarning = show
        try:
            status = main(list(sys.argv[1:] if argv is None else argv))
        except (Exception, KeyboardInterrupt) as error:
            status = report_error(error)
    sys.exit(status or 0)


def report_error(error: BaseException) -> int:
    """Prints on stderr why a command ends; returns the exit status that goes with it."""
    if isinstance(error, InputError):
        print(f"error: {_one_line(error)}", file=sys.stderr)
        return 2
    if isinstance(error, OSError) and error.errno in _REFUSALS and error.filename is not None:
        print(f"error: {_one_line(error.filename)}: {error.strerror}", file=sys.stderr)
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
    """Reads `--config=FILE --config.a.b=value ... --option=value`, in any order; the last of a repeated one counts.

    FILE is a Python file with get_config(), FILE:NAME for its get_config(NAME), or the JSON record of an earlier run,
    which repeats it. Lists are separated by commas, `--config.quiet` alone means true, and None empties a field that
    has no default value. `--help` prints all fields and exits.

    Args:
      argv: the arguments, without the program's name.
      default: makes the config when no `--config=FILE` is given.
      description: printed by --help, before the table of fields.
      options: names of the further `--name=value` options the command takes (for example 'workdir').

    Returns:
      The config with every override applied and locked, and the options given.

    Raises:
      InputError: unknown field or option (names the nearest), a value that is not of the field's type,
        a config file that does not exist, fails to load or is for another command.
    """
    arguments = _join_values(argv)
    first = flags.FlagValues()
    flags.DEFINE_string("config", None, "", flag_values=first)
    flags.DEFINE_boolean("help", False, "", short_name="h", flag_values=first)
    rest = _parse_flags(first, arguments, known_only=True)
    config = default() if first.config is None else load_config(first.config, default)
    if first.help:
        print(f"{description.strip()}\n\nFields and their defaults:")
        print("\n".join(f"  --config.{field}={value}" for field, value in _flatten(config).items()))
        sys.exit(0)
    values = flags.FlagValues()
    for option in options:
        flags.DEFINE_string(option, None, "", flag_values=values)
    _override(config, rest, values)
    config.lock()
    return config, {option: value for option in options if (value := values[option].value) is not None}


def load_config(source: str, default: Callable[[], ml_collections.ConfigDict]) -> ml_collections.ConfigDict:
    """The config of a Python file (FILE.py, or FILE.py:NAME for its get_config(NAME)) or of a run's JSON record.

    Args:
      source: what `--config=` names.
      default: makes the command's default config.

    Raises:
      InputError: the file cannot be read, fails, or holds no config with the fields of the default one.
    """
    path, *name = source.rsplit(":", 1) if ".py:" in source else [source]
    if not path:
        raise InputError("--config=: names no file")
    if path.endswith(".json"):
        return _load_record(path, default())
    read_text(path)  # refuses a file that is not text
    if not path.endswith(".py"):
        raise InputError(f"--config={path}: expected a Python file (.py) or the record of a run (.json)")
    try:
        config = _call_get_config(path, name)
    except (InputError, KeyboardInterrupt):
        raise
    except BaseException as error:  # SystemExit, too: the file is not to end the command with a status of its own
        raise InputError(f"--config={path}: fails to load ({type(error).__name__}: {error})") from error
    if not isinstance(config, ml_collections.ConfigDict):
        raise InputError(f"--config={path}: get_config() returns no ml_collections.ConfigDict")
    merged = default()
    _merge(merged, config, f"--config={path}: ")
    return merged


def assign(config: ml_collections.ConfigDict, values: Mapping[str, Any]) -> None:
    """Sets fields of `config` from JSON: {dotted name: value}. Each value must fit the type the field has now.

    Raises:
      InputError: no such field (names the nearest), or a value of another type.
    """
    arguments = []
    for field, value in values.items():
        if isinstance(value, dict):
            raise InputError(f"{field}: is an object; write its fields as {field}.name")
        text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
        if re.search("[\0\ud800-\udc7f\udd00-\udfff]", text):  # JSON can, arguments and paths cannot
            raise InputError(f"{field}: holds a character that text cannot contain (null, or half of a surrogate pair)")
        arguments.append(f"--config.{field}={text}")
    _override(config, arguments, flags.FlagValues())


def _call_get_config(path: str, name: list[str]) -> Any:
    """Runs a config file and its get_config(), with a name or without."""
    get_config = runpy.run_path(path, run_name="champ_jax_config").get("get_config")
    if not callable(get_config):
        raise InputError(f"--config={path}: defines no get_config()")
    try:
        inspect.signature(get_config).bind(*name)
    except TypeError:
        wanted = "takes no name" if name else "needs a name"
        raise InputError(f"--config={path}: {wanted}; write --config={path}{'' if name else ':NAME'}") from None
    return get_config(*name)


def _load_record(path: str, config: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
    """`config` with the fields of a run's JSON record (its `config`) set."""
    record = read_json(path)
    if not isinstance(record, dict) or not isinstance(record.get("config"), dict):
        raise InputError(f"--config={path}: not the record of a run, which has an object 'config'")
    try:
        assign(config, _flatten(record["config"]))
    except (InputError, RecursionError) as error:
        raise InputError(f"--config={path}: {error}") from error
    return config


def _merge(config: ml_collections.ConfigDict, given: ml_collections.ConfigDict, source: str, group: str = "") -> None:
    """Sets the fields of `config` that `given` has, which must fit; a group that is empty in `config` takes any."""
    for name, value in given.items():
        field = f"{group}{name}"
        if name not in config:
            hint = did_you_mean(name, list(config)) or "; is it the config of another command?"
            raise InputError(f"{source}this command has no field {field}{hint}")
        current, kind = config[name], config.get_type(name)
        is_group = isinstance(current, ml_collections.ConfigDict)
        if is_group and current and isinstance(value, ml_collections.ConfigDict):
            _merge(current, value, source, f"{field}.")
            continue
        if is_group != isinstance(value, ml_collections.ConfigDict) or (value is None and current is not None):
            raise InputError(f"{source}{field}={value}: not a value of type {kind.__name__}")
        try:
            config[name] = value
        except TypeError:
            raise InputError(f"{source}{field}={value}: not a value of type {kind.__name__}") from None


def _override(config: ml_collections.ConfigDict, arguments: Sequence[str], values: flags.FlagValues) -> None:
    """Sets the fields that `--config.field=value` arguments name, and the flags that `values` defines already."""
    fields = _flatten(config)
    rest, typed = [], []
    for argument in {argument.partition("=")[0]: argument for argument in arguments}.values():  # the last of each name
        name, equals, text = argument.partition("=")
        field = name.removeprefix("--config.")
        if field == name:
            rest.append(argument)
        elif field not in fields:
            group = [known for known in fields if known.startswith(f"{field}.")]
            hint = f"; it is a group, set one of {', '.join(group[:5])}" if group else did_you_mean(field, list(fields))
            raise InputError(f"{name}: no such field{hint}")
        elif equals and text == "None" and fields[field] is None:
            config.update_from_flattened_dict({field: None})
        elif equals and isinstance(fields[field], (tuple, list)):  # config_flags would read Python literals
            config.update_from_flattened_dict({field: _parse_list(argument, text, fields[field])})
        else:
            rest.append(argument)
            typed.append(name)
    try:
        config_flags.DEFINE_config_dict("config", config, flag_values=values, lock_config=False, sys_argv=typed)
    except (flags.Error, ValueError) as error:  # a value of a type that text cannot give
        raise InputError(f"{', '.join(typed)}: cannot be set here ({error})") from error
    _parse_flags(values, rest)


def _parse_list(argument: str, text: str, current: Sequence[Any]) -> list[Any]:
    """The items of a list separated by commas, of the type that the items have now."""
    kind = type(current[0]) if current else str
    try:
        return [kind(item.strip()) for item in text.strip("()[]").split(",") if item.strip()]
    except ValueError:
        raise InputError(f"{argument}: not a list of values of type {kind.__name__}") from None


def _parse_flags(values: flags.FlagValues, arguments: Sequence[str], known_only: bool = False) -> list[str]:
    """Parses arguments one by one; returns those that `values` does not know, which only `known_only` permits."""
    left: list[str] = []
    values.mark_as_parsed()
    for argument in arguments:
        try:
            left += values(["", argument], known_only=known_only)[1:]
        except flags.IllegalFlagValueError as error:
            kind = values[argument.lstrip("-").partition("=")[0]].flag_type()
            raise InputError(f"{argument}: not a value of type {kind}") from error
        except (flags.Error, ValueError) as error:
            raise InputError(f"{str(error).removesuffix(' ?')}; see --help") from error
        except RecursionError as error:  # absl's search for the nearest name
            raise InputError(f"{argument[:60]}...: unknown argument; see --help") from error
    if left and not known_only:
        raise InputError(f"{left[0]}: unexpected argument; write --name=value, see --help")
    return left


def _flatten(fields: Mapping[str, Any] | ml_collections.ConfigDict, group: str = "") -> dict[str, Any]:
    """{dotted name: value} of all fields, sorted."""
    flat: dict[str, Any] = {}
    for name in sorted(fields):
        value = fields[name]
        is_group = isinstance(value, (dict, ml_collections.ConfigDict))
        flat |= _flatten(value, f"{group}{name}.") if is_group else {f"{group}{name}": value}
    return flat


def _join_values(argv: Sequence[str]) -> list[str]:
    """`--name value` becomes `--name=value`."""
    joined: list[str] = []
    for argument in argv:
        if joined and joined[-1].startswith("--") and "=" not in joined[-1] and not argument.startswith("--"):
            joined[-1] += f"={argument}"
        else:
            joined.append(argument)
    return joined


def _one_line(message: object) -> str:
    line = " ".join(str(message).split())
    return line if len(line) <= 1500 else f"{line[:1500]} ..."
