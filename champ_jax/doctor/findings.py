"""What the checks found, and how it is printed."""

import dataclasses
import json
import os
import shutil
import sys
import textwrap
from collections.abc import Iterable, Sequence
from typing import Any

OK, WARNING, PROBLEM = LEVELS = ("ok", "warning", "problem")
_COLORS = {OK: "\033[32m", WARNING: "\033[33m", PROBLEM: "\033[31m"}
_LONGEST_NAME = 24
_LONGEST_TEXT = 2000


@dataclasses.dataclass(frozen=True)
class Finding:
    """One line of the report.

    Attributes:
      group: the heading it stands under.
      name: what was looked at.
      level: 'ok'; 'warning', something works less well or is broken that few need; 'problem'.
      value: what was found.
      remedy: what to do, one line; '' for 'ok'.
      needed: whether the main job, animating with the built-in model, fails for this problem.
    """

    group: str
    name: str
    level: str
    value: str
    remedy: str = ""
    needed: bool = False

    def __post_init__(self) -> None:
        for field in ("group", "name", "value", "remedy"):  # text of strangers: file names, errors of libraries
            object.__setattr__(self, field, clean(getattr(self, field)))

    @classmethod
    def read(cls, fields: Any) -> "Finding":
        """A finding from JSON; raises ValueError if it is none."""
        texts = ("group", "name", "level", "value", "remedy")
        good = isinstance(fields, dict) and all(isinstance(fields.get(text), str) for text in texts)
        if not good or fields["level"] not in LEVELS or not isinstance(fields.get("needed"), bool):
            raise ValueError("not a finding")
        return cls(**{text: fields[text] for text in texts}, needed=fields["needed"])


def clean(text: object) -> str:
    """One line of printable characters, at most 2,000 of them."""
    line = " ".join(str(text)[:_LONGEST_TEXT].split())
    return "".join(character if character.isprintable() else "?" for character in line)


def main_job_runs(findings: Iterable[Finding]) -> bool:
    """Whether no finding keeps `champ animate` from running with the built-in model."""
    return not any(finding.level == PROBLEM and finding.needed for finding in findings)


def table(findings: Sequence[Finding], width: int, color: bool = False) -> str:
    """The report as text of at most `width` columns (40 at least), without a line break at its end."""
    width = max(width, 40)
    names = min(max((len(finding.name) for finding in findings), default=0), _LONGEST_NAME)
    margin = " " * (2 + 9 + names + 2)
    lines: list[str] = []
    for group in dict.fromkeys(finding.group for finding in findings):
        lines += ["", group] if lines else [group]
        for finding in (finding for finding in findings if finding.group == group):
            head = f"  {finding.level:<9}{finding.name:<{names}}  "
            value = _indented(finding.value, margin, width)
            if len(head) > len(margin):  # a long name stands alone
                lines += [*textwrap.wrap(head, width, subsequent_indent=" " * 11), *value]
            else:
                lines += [(head + "".join(value[:1])[len(margin) :]).rstrip(), *value[1:]]
            if finding.remedy:
                lines += _indented(f"-> {finding.remedy}", " " * 11, width, hanging=3)
    lines += ["", *textwrap.wrap(verdict(findings), width)]
    return "\n".join(_colored(line) if color else line for line in lines)


def verdict(findings: Sequence[Finding]) -> str:
    """The last line of the report."""
    counts = [(sum(finding.level == level for finding in findings), level) for level in (PROBLEM, WARNING)]
    found = " and ".join(f"{count} {level}{'s' * (count != 1)}" for count, level in counts if count)
    can = "can" if main_job_runs(findings) else "cannot"
    return f"champ animate {can} run here with the built-in model. {f'Found {found}.' if found else 'All is well.'}"


def as_json(findings: Sequence[Finding], version: str) -> str:
    """The report as a JSON object."""
    report = {
        "champ_jax": version,
        "main_job_runs": main_job_runs(findings),
        "problems": sum(finding.level == PROBLEM for finding in findings),
        "warnings": sum(finding.level == WARNING for finding in findings),
        "findings": [dataclasses.asdict(finding) for finding in findings],
    }
    return json.dumps(report, indent=2)


def show(findings: Sequence[Finding]) -> None:
    """Prints the table, as wide as the terminal, in its colors, in characters that it has."""
    color = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    text = table(findings, shutil.get_terminal_size().columns, color)
    encoding = sys.stdout.encoding or "utf-8"
    print(text.encode(encoding, "backslashreplace").decode(encoding))


def _indented(text: str, margin: str, width: int, hanging: int = 0) -> list[str]:
    deeper = margin + " " * hanging
    return textwrap.wrap(text, width, initial_indent=margin, subsequent_indent=deeper, break_on_hyphens=False)


def _colored(line: str) -> str:
    for level, code in _COLORS.items():
        if line.startswith(f"  {level} "):
            return f"  {code}{level}\033[0m{line[2 + len(level) :]}"
    return line
