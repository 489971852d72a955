"""Arguments become configs, and every mistake in them one line."""

import json
import subprocess
import sys

import ml_collections
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ml_collections import config_dict

from champ_jax.common import cli, configs
from champ_jax.common.errors import InputError
from champ_jax.common.ranges import Choice, Integer


def default():
    """A config with a field of each kind."""
    config = ml_collections.ConfigDict()
    config.steps = 20
    config.scale = 3.5
    config.quiet = False
    config.output = "out.mp4"
    config.fps = config_dict.placeholder(float)
    config.size = (64, 48)
    config.names = ("a", "b")
    config.metrics = ()
    config.windows = ml_collections.ConfigDict({"frames": 24, "scheme": "shifted"})
    config.nothing = None
    config.model = ml_collections.ConfigDict()  # empty: takes what a config file says
    return config


def parse(*arguments, **options):
    return configs.parse_config(arguments, default, **options)[0]


def test_no_argument_gives_the_default_config():
    assert parse().to_dict() == default().to_dict()
    with pytest.raises(AttributeError):
        parse().new_field = 1  # locked


@pytest.mark.parametrize(
    ("arguments", "field", "value"),
    [
        (["--config.steps=3"], "steps", 3),
        (["--config.steps", "3"], "steps", 3),
        (["--config.steps=3", "--config.steps=4"], "steps", 4),
        (["--config.scale=2"], "scale", 2.0),
        (["--config.quiet"], "quiet", True),
        (["--config.quiet", "--config.steps=20"], "quiet", True),
        (["--config.quiet=0"], "quiet", False),
        (["--config.quiet", "True"], "quiet", True),
        (["--config.output="], "output", ""),
        (["--config.output=a=b, c"], "output", "a=b, c"),
        (["--config.output=None"], "output", "None"),
        (["--config.fps=24"], "fps", 24.0),
        (["--config.fps=24", "--config.fps=None"], "fps", None),
        (["--config.fps=None", "--config.fps=24"], "fps", 24.0),
        (["--config.size=32,16"], "size", (32, 16)),
        (["--config.size=(32, 16)"], "size", (32, 16)),
        (["--config.names=c"], "names", ("c",)),
        (["--config.names=c, d,"], "names", ("c", "d")),
        (["--config.names="], "names", ()),
        (["--config.names=1,2"], "names", ("1", "2")),
        (["--config.metrics=psnr,ssim"], "metrics", ("psnr", "ssim")),
        (["--config.windows.frames=8"], "windows.frames", 8),
        (["--config.scale", "-1.5"], "scale", -1.5),
    ],
)
def test_overrides_have_the_fields_type(arguments, field, value):
    expected = default()
    expected.update_from_flattened_dict({field: value})
    found = parse(*arguments)
    assert found.to_dict() == expected.to_dict()
    holder = found.windows if "." in field else found
    assert type(holder[field.split(".")[-1]]) is type(value)


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ("--config.steps=3.5", "--config.steps=3.5: not a value of type int"),
        ("--config.steps=" + "9" * 5000, "not a value of type int"),
        ("--config.scale=fast", "--config.scale=fast: not a value of type float"),
        ("--config.quiet=perhaps", "--config.quiet=perhaps: not a value of type bool"),
        ("--config.size=1,b", "--config.size=1,b: not a list of values of type int"),
        ("--config.fps=fast", "--config.fps=fast: not a value of type float"),
        ("--config.steps", "Missing value for flag --config.steps"),
        ("--config.step=3", "--config.step: no such field, did you mean steps?"),
        ("--config.windows=3", "no such field; it is a group, set one of windows.frames, windows.scheme"),
        ("--config.steps.real=3", "--config.steps.real: no such field, did you mean steps?"),
        ("--config.__class__=3", "--config.__class__: no such field"),
        ("--config.size[0]=3", "--config.size[0]: no such field, did you mean size?"),
        ("--config.model.x=3", "--config.model.x: no such field"),
        ("--config." + "x" * 5000 + "=3", "no such field"),
        ("--" + "x" * 5000 + "=3", "unknown argument"),
        ("--confg=a.py", "Unknown command line flag 'confg'"),
        ("--config.nothing=3", "--config.nothing: cannot be set here"),
        ("--workdirs=x", "Did you mean: workdir"),
        ("--config", "Missing value for flag --config"),
        ("animate", "animate: unexpected argument"),
        ("", "unexpected argument"),
    ],
)
def test_a_bad_argument_is_one_clear_line(argument, words):
    with pytest.raises(InputError) as caught:
        parse(argument, options=("workdir",))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@given(
    st.lists(st.text() | st.sampled_from(["--config.steps", "--config.names=", "--config.size=1", "--noconfig.quiet"]))
)
def test_any_arguments_give_a_config_or_an_input_error(arguments):
    try:
        found = parse(*arguments)
    except (InputError, SystemExit):
        return
    assert set(found) == set(default())


