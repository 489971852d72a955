"""Hostile arguments, config files and records of the commands."""

from collections.abc import Iterator

import pytest
from hostile import kinds
from hostile.harness import ROOT, Case, check

COMMANDS = {
    "animate": [],
    "train": ["--workdir=work"],
    "evaluate": ["--config.predictions=a", "--config.ground_truth=b"],
}

CONFIG = "import ml_collections\nconfig = ml_collections.ConfigDict()\n{}\ndef get_config():\n    return config\n"
SOURCES = {
    "raises": "raise ValueError('first line\\nsecond line')",
    "raises-late": "def get_config(): return {}['x']",
    "raises-base": "raise BaseException('x')",
    "exits": "import sys; sys.exit(0)",
    "exits-late": "import sys\ndef get_config(): sys.exit(3)",
    "exits-with-words": "raise SystemExit('good bye')",
    "syntax": "def get_config(:",
    "zero-byte": "x = 1\0",
    "recursion": "def f(): f()\nf()",
    "memory": "def get_config(): return bytes(1 << 46)",
    "imports": "import no_such_module",
    "no-get-config": "config = {}",
    "not-callable": "get_config = {}",
    "needs-name": "def get_config(name): return name",
    "returns-none": "def get_config(): pass",
    "returns-dict": "def get_config(): return {'seed': 1}",
    "other-field": CONFIG.format("config.no_such_field = 1"),
    "group-for-value": CONFIG.format("config.distributed = 1"),
    "value-for-group": CONFIG.format("config.distributed = {'timeout': {'seconds': 1}}"),
    "wrong-type": CONFIG.format("config.distributed = {'timeout': 'long'}"),
    "none": CONFIG.format("config.distributed = {'timeout': None}"),
    "not-finite": CONFIG.format("config.distributed = {'timeout': float('nan')}"),
}
RECORDS = {
    "no-config": b'{"seed": 1}',
    "config-list": b'{"config": []}',
    "config-nested": b'{"config": ' + kinds.nested_json(50_000) + b"}",
    "other-field": b'{"config": {"no_such_field": 1}}',
    "wrong-type": b'{"config": {"distributed": {"timeout": "long"}}}',
    "group": b'{"config": {"distributed": {"timeout": {"x": 1}}}}',
    "not-finite": b'{"config": {"distributed": {"timeout": Infinity}}}',
    "huge": b'{"config": {"distributed": {"timeout": 1e999}}}',
    "null": b'{"config": {"distributed": {"timeout": null}}}',
    "zero-byte": b'{"config": {"distributed": {"coordinator": "a\\u0000b"}}}',
}
ARGUMENTS = {
    "positional": ["person.png"],
    "abbreviation": ["--conf=x"],
    "unknown": ["--no_such_option=1"],
    "unknown-field": ["--config.no_such_field=1"],
    "long-field": ["--config." + "x" * 10_000 + "=1"],
    "long-option": ["--" + "x" * 10_000],
    "attribute": ["--config.__class__=1"],
    "index": ["--config.distributed['timeout']=1"],
    "expression": ["--config.distributed.timeout.__add__(1)=1"],
    "group": ["--config.distributed=1"],
    "below-a-value": ["--config.distributed.timeout.seconds=1"],
    "no-value": ["--config.distributed.timeout"],
    "empty": ["--config.distributed.timeout="],
    "no-config": ["--config"],
    "empty-config": ["--config="],
    "undecodable": ["--config.distributed.timeout=\udcff"],
    "newlines": ["--config.distributed.timeout=1\nerror: 2"],
    "coordinator": ["--config.distributed.coordinator=here", "--config.distributed.processes=2"],
    "coordinator-port": ["--config.distributed.coordinator=a:99999", "--config.distributed.processes=2"],
    "process": [f"--config.distributed.{field}" for field in ("coordinator=a:1", "processes=2", "process=2")],
}
CULPRITS = {  # where it is not the field 'distributed...', or the file
    "positional": "person.png",
    "abbreviation": "conf",
    "unknown": "no_such_option",
    "unknown-field": "no_such_field",
    "long-field": "xxxx",
    "long-option": "xxxx",
    "attribute": "__class__",
    "no-config": "--config",
    "empty-config": "--config",
    "other-command": "configs/",
    "process": "process 2 of 2",
    "not-finite": "distributed.timeout",
    "huge": "distributed.timeout",
}
FIELDS = {  # the values of `kinds.NUMBERS` that a field takes
    "distributed.processes": {"0"},
    "distributed.process": {"-1", "0"},
    "distributed.timeout": set(),
}


