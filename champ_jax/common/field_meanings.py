"""What fields of configs mean, from where they are written: comments of get_config, docstrings of dataclasses.

    config.steps = 20  # denoising steps
    # A converted checkpoint or a packed model.
    config.weights = ""

A comment stands behind the value or in the lines above it. Without sources (a stripped installation) nothing is known.
"""

import ast
import inspect
import io
import re
import textwrap
import tokenize
from collections.abc import Callable
from typing import Any


def comments_of(get_config: Callable[[], Any]) -> dict[str, str]:
    """{dotted field: its comment} of the assignments to `config` in a function; without a comment it is left out."""
    try:
        source = textwrap.dedent(inspect.getsource(get_config))
        tree = ast.parse(source)
        tokens = [
            token for token in tokenize.generate_tokens(io.StringIO(source).readline) if token.type == tokenize.COMMENT
        ]
    except (OSError, TypeError, SyntaxError, tokenize.TokenError):
        return {}
    comments = {token.start[0]: token.string.lstrip("# ") for token in tokens}
    alone = {token.start[0] for token in tokens if not token.line[: token.start[1]].strip()}
    found: dict[str, str] = {}
    for node in ast.walk(tree):
        if not isinstance(node, ast.Assign):
            continue
        field = ".".join(_path(node.targets[0]))
        lines = [node.end_lineno] if node.end_lineno in comments else _above(node.lineno, alone)
        if field and lines:
            found[field] = " ".join(comments[line] for line in lines)
    return found


def attributes_of(kind: type, group: str = "") -> dict[str, str]:
    """{attribute: what its class's docstring says under 'Attributes:'}, each name preceded by `group`."""
    text = inspect.getdoc(kind) or ""
    section = re.search(r"^Attributes:\n((?:[ ]+.*\n|\n)*)", text + "\n", re.MULTILINE)
    found: dict[str, str] = {}
    for entry in re.split(r"\n(?=  \S)", section[1].rstrip()) if section else []:
        names, _, meaning = " ".join(entry.split()).partition(": ")
        found |= {f"{group}{name.strip()}": meaning.removesuffix(".") for name in names.split(",")}
    return found


def _above(line: int, comments: set[int]) -> list[int]:
    """The lines of comments that end just above `line`, in order."""
    first = line
    while first - 1 in comments:
        first -= 1
    return list(range(first, line))


def _path(target: ast.expr) -> list[str]:
    """['data', 'path'] of `config.data.path`; [] of anything else."""
    names: list[str] = []
    while isinstance(target, ast.Attribute):
        names.insert(0, target.attr)
        target = target.value
    return names if isinstance(target, ast.Name) and target.id == "config" else []
