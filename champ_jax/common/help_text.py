"""How --help reads: wrapped to the terminal, with the values each option may have and its default.

The width is the terminal's, or what the environment variable COLUMNS says.
"""

import argparse
import os
import re
import sys
import textwrap
from pathlib import Path
from typing import Any

from champ_jax.common.ranges import Choice, Integer, Items, Number

_LONGEST_LIST = 44  # characters of choices that stand beside an option; more are listed in its help
_COMMAND = re.compile(r"(champ|python3?|pip|\[?--)\b|\S+\.py\b|\[?--")


class HelpFormatter(argparse.HelpFormatter):
    """Options as --name=VALUE; descriptions whose prose is filled and whose commands stay commands."""

    def __init__(self, prog: str, **kwargs: Any):
        kwargs.setdefault("max_help_position", 28)
        super().__init__(prog, **kwargs)

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return textwrap.indent(fill(text, width - len(indent)), indent)

    def _format_usage(self, usage: str | None, actions: Any, groups: Any, prefix: str | None) -> str:
        if usage is None:  # argparse would list every option
            needed = [self._format_action_invocation(action) for action in actions if action.required]
            others = ["[options]"] if len(needed) < len(list(actions)) else []
            usage = " ".join([self._prog, *needed, *others])
        usage = usage % {"prog": self._prog} if "%(prog)s" in usage else usage
        start = "usage: " if prefix is None else prefix
        wrapped = textwrap.wrap(
            usage,
            max(self._width - len(start), 20),
            subsequent_indent="  ",
            break_long_words=False,
            break_on_hyphens=False,
        )
        return start + f"\n{' ' * len(start)}".join(wrapped) + "\n\n"

    def _format_action_invocation(self, action: argparse.Action) -> str:
        if not action.option_strings or action.nargs == 0:
            return super()._format_action_invocation(action)
        metavar = self._metavar_formatter(action, self._get_default_metavar_for_optional(action))(1)[0]
        return ", ".join(f"{option}={metavar}" for option in action.option_strings)

    def _metavar_formatter(self, action: argparse.Action, default_metavar: str) -> Any:
        allowed = choices(action)
        if action.metavar is None and allowed:
            text = "{" + ",".join(allowed) + "}"
            name = text if len(text) <= _LONGEST_LIST else default_metavar
            return lambda size: (name,) * size
        return super()._metavar_formatter(action, default_metavar)

    def _get_default_metavar_for_optional(self, action: argparse.Action) -> str:
        kinds = {Path: "PATH", int: "N", float: "NUMBER"}
        if isinstance(action.type, Number):
            return "N" if isinstance(action.type, Integer) else "NUMBER"
        kind = next((name for known, name in kinds.items() if action.type is known), None)
        return kind or ("NAME" if choices(action) else action.dest.upper())

    def _get_help_string(self, action: argparse.Action) -> str:
        text, facts = action.help or "", []
        if isinstance(action.type, Number | Items):
            facts.append(str(action.type).replace("%", "%%"))
        elif choices(action) and self._metavar_formatter(action, "")(1)[0] == "":
            facts.append(f"one of {', '.join(choices(action))}".replace("%", "%%"))
        hidden = action.default is None or action.default is False or action.default in ("", argparse.SUPPRESS)
        if action.option_strings and not hidden and "default" not in text:
            facts.append("default: %(default)s")
        if facts and text.endswith(")"):
            return f"{text[:-1]}; {'; '.join(facts)})"
        return f"{text} ({'; '.join(facts)})".strip() if facts else text

    def _split_lines(self, text: str, width: int) -> list[str]:
        words = " ".join(text.split())
        return textwrap.wrap(words, width, break_on_hyphens=False) or [""]


def choices(action: argparse.Action) -> list[str]:
    """The values that an option may have, where they are few and known."""
    if action.choices is not None:
        return [str(value) for value in action.choices]
    if isinstance(action.type, Choice):
        return [str(value) for value in action.type.values]
    return []


def fill(text: str, width: int) -> str:
    """Wraps a docstring: prose is filled, commands keep their lines and go on after a backslash where they are long."""
    lines: list[str] = []
    paragraph: list[str] = []
    depth = 0

    def flush() -> None:
        if paragraph:
            words = " ".join(paragraph)
            margin = " " * min(depth, width // 4)
            lines.extend(textwrap.wrap(words, width, initial_indent=margin, subsequent_indent=margin, **_KEEP))
            paragraph.clear()

    for line in text.strip().splitlines():
        indent, words = len(line) - len(line.lstrip()), line.strip()
        if not words or indent != depth:
            flush()
        depth = indent
        if not words:
            lines.append("")
        elif indent and _COMMAND.match(words):
            flush()
            lines.extend(_wrap_command(words, width, indent))
        else:
            paragraph.append(words)
    flush()
    return "\n".join(lines)


def program() -> str:
    """What the user typed to start this command: 'champ fit', 'python -m champ_jax.train', 'fit_motion.py'."""
    spec = getattr(sys.modules.get("__main__"), "__spec__", None)
    if spec is not None and spec.name.startswith("champ_jax.") and not sys.argv[0].startswith("champ "):
        return f"python -m {spec.name.removesuffix('.__main__')}"
    return os.path.basename(sys.argv[0]) if sys.argv and sys.argv[0] else "champ"


_KEEP: dict[str, Any] = {"break_long_words": False, "break_on_hyphens": False}


def _wrap_command(words: str, width: int, indent: int) -> list[str]:
    """A command at `indent`, its further lines two columns deeper; a shell takes them as one."""
    margin = " " * indent
    if indent + len(words) <= width:
        return [margin + words]
    wrapped = textwrap.wrap(
        words.removesuffix("\\").rstrip(), width - 2, initial_indent=margin, subsequent_indent=f"{margin}  ", **_KEEP
    )
    goes_on = words.endswith("\\")
    return [f"{line} \\" if number < len(wrapped) or goes_on else line for number, line in enumerate(wrapped, 1)]
