"""Hostile inputs of what runs on lent machines and of what their results go through."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hostile import kinds
from hostile.harness import Case, check

from champ_jax.common.locks import hold_folder
from tools.accelerator import pieces
from tools.accelerator.runner import FORMAT, VERSION

DAY, CARRY, PAGE = (f"tools/{name}.py" for name in ("accelerator_day", "carry_weights", "write_performance"))
RECORD = {"format": FORMAT, "version": VERSION, "leg": "speed", "minutes": 3, "calls": [], "steps": {}}
PLAN = ("--plan", "--results=results")


def results(**changes) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        (folder / "results").mkdir()
        (folder / "results" / "speed.json").write_text(json.dumps(RECORD | changes))

    return write


def after(make: Callable[[Path], object], *arguments: str) -> Callable[[Path], list[str]]:
    return lambda folder: (make(folder), list(arguments))[1]


def plain(*arguments: str) -> Callable[[Path], list[str]]:
    return lambda folder: list(arguments)


def folder_of(name: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).mkdir()


def text(name: str, content: str = "x") -> Callable[[Path], object]:
    def write(folder: Path) -> None:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)

    return write


def wrong_pieces(folder: Path) -> None:
    """Whole pieces of a file that holds no weights of a recipe."""
    (folder / "model").write_bytes(kinds.safetensors_file())
    pieces.split(folder / "model", folder / "pieces", "weights")


def damaged_pieces(folder: Path) -> None:
    wrong_pieces(folder)
    path = folder / "pieces" / "weights.00.piece"
    path.write_bytes(path.read_bytes()[:-1])


def day() -> list[Case]:
    options = [(name, value) for name in ("minutes", "call_minutes") for value in ("nan", "inf", "-1", "0", "text", "")]
    options += [("legs", "sped"), ("legs", "speed,speed"), ("legs", ""), ("size", "64"), ("size", "1e9")]
    cases = [
        Case(f"day-{name}-{value or 'empty'}", DAY, plain(*PLAN, f"--{name}={value}"), name) for name, value in options
    ]
    records = {
        "foreign": {"format": "x"},
        "old": {"version": 0},
        "no-steps": {"steps": 3},
        "step": {"steps": {"peaks": {"state": "sunk", "tries": 1, "seconds": 1}}},
        "seconds": {"steps": {"peaks": {"state": "done", "tries": 1, "seconds": 1e300}}},
        "calls": {"calls": [7]},
    }
    cases += [
        Case(f"day-record-{name}", DAY, after(results(**change), *PLAN), "speed.json")
        for name, change in records.items()
    ]
    cases += [
        Case("day-record-html", DAY, after(text("results/speed.json", kinds.HTML.decode()), *PLAN), "speed.json"),
        Case("day-record-deep", DAY, after(text("results/speed.json", "[" * 10**5), *PLAN), "speed.json"),
        Case("day-results-file", DAY, after(text("results"), "--results=results"), "results"),
        Case("day-output-file", DAY, after(text("out"), "--results=results", "--output=out"), "out"),
        Case("day-results-below-file", DAY, after(text("file"), "--results=file/results"), "file"),
        Case(
            "day-results-in-use",
            DAY,
            after(folder_of("results"), "--results=results", "--legs=few_steps"),
            "results",
            during=lambda folder: hold_folder(folder / "results"),
            may_leave=("results/*", "results/.*"),
        ),
        Case(
            "day-wheels-missing",
            DAY,
            plain("--results=r", "--scratch=s", "--wheels=no", "--legs=few_steps"),
            "no",
            may_leave=("r", "r/.*"),
        ),
        Case("day-travel-wheels-missing", DAY, plain("--travel", "--results=r", "--wheels=no"), "no"),
        Case("day-installed-missing", DAY, plain("--travel", "--results=r", "--installed=list.txt"), "list.txt"),
        Case(
            "day-installed-empty",
            DAY,
            after(text("list.txt", "\n"), "--travel", "--results=r", "--installed=list.txt"),
            "list.txt",
        ),
    ]
    return cases


def carry() -> list[Case]:
    bring = ("--recipe=new", "--from=pieces")
    return [
        Case("carry-nothing", CARRY, plain(), "--to"),
        Case("carry-both", CARRY, plain("--to=a", "--from=b"), "--to"),
        Case("carry-no-recipe", CARRY, plain("--to=a"), "--recipe"),
        Case("carry-output-of-to", CARRY, plain("--to=a", "--output=b"), "--output"),
        Case("carry-recipe-missing", CARRY, plain("--recipe=work", "--to=a"), "work"),
        Case("carry-recipe-empty", CARRY, after(folder_of("work"), "--recipe=work", "--to=a"), "work"),
        Case("carry-from-missing", CARRY, plain(*bring), "pieces"),
        Case("carry-from-file", CARRY, after(text("pieces"), *bring), "pieces"),
        Case("carry-foreign-weights", CARRY, after(wrong_pieces, *bring), "weights"),
        Case("carry-damaged-piece", CARRY, after(damaged_pieces, *bring), "weights.00.piece"),
        Case("carry-empty-piece", CARRY, after(text("pieces/weights.00.piece", ""), *bring), "weights.00.piece"),
        Case(
            "carry-model-missing",
            CARRY,
            after(folder_of("pieces"), "--from=pieces", "--output=m.safetensors"),
            "model.00.piece",
        ),
        Case(
            "carry-output-is-something-else",
            CARRY,
            after(
                lambda folder: (folder_of("pieces")(folder), text("notes.txt")(folder)),
                "--from=pieces",
                "--output=notes.txt",
            ),
            "notes.txt",
        ),
    ]


def page() -> list[Case]:
    return [
        Case("page-results-missing", PAGE, plain("--results=results", "--output=page.md"), "results"),
        Case(
            "page-results-empty", PAGE, after(folder_of("results"), "--results=results", "--output=page.md"), "results"
        ),
        Case(
            "page-results-damaged", PAGE, after(results(steps=3), "--results=results", "--output=page.md"), "speed.json"
        ),
        Case(
            "page-results-html",
            PAGE,
            after(text("results/speed.json", "<html>"), "--results=results", "--output=page.md"),
            "speed.json",
        ),
        Case(
            "page-output-other",
            PAGE,
            after(
                lambda folder: (results(calls=[])(folder), text("page.md")(folder)),
                "--results=results",
                "--output=page.md",
            ),
            "page.md",
        ),
    ]


@pytest.mark.parametrize("case", [*day(), *carry(), *page()], ids=str)
def test_hostile(case, tmp_path):
    check(case, tmp_path)
