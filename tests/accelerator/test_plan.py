"""Legs of at most eight minutes whose commands exist, and what travels to the machine."""

import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from champ_jax.common.errors import InputError
from tools.accelerator import plan, travel

ROOT = Path(__file__).parents[2]


def legs(minutes=30.0, chosen=plan.NAMES, **options):
    return plan.make_legs(minutes, chosen, Path("/scratch"), Path("/results"), **options)


@pytest.mark.parametrize("minutes", [15.0, 30.0])
@pytest.mark.parametrize("chosen", [plan.NAMES, ("model",), ("speed", "parity")])
def test_legs_fit_the_minutes_and_are_short(minutes, chosen):
    made = legs(minutes, chosen)
    assert sum(leg.minutes for leg in made) <= 0.94 * minutes
    assert all(leg.minutes <= 8 for leg in made)
    assert [name for name in plan.NAMES if any(leg.name.startswith(name) for leg in made)] == [
        name for name in plan.NAMES if name in chosen
    ]
    for leg in made:
        assert len({step.name for step in leg.steps}) == len(leg.steps)
        assert bool(leg.steps) != bool(leg.absent)


def test_few_step_training_is_announced_and_not_done():
    (leg,) = legs(chosen=("few_steps",))
    assert "does not exist yet" in leg.absent


@pytest.mark.parametrize(("minutes", "variant"), [(30.0, "accelerator"), (15.0, "accelerator_128")])
def test_large_pictures_where_there_is_time(minutes, variant):
    trains = [step for leg in legs(minutes) for step in leg.steps if step.name == "train"]
    assert trains
    assert all(f"--variant={variant}" in step.arguments for step in trains)
    (leg, *_) = legs(minutes, ("model",), size=256)
    assert "--variant=accelerator" in leg.steps[1].arguments


@pytest.mark.parametrize("toy", [False, True])
def test_every_command_is_there(toy):
    for leg in legs(toy=toy):
        for step in leg.steps:
            words = [word.format(output="o.json", files="f", minutes="1") for word in step.arguments]
            if words[0] == "-m":
                words = words[1:]
                assert words[0] == "pytest"
                files = [word.split("::")[0] for word in words if word.startswith("tests/")]
                assert files
                assert all((ROOT / file).is_file() for file in files)
            else:
                assert (ROOT / words[0]).is_file()
                named = {word.split("=")[0] for word in words[1:]}
                source = (ROOT / words[0]).read_text()
                assert all(f'"{name}"' in source for name in named), step.name


def test_every_parity_step_selects_tests():
    """By the names that `-k` looks for; what is collected is not run."""
    source = {
        path: (ROOT / path).read_text() for step in legs()[0].steps for path in step.arguments if "tests/" in path
    }
    for step in legs()[0].steps:
        words = list(step.arguments)
        files = [word for word in words if word.startswith("tests/")]
        wanted = words[words.index("-k") + 1] if "-k" in words else ""
        names = [
            name
            for file in files
            for name in re.findall(r"@pytest\.mark\.parity\n(?:@.*\n|    .*\n|\)\n|\]\n)*def (test_\w+)", source[file])
        ]
        assert names, step.name
        if " and " not in wanted and wanted:
            assert any(part in name for part in wanted.split(" or ") for name in names), step.name


def test_what_is_needed_is_what_the_package_says_it_needs():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = [*project["dependencies"], *project["optional-dependencies"]["train"]]
    named = {travel.canonical(re.match(r"[\w.-]+", line)[0]) for line in lines} - {"av"}
    roots = {travel.canonical(name) for name in travel.ROOTS}
    assert named <= roots
    assert roots - named == {"torch", "hypothesis", "beartype", "pytest", "pytest-xdist"}


def test_nothing_of_a_day_needs_pyav():
    """Its wheel would be half of what may travel."""
    code = (
        "import sys; sys.modules['av'] = None\n"
        "import champ_jax.training.loop, champ_jax.inference.pipeline, champ_jax.data.latents\n"
        "import champ_jax.evaluation.held_out_report, champ_jax.animate"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_wheels_that_are_missing_are_named_with_the_commands_that_bring_them(tmp_path):
    needed, missing = travel.required()
    assert not missing
    assert {"grain", "array-record", "promise", "jax", "torch"} <= needed
    (tmp_path / "list").write_text(
        "Package    Version\n---------- -------\njax 0.11\n" + "\n".join(needed - {"grain", "promise"})
    )
    installed = travel.read_installed(tmp_path / "list")
    assert travel.wheels_to_bring(installed) == ["grain", "promise"]
    assert travel.wheels_to_bring(installed, [Path("grain-0.2.18-cp312-cp312-manylinux_2_28_x86_64.whl")]) == [
        "promise"
    ]
    download, make = travel.commands(["grain", "promise"], ".wheels", "3.12")
    assert download.endswith("--dest=.wheels grain")
    assert "--python-version=3.12" in download
    assert make == "python -m pip wheel --no-deps --wheel-dir=.wheels promise"
    _, missing = travel.required(["jax", "no-such-package"])
    assert missing == {"no-such-package"}


def test_what_travels_is_counted_once_and_limited(tmp_path, monkeypatch):
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    (tmp_path / ".gitignore").write_text("ignored\nwheels\n")
    for name, size in {"a/b/c": 1000, "ignored": 10**6, "wheels/x.whl": 300, "results/y": 20}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x" * size)
    found = travel.sizes(tmp_path, [tmp_path / "wheels", tmp_path / "results"])
    assert found == {"a/b": 1000, str(tmp_path / "wheels"): 300, "results": 20, ".": 15}
    assert travel.report(found).startswith("1.3 KiB of 60.0 MiB would travel: a/b 1,000 bytes")
    monkeypatch.setattr(travel, "LIMIT", 1000)
    with pytest.raises(InputError, match="leave something out"):
        travel.report(found)


def test_this_repository_and_the_wheels_it_needs_can_travel():
    """The wheels of October 2026 took 12 MiB."""
    if not (ROOT / ".git").exists():
        pytest.skip("no Git working tree")
    unread = sum(path.stat().st_size for path in (ROOT / travel.UNREAD).rglob("*"))
    assert unread > 2**20
    assert sum(travel.sizes(ROOT, []).values()) - unread < travel.LIMIT - 12 * 2**20


def test_wheels_are_unpacked_without_the_network(tmp_path):
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    info = "brought-1.0.dist-info"
    with zipfile.ZipFile(wheels / "brought-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("brought.py", "VALUE = 3\n")
        wheel.writestr(
            f"{info}/METADATA", "Metadata-Version: 2.1\nName: brought\nVersion: 1.0\nRequires-Dist: absent\n"
        )
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    travel.unpack(wheels, tmp_path / "site")
    assert (tmp_path / "site" / "brought.py").read_text() == "VALUE = 3\n"
    (wheels / "bad-1.0-py3-none-any.whl").write_bytes(b"no wheel")
    with pytest.raises(InputError, match="cannot be installed"):
        travel.unpack(wheels, tmp_path / "other")