@settings(max_examples=40)
@given(
    steps=st.integers(-(10**12), 10**12),
    scale=st.floats(allow_nan=False),
    output=st.text(),
    size=st.lists(st.integers(-100, 100), max_size=3).map(tuple),
    fps=st.none() | st.floats(0, 100),
)
def test_values_survive_the_command_line_and_a_record(tmp_path_factory, steps, scale, output, size, fps):
    values = {"steps": steps, "scale": scale, "output": output, "size": size, "fps": fps}
    texts = values | {"size": ",".join(map(str, size))}
    found = parse(*(f"--config.{name}={text}" for name, text in texts.items()))
    expected = default()
    expected.update(values)
    assert found.to_dict() == expected.to_dict()
    if "\0" not in output:  # st.text() has no surrogates
        record = tmp_path_factory.getbasetemp() / "record.json"
        record.write_text(json.dumps({"config": found.to_dict()}))
        assert parse(f"--config={record}").to_dict() == expected.to_dict()


def test_options_are_given_apart():
    config, options = configs.parse_config(
        ["--workdir", "w", "--config.steps=1"], default, options=("workdir", "report")
    )
    assert config.steps == 1
    assert options == {"workdir": "w"}


def test_help_lists_every_field_with_its_default(capsys, tmp_path):
    (tmp_path / "c.py").write_text(CONFIG_FILE)
    for arguments, steps in ((["--help"], 20), (["-h", f"--config={tmp_path / 'c.py'}:7"], 7)):
        with pytest.raises(SystemExit) as exit_:
            parse(*arguments, description="Animates.")
        assert not exit_.value.code
        lines = capsys.readouterr().out.splitlines()
        assert "Animates." in lines
        assert f"  --config.steps=N          (default: {steps})" in lines
        assert "windows fields:" in lines
        assert "  --config.windows.scheme=TEXT" in lines


def test_help_shows_what_a_guide_knows(capsys, monkeypatch):
    def guide():
        meanings = {"steps": "denoising steps, 100% of them", "windows.frames": "frames a window holds"}
        rules = {"steps": Integer(minimum=1, maximum=9), "windows.scheme": Choice("shifted", "even"), "quiet": FLAG}
        return configs.Guide(rules, meanings, {"Sampling": ("steps", "scale"), "Windows": ("windows.",)})

    monkeypatch.setenv("COLUMNS", "100")
    with pytest.raises(SystemExit):
        parse("--help", guide=guide, options={"workdir": "where it goes"})
    text = capsys.readouterr().out
    words = " ".join(text.split())
    assert "--config.steps=N denoising steps, 100% of them (a whole number from 1 to 9; default: 20)" in words
    assert "--config.windows.scheme={shifted,even} (default: shifted)" in words
    assert "--config.quiet=true|false (default: false)" in words
    assert "--config.size=LIST (default: 64,48)" in words
    assert "--workdir=PATH where it goes" in words
    headings = [line for line in text.splitlines() if line.endswith(":") and not line.startswith(" ")]
    assert headings == ["options:", "Sampling:", "Windows:", "Fields:"]


FLAG = Choice(True, False)


CONFIG_FILE = """
import ml_collections
def get_config(steps="5"):
    config = ml_collections.ConfigDict()
    config.steps = int(steps)
    config.size = [8, 8]
    config.windows = {"frames": 4}
    config.model = {"width": 2, "unet": {"heads": [1, 2]}}
    return config
"""


def test_a_config_file_sets_what_it_names(tmp_path):
    path = tmp_path / "config.py"
    path.write_text(CONFIG_FILE)
    config = parse("--config.steps=6", f"--config={path}", "--config.model.unet.heads=3,4")
    assert (config.steps, config.size, config.windows.frames, config.windows.scheme) == (6, (8, 8), 4, "shifted")
    assert config.model.to_dict() == {"width": 2, "unet": {"heads": [3, 4]}}
    assert parse(f"--config={path}").steps == 5
    assert parse(f"--config={path}:9").steps == 9
    assert [entry.name for entry in tmp_path.iterdir()] == ["config.py"]  # no __pycache__
    path.write_text(CONFIG_FILE.replace("def get_config(", "def other("))
    with pytest.raises(InputError, match=r"defines no get_config\(\)"):
        parse(f"--config={path}")


