"""Configs of commands: a Python file or the record of an earlier run, with overrides from the arguments.

absl's flags and ml_collections' config_flags parse the arguments; this module adds what they lack: errors of one line,
records of earlier runs as configs, and lists separated by commas. It loads no JAX, so that errors in arguments show at
once. (absl.app is not used: it turns on log lines of level INFO and ends with status 1 after a page of usage. Nor is
config_flags' loader of files, which takes get_config from the file before where a file defines none.)
"""

import dataclasses
import inspect
import re
import runpy
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ml_collections
from absl import flags
from ml_collections import config_flags

from champ_jax.common.cli import Parser
from champ_jax.common.errors import InputError
from champ_jax.common.files import read_json, read_text
from champ_jax.common.ranges import Choice, Items, Number, Rule, did_you_mean


@dataclasses.dataclass(frozen=True)
class Guide:
    """What --help and the shells' completion say of a config's fields.

    Attributes:
      rules: {dotted field: the values it may have}.
      meanings: {dotted field: what it is}, in words (`champ_jax.common.field_meanings`).
      groups: {heading: dotted fields}, in the order to read them; 'data.' stands for all fields that begin so. Fields
        of no group come last, each under the first part of its name.
    """

    rules: Mapping[str, Rule] = dataclasses.field(default_factory=dict)
    meanings: Mapping[str, str] = dataclasses.field(default_factory=dict)
    groups: Mapping[str, Sequence[str]] = dataclasses.field(default_factory=dict)

    def grouped(self, fields: Sequence[str]) -> dict[str, list[str]]:
        """{heading: its fields}; every field once."""
        left = list(fields)
        found: dict[str, list[str]] = {}
        for heading, members in self.groups.items():
            for member in members:
                taken = [field for field in left if field == member or (member[-1] == "." and field.startswith(member))]
                found.setdefault(heading, []).extend(taken)
                left = [field for field in left if field not in taken]
        for field in left:
            found.setdefault(f"{field.split('.')[0]} fields" if "." in field else "Fields", []).append(field)
        return {heading: members for heading, members in found.items() if members}


def parse_config(
    argv: Sequence[str],
    default: Callable[[], ml_collections.ConfigDict],
    *,
    description: str = "",
    options: Sequence[str] | Mapping[str, str] = (),
    guide: Callable[[], Guide] = Guide,
) -> tuple[ml_collections.ConfigDict, dict[str, str]]:
    """Reads `--config=FILE --config.a.b=value ... --option=value`, in any order; the last of a repeated one counts.

    FILE is a Python file with get_config(), FILE:NAME for its get_config(NAME), or the JSON record of an earlier run,
    which repeats it. Lists are separated by commas, `--config.quiet` alone means true, and None empties a field that
    has no default value. `--help` prints all fields (`config_parser`) and exits.

    Args:
      argv: the arguments, without the program's name.
      default: makes the config when no `--config=FILE` is given.
      description: printed by --help, before the table of fields.
      options: names of the further `--name=value` options the command takes, or {name: what it means}.
      guide: makes what --help says of the fields.

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
        config_parser(config, description=description, options=options, guide=guide()).print_help()
        sys.exit(0)
    values = flags.FlagValues()
    for option in options:
        flags.DEFINE_string(option, None, "", flag_values=values)
    _override(config, rest, values)
    config.lock()
    return config, {option: value for option in options if (value := values[option].value) is not None}


def config_parser(
    config: ml_collections.ConfigDict,
    *,
    description: str = "",
    options: Sequence[str] | Mapping[str, str] = (),
    guide: Guide | None = None,
) -> Parser:
    """An argparse parser that lists what `parse_config` takes: for --help and for completion, not for parsing."""
    guide = guide or Guide()
    meanings = dict(options) if isinstance(options, Mapping) else dict.fromkeys(options, "")
    usage = " ".join(["%(prog)s [--config=FILE] [--config.FIELD=VALUE ...]", *(f"[--{name}=...]" for name in meanings)])
    parser = Parser(description=description, usage=usage)
    parser.add_argument(
        "--config",
        metavar="FILE",
        help="a Python file with get_config(), FILE:NAME for its get_config(NAME), or the JSON record of a run to "
        "repeat; the fields below stand over what it says",
    )
    for name, meaning in meanings.items():
        parser.add_argument(f"--{name}", metavar="PATH", help=meaning)
    values = _flatten(config)
    for heading, fields in guide.grouped(list(values)).items():
        group = parser.add_argument_group(heading)
        for field in fields:
            value, rule = values[field], guide.rules.get(field)
            group.add_argument(
                f"--config.{field}",
                metavar=_metavar(config, field, value, rule),
                type=rule if isinstance(rule, Number | Items) else str,
                choices=rule.values if isinstance(rule, Choice) and not isinstance(value, bool) else None,
                default=_shown(value),
                help=guide.meanings.get(field, f"(default: {_shown(value)})").replace("%", "%%"),
            )
    return parser


def _metavar(config: ml_collections.ConfigDict, field: str, value: Any, rule: Rule | None) -> str | None:
    """What stands for the value of a field; None where its choices do."""
    if isinstance(rule, Choice) and not isinstance(value, bool):
        return None
    group, _, name = field.rpartition(".")
    kind = (config[group] if group else config).get_type(name)
    names = {bool: "true|false", int: "N", float: "NUMBER", tuple: "LIST", list: "LIST"}
    return names.get(kind, "TEXT")


def _shown(value: Any) -> str | None:
    """A default as it is written at the command line."""
    if isinstance(value, (tuple, list)):
        return ",".join(map(str, value)) or None
    return str(value).lower() if isinstance(value, bool) else "None" if value is None else str(value)


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