TOOLS = {  # numeric options, and the values of `kinds.NUMBERS` that they take
    "benchmark": {
        "frames": (),
        "steps": (),
        "guidance_scale": ("0",),
        "batch": (),
        "chunk": (),
        "workers": (),
        "repeats": (),
        "size": (),
        "stage": ("1,2",),
    },
    "predict_held_out": {"steps": (), "guidance_scale": ("0",)},
    "build_open_body": {"people": (), "seed": ("0",)},
    "train_builtin": {"seed": ("0",), "minutes": (), "within": ()},
    "memory_by_length": {"size": (), "lengths": ("1,2",)},
}
# {command: (arguments that could run, options that name files)}: all of them refuse addresses.
SMOKE, PEOPLE = ROOT / "configs/people/smoke.py", ROOT / "champ_jax/assets/people"
TRAIN = [f"--config={SMOKE}", "--workdir=work", f"--config.data.path={PEOPLE}"]
PATHS = {
    "animate": (
        ["--config.output=out.mp4", "--config.frames=0:2"],
        (
            *("config.weights", "config.reference", "config.motion", "config.driving", "config.body", "config.noise"),
            *("config.output", "config.frames_output", "config.latents_output", "config.jobs", "config"),
        ),
    ),
    "train": (TRAIN, ("workdir", "config.data.path", "config")),
    "evaluate": (
        [f"--config.predictions={PEOPLE}", f"--config.ground_truth={PEOPLE}", "--config.output=report.json"],
        ("config.predictions", "config.ground_truth", "config.output"),
    ),
}
ADDRESSES = ("gs://bucket/a", "s3://bucket/a.npz", "https://example.org/a.mp4", "hdfs:/a.npy")


def _file_case(name: str, command: str, argument: str, make: kinds.Maker, culprit: str) -> Case:
    option, _, file = argument.partition("=")
    return Case(name, command, lambda folder: [*COMMANDS[command], f"{option}={make(folder / file)}"], culprit)


def _cases() -> Iterator[Case]:
    for command, common in COMMANDS.items():
        for suffix, files in ((".py", SOURCES), (".json", RECORDS)):
            for kind, data in files.items():
                make = kinds.content(data if isinstance(data, bytes) else data.encode())
                culprit = CULPRITS.get(kind, f"my{suffix}")
                yield _file_case(f"{command}{suffix}-{kind}", command, f"--config=my{suffix}", make, culprit)
        other = ROOT / "configs" / ("animate.py" if command == "evaluate" else "evaluate.py")
        for kind, arguments in {**ARGUMENTS, "other-command": [f"--config={other}"]}.items():
            given = [*common, *arguments]
            yield Case(f"{command}-{kind}", command, lambda _, given=given: given, CULPRITS.get(kind, "distributed"))
    for command, (common, options) in PATHS.items():
        for option in options:
            for address in ADDRESSES:
                given = [*common, f"--{option}={address}"]
                scheme = address.partition(":")[0]
                yield Case(f"{command}-{option}={address}", command, lambda _, given=given: given, f"{scheme}:/")
    for field, allowed in FIELDS.items():
        for value in [value for value in kinds.NUMBERS if value not in allowed]:
            given = [f"--config.{field}={value}"]
            yield Case(f"{field}={value}", "animate", lambda _, given=given: given, f"--config.{field}")
    for tool, options in TOOLS.items():
        for option, allowed in options.items():
            for value in [value for value in kinds.NUMBERS if value not in allowed]:
                given = [f"--{option}={value}"]
                yield Case(f"{tool}-{option}={value}", f"tools/{tool}.py", lambda _, given=given: given, f"--{option}")
    special = {"sparse": kinds.sparse(), "picture": kinds.content(kinds.png()), "npz": kinds.content(kinds.npz())}
    for kind, make in {**kinds.NO_FILE, **kinds.FOREIGN, **special}.items():
        yield _file_case(f"py-{kind}", "animate", "--config=my.py", make, "my.py")
    for kind, make in {**kinds.JSON, **special}.items():
        yield _file_case(f"json-{kind}", "train", "--config=my.json", make, "my.json")
    for kind, make in {**kinds.NO_FILE, "latin-1": kinds.FOREIGN["latin-1"], "empty": kinds.FOREIGN["empty"]}.items():
        yield _file_case(f"jobs-{kind}", "animate", "--config.jobs=my.jsonl", make, "my.jsonl")
    for argument in ("--config=my.py", "--config=my.json", "--config.jobs=my.jsonl"):
        yield _file_case(f"long-name-{argument}", "animate", argument, kinds.long_name, kinds.LONG_NAME[:50])


@pytest.mark.parametrize("case", _cases(), ids=str)
def test_hostile(case, tmp_path):
    check(case, tmp_path)