MAKE = "import ml_collections\ndef get_config():\n    config = ml_collections.ConfigDict()\n    {}\n    return config\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("raise ValueError('boo\\nboo')", "fails to load (ValueError: boo boo)"),
        ("import sys; sys.exit(0)", "fails to load (SystemExit: 0)"),
        ("def get_config(): exit(3)", "fails to load (SystemExit: 3)"),
        ("raise BaseException", "fails to load (BaseException: )"),
        ("def f(): f()\nf()", "fails to load (RecursionError"),
        ("def get_config(): open('absent')", "fails to load (FileNotFoundError"),
        ("(", "fails to load (SyntaxError"),
        ("\0", "fails to load ("),
        ("get_config = 3", "defines no get_config()"),
        ("def get_config(): return None", "returns no ml_collections.ConfigDict"),
        ("def get_config(name): return None", "needs a name; write --config="),
        ("", "defines no get_config()"),
        (MAKE.format("config.step = 3"), "this command has no field step, did you mean steps?"),
        (MAKE.format("config.predictions = 3"), "no field predictions; is it the config of another command?"),
        (MAKE.format("config.windows = {'x_y_z': 1}"), "no field windows.x_y_z; is it"),
        (MAKE.format("config.steps = 'many'"), "steps=many: not a value of type int"),
        (MAKE.format("config.steps = 2.5"), "steps=2.5: not a value of type int"),
        (MAKE.format("config.steps = None"), "steps=None: not a value of type int"),
        (MAKE.format("config.windows = 3"), "windows=3: not a value of type ConfigDict"),
        (MAKE.format("config.steps = {'a': 1}"), "not a value of type int"),
        (MAKE.format("config.size = 3"), "size=3: not a value of type tuple"),
    ],
)
def test_a_bad_config_file_is_one_line_that_names_it(tmp_path, capfd, text, words):
    path = tmp_path / "config.py"
    path.write_text(text)
    with pytest.raises(SystemExit) as exit_:
        cli.run(lambda argv: configs.parse_config(argv, default) and 0, [f"--config={path}"])
    assert exit_.value.code == 2
    output = capfd.readouterr()
    assert output.out == ""
    (line,) = output.err.splitlines()
    assert str(path) in line
    assert words in line


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty; JSON is expected"),
        ("<!DOCTYPE html>", "a web page"),
        ("[]", "not the record of a run"),
        ('{"config": [1]}', "not the record of a run"),
        ("[" * 100_000, "nested too deeply"),
        ('{"config": ' + '{"a": ' * 100_000, "nested too deeply"),
        ('{"config": {"steps": "many"}}', "steps=many: not a value of type int"),
        ('{"config": {"steps": NaN}}', "steps=nan: not a value of type int"),
        ('{"config": {"steps": [1, 2]}}', "steps=1,2: not a value of type int"),
        ('{"config": {"steps": {"x": 1}}}', "steps.x: no such field, did you mean steps?"),
        ('{"config": {"stepps": 1}}', "no such field, did you mean steps?"),
        ('{"config": {"output": "a\\u0000b"}}', "output: holds a character that text cannot contain"),
        ('{"config": {"output": "a\\ud800b"}}', "output: holds a character that text cannot contain"),
        ('{"config": {"steps": ' + "9" * 5000 + "}}", "is not JSON"),
    ],
)
def test_a_bad_record_is_one_line_that_names_it(tmp_path, text, words):
    path = tmp_path / "record.json"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        parse(f"--config={path}")
    assert str(caught.value).removeprefix("--config=").startswith(f"{path}: ")
    assert words in str(caught.value)


def test_a_config_of_another_kind_is_named(tmp_path):
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(InputError, match=r"notes.txt: expected a Python file \(.py\) or the record of a run"):
        parse(f"--config={tmp_path / 'notes.txt'}")


def test_assigning_json_values():
    config = default()
    configs.assign(config, {"steps": "7", "fps": 12, "names": ["x"], "quiet": True, "windows.frames": 3})
    assert (config.steps, config.fps, config.names, config.quiet, config.windows.frames) == (7, 12.0, ("x",), True, 3)
    with pytest.raises(InputError, match=r"windows: is an object; write its fields as windows\.name"):
        configs.assign(config, {"windows": {"frames": 3}})


def test_parsing_loads_no_jax():
    code = "import sys, champ_jax.common.configs; print(sorted({'jax', 'flax', 'optax', 'numpy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
