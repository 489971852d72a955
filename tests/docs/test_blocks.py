"""Every block of code in the README and the documents: this project's commands go through their real parsers, Python is
compiled and its imports are made, JSON is read. What is neither carries a comment before it that says why it is not
checked, which pages do not show: `<!-- not run: needs a TPU -->`."""

import ast
import importlib
import json
import re
import shlex
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest

from champ_jax.commands.catalog import COMMANDS, main_of
from champ_jax.common import cli, configs
from champ_jax.common.errors import InputError

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
MARK = re.compile(r"<!-- not run: (\S.*) -->")
# What stands around this project's commands: installing, moving files, the shell's own words.
AROUND = {
    *("pip", "python3", ".", "docker", "git", "mkdir", "cp", "export", "for", "do", "done", "curl", "ruff", "mkdocs"),
    *("mypy", "lint-imports", "python3.12", "wait"),
}
LAUNCHERS = ("srun", "mpirun")


@dataclass(frozen=True)
class Block:
    """A block: its page, the line it begins at, the word behind its fence, its text, and its mark's reason."""

    page: str
    line: int
    language: str
    text: str
    reason: str | None

    def __str__(self):
        return f"{self.page}:{self.line}"


def blocks(path):
    lines, i, blank, mark = path.read_text().split("\n"), 0, True, None
    while i < len(lines):
        start, fence = i + 1, re.match(r" *```(\w*)", lines[i])
        if fence:
            end = next(j for j in range(i + 1, len(lines)) if lines[j].lstrip().startswith("```"))
            text = "\n".join(lines[i + 1 : end])
            i = end + 1
        elif blank and re.match(r"    \s*\S", lines[i]):
            while i < len(lines) and (lines[i].startswith("    ") or not lines[i].strip()):
                i += 1
            text = "\n".join(line[4:] for line in lines[start - 1 : i]).strip("\n")
        else:
            if lines[i].strip():
                found = MARK.search(lines[i])
                mark = found[1] if found else None
            blank = not lines[i].strip()
            i += 1
            continue
        yield Block(path.name, start, fence[1] if fence else "", text, mark)
        mark, blank = None, True


BLOCKS = [block for path in PAGES for block in blocks(path)]


class Parsed(Exception):
    """The parser took the arguments."""


@pytest.fixture(scope="module", autouse=True)
def only_parse():
    """Commands end where they have parsed their arguments."""
    parse, parse_config = cli.Parser.parse_args, configs.parse_config

    def parse_args(parser, arguments=None, namespace=None):
        parse(parser, arguments, namespace)
        raise Parsed

    def parse_fields(*arguments, **options):
        parse_config(*arguments, **options)
        raise Parsed

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        patch.syspath_prepend(ROOT / "tools")  # which a tool finds its parts in
        patch.setattr(cli.Parser, "parse_args", parse_args)
        for module in ("animate", "train", "evaluate", "app.__main__"):
            patch.setattr(importlib.import_module(f"champ_jax.{module}"), "parse_config", parse_fields)
        yield


def kind(block):
    """How a block is checked: 'commands', 'python', 'json', or 'marked'."""
    if block.reason is not None:
        return "marked"
    if block.language == "python" or re.search(r"^(from|import) \w", block.text, re.MULTILINE):
        return "python"
    if all(line.startswith("{") for line in block.text.splitlines()):
        return "json"
    return "commands"


def commands(text):
    """The words of each simple command: continued lines are joined, comments and variables' values put in."""
    text = re.sub(r"\\\n\s*", " ", text)
    variables = dict(re.findall(r"^(\w+)=\"?([^\"\n]+?)\"?$", text, re.MULTILINE))
    for name, value in variables.items():
        text = re.sub(rf"\${name}\b", value, text)
    for line in text.splitlines():
        line = re.sub(r"(^|\s)#.*", "", line)
        line = re.sub(r"\[(--[^]]*)\]", r"\1", line)  # optional ones
        for part in re.split(r"&&|\|\||;|\|(?=\s)|\$\(", line):
            words = shlex.split(part)
            if words and words[0] in LAUNCHERS:
                words = words[words.index("python") :]
            while words and re.fullmatch(r"\w+=.*|time|do|sudo|-c", words[0]):
                words = words[1:]
            if words:
                yield words


def main_and_arguments(words):
    """The main function of one of this project's commands with its arguments; None for another program."""
    if words[0] == "champ":
        if words[1].startswith("--") or words[1] == "completion":
            return None
        assert words[1] in COMMANDS
        return main_of(words[1]), words[2:]
    if words[0] != "python":
        return None
    if words[1] == "-m" and words[2].startswith("champ_jax."):
        module = words[2] if words[2] != "champ_jax.app" else "champ_jax.app.__main__"
        module = module if module != "champ_jax.doctor" else "champ_jax.doctor.__main__"
        return importlib.import_module(module).main, words[3:]
    if words[1].startswith("tools/"):
        assert (ROOT / words[1]).is_file(), words[1]
        return importlib.import_module(words[1].removesuffix(".py").replace("/", ".")).main, words[2:]
    return None


def parsed(words):
    """Whether this is one of this project's commands, whose arguments are good."""
    found = main_and_arguments(words)
    if found is None:
        return False
    main, arguments = found
    # 'a|b' are alternatives, '...' and 'FILE' stand for what the reader has, '> file' is the shell's.
    arguments = [re.sub(r"\|[^,]*$", "", one) for one in arguments if one != "..." and "*" not in one]
    arguments = arguments[: arguments.index(">")] if ">" in arguments else arguments
    with pytest.raises(SystemExit if "--help" in arguments else Parsed):
        main([one for one in arguments if one != "&"])
    return True


@pytest.mark.parametrize("block", [block for block in BLOCKS if kind(block) == "commands"], ids=str)
def test_commands_have_parsers_that_take_them(block):
    for words in commands(block.text):
        assert parsed(words) or words[0] in AROUND or words[0] in ("champ", "python"), words


@pytest.mark.parametrize("block", [block for block in BLOCKS if kind(block) == "python"], ids=str)
def test_python_compiles_and_its_imports_are_there(block):
    for node in ast.walk(ast.parse(block.text)):
        if isinstance(node, ast.ImportFrom):
            module = importlib.import_module(node.module)
            assert all(hasattr(module, alias.name) for alias in node.names), ast.unparse(node)
        elif isinstance(node, ast.Import):
            for alias in node.names:
                importlib.import_module(alias.name)


@pytest.mark.parametrize("block", [block for block in BLOCKS if kind(block) == "json"], ids=str)
def test_json_is_json(block):
    assert [json.loads(line) for line in block.text.splitlines()]


def test_a_command_that_is_wrong_is_found_out():
    with pytest.raises(InputError, match="framez"):
        parsed(["champ", "fit", "--input=a.mp4", "--output=a.npz", "--framez=3"])
    with pytest.raises(InputError, match="widht"):
        parsed(["champ", "animate", "--config.widht=3"])


def test_how_many_blocks_there_are_of_each_kind():
    """So that a change of the documents' form does not leave them unchecked."""
    counts = Counter(map(kind, BLOCKS))
    checked = sum(parsed(words) for block in BLOCKS if kind(block) == "commands" for words in commands(block.text))
    assert checked >= 75
    assert counts["python"] >= 3
    assert counts["marked"] <= 30
