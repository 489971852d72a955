"""Runs the legs of a day step by step, and keeps what they found so that any call continues where the last one ended.

    RESULTS/LEG.json    {format, leg, minutes, calls: [{date, command, seconds}], steps: {NAME: {...}}}
    RESULTS/*           the pictures and pieces of weights that steps made

A step is a Python command of its own: its memory is its own, and a crash, a leak or a hang ends with it. The record is
written before a step begins and after it ends, so a step that is recorded as running was killed with the machine.
"""

import contextlib
import ctypes
import dataclasses
import datetime
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from champ_jax.common.errors import InputError, first_line, listed
from champ_jax.common.files import read_json, write_json
from champ_jax.common.limits import size_text

from .pieces import LARGEST

FORMAT = "champ_jax accelerator day"
VERSION = 1
FILES = 8
"""Files that a call adds or changes at most."""

TRIES = 2  # of a step that is killed with its machine
GRACE = 20.0  # seconds between asking a step to end and ending it
_OWN_END, _OWN_SHARE = 40.0, 0.8  # seconds for ending by itself, or share of the time before it
_LOG = 3000  # characters of a failed step's output that are kept
_USED_UP = "the leg's {:g} minutes were used up"
_NAME = re.compile(r"[A-Za-z0-9._-]+")
_STATES = ("running", "done", "failed", "stopped", "left out")
_FINAL = ("done", "failed")


@dataclasses.dataclass(frozen=True)
class Step:
    """A command that finds something out.

    Attributes:
      name: The step's name, which no other step of its leg has.
      arguments: The arguments of Python, run in the checkout. '{output}' stands for the JSON file that the step writes,
        '{files}' for the folder for other files to keep, '{minutes}' for the time after which it should end by itself,
        which is before the time when it is ended.
      seconds: The time after which it is ended.
      least: The time without which it is not begun.
      environment: variables that are set for it.
      measures: whether a status other than 0 means that figures are beyond their bounds, and not that it failed.
      resumes: whether the same command continues what an earlier one began; others begin in a call that has time for
        them, or in none.
      leave: seconds of the call that it leaves to the steps after it.
    """

    name: str
    arguments: tuple[str, ...]
    seconds: float
    least: float = 5.0
    environment: Mapping[str, str] = dataclasses.field(default_factory=dict)
    measures: bool = False
    resumes: bool = False
    leave: float = 0.0


@dataclasses.dataclass(frozen=True)
class Leg:
    """Steps that share a number of minutes.

    Attributes:
      name: The leg's name, and its record's.
      title: what it does, in words.
      minutes: The time of all its steps.
      steps: The steps, the most valuable first.
      absent: why the leg does nothing; '' for one that does.
    """

    name: str
    title: str
    minutes: float
    steps: tuple[Step, ...]
    absent: str = ""


def read_record(folder: str | os.PathLike, leg: str) -> dict[str, Any] | None:
    """The record of a leg in a results folder; None where there is none.

    Raises:
      InputError: it is damaged, or no record of a leg.
    """
    path = Path(folder) / f"{leg}.json"
    if not path.exists():
        return None
    record = read_json(path)
    remedy = "remove it to run the leg again"
    if not isinstance(record, dict) or record.get("format") != FORMAT or record.get("leg") != leg:
        raise InputError(f"{path}: is not the record of the leg {leg}; {remedy}, or name another folder")
    if record.get("version") != VERSION:
        raise InputError(f"{path}: is of version {record.get('version')}, not {VERSION}; {remedy}")
    steps, calls = record.get("steps"), record.get("calls")
    if not isinstance(steps, dict) or not isinstance(calls, list):
        raise InputError(f"{path}: is damaged (it has no steps); {remedy}")
    for name, step in steps.items():
        good = (
            isinstance(step, dict)
            and step.get("state") in _STATES
            and type(step.get("tries")) is int
            and type(step.get("seconds")) in (int, float)
            and isinstance(step.get("message", ""), str)
        )
        if not good or not 0 <= step["seconds"] < 1e9:
            raise InputError(f"{path}: is damaged (step {name[:60]}); {remedy}")
    for call in calls:
        if not isinstance(call, dict) or not all(isinstance(call.get(name), str) for name in ("date", "command")):
            raise InputError(f"{path}: is damaged (its calls); {remedy}")
    return record


class Day:
    """The legs of a day and what is known of them."""

    def __init__(
        self,
        legs: Sequence[Leg],
        *,
        results: Path,
        output: Path,
        scratch: Path,
        checkout: Path,
        command: str,
        environment: Mapping[str, str] | None = None,
        retry: bool = False,
    ):
        """Reads the records; writes nothing.

        Args:
          legs: all legs, in order.
          results: the folder of what earlier calls found.
          output: the folder for what this call finds; may be `results`.
          scratch: a folder for everything that does not leave the machine.
          checkout: where commands run.
          command: the call as typed in a shell.
          environment: variables that are set for all steps.
          retry: whether failed steps run again.

        Raises:
          InputError: a record is damaged.
        """
        self.legs = list(legs)
        self.output, self.scratch, self.checkout, self.command = output, scratch, checkout, command
        self.environment = dict(environment or {})
        self.kept: set[str] = set()  # the files of this call
        self._busy = False  # whether this call has begun a step
        self.records: dict[str, dict[str, Any]] = {}
        for leg in self.legs:
            if leg.absent:
                continue
            record = read_record(output, leg.name) or read_record(results, leg.name)
            record = record or {"format": FORMAT, "version": VERSION, "leg": leg.name, "calls": [], "steps": {}}
            for name, step in record["steps"].items():
                if step["state"] == "running":  # the machine went away under it
                    step["state"] = "stopped" if step["tries"] < TRIES else "failed"
                    step["message"] = f"was killed, {step['tries']} times"
                elif step["state"] == "failed" and retry:
                    step.update(state="stopped", tries=0)
                record["steps"][name] = step
            record["minutes"] = leg.minutes
            self.records[leg.name] = record

    def state(self, leg: Leg, step: Step) -> str:
        """'done', 'failed', 'stopped', 'left out', or '' for a step that has not run."""
        return self.records[leg.name]["steps"].get(step.name, {}).get("state", "")

    def is_over(self, leg: Leg) -> bool:
        """Whether nothing of the leg is left to run."""
        return bool(leg.absent) or all(self.state(leg, step) in _FINAL for step in leg.steps)

    def plan(self) -> str:
        """What would be done, as a Markdown table."""
        lines = ["| leg | minutes at most | step | seconds at most | so far |", "| --- | --- | --- | --- | --- |"]
        for leg in self.legs:
            if leg.absent:
                lines.append(f"| {leg.name}: {leg.title} | | | | {leg.absent} |")
            for number, step in enumerate(leg.steps):
                first = (f"{leg.name}: {leg.title}", f"{leg.minutes:g}") if not number else ("", "")
                so_far = self.state(leg, step) or "to do"
                lines.append(f"| {first[0]} | {first[1]} | {step.name} | {step.seconds:.0f} | {so_far} |")
        return "\n".join(lines)

    def run(self, minutes: float) -> bool:
        """Runs what is left, in order, until the time is over.

        Args:
          minutes: how long this call may take.

        Returns:
          Whether everything has run, well or not.
        """
        end = time.monotonic() + 60 * minutes
        self.output.mkdir(parents=True, exist_ok=True)
        self.scratch.mkdir(parents=True, exist_ok=True)
        for leg in self.legs:
            if self.is_over(leg):
                continue
            began = time.monotonic()
            call = {"date": _now(), "command": self.command, "seconds": 0.0}
            self.records[leg.name]["calls"].append(call)
            finished = self._run_leg(leg, end)
            call["seconds"] = round(time.monotonic() - began, 1)
            self._save(leg)
            if not finished:
                print(f"{leg.name}: {minutes:g} minutes are over; run the same command again to continue", flush=True)
                return False
        return True

    def _run_leg(self, leg: Leg, end: float) -> bool:
        """Whether the call has time left after it."""
        record = self.records[leg.name]
        for step in leg.steps:
            entry = record["steps"].get(step.name, {"state": "", "tries": 0, "seconds": 0.0})
            if entry["state"] in _FINAL:
                continue
            left = 60 * leg.minutes - sum(each["seconds"] for each in record["steps"].values())
            allotted, of_call = min(step.seconds, left), end - time.monotonic() - step.leave
            if allotted < step.least:
                entry.update(state="left out", message=_USED_UP.format(leg.minutes))
                record["steps"][step.name] = entry
                continue
            if of_call < step.least or (of_call < allotted and self._busy and not step.resumes):
                return False
            seconds = min(allotted, of_call)
            self._busy = True
            entry.update(state="running", tries=entry["tries"] + 1)
            entry.pop("message", None)
            record["steps"][step.name] = entry
            self._save(leg)
            print(f"{leg.name}, {step.name}: at most {seconds:.0f} s", flush=True)
            began = time.monotonic()
            try:
                entry.update(self._run_step(leg, step, seconds))
                if entry["state"] == "failed" and entry.pop("late", False) and allotted < step.seconds:
                    entry.update(state="left out", message=_USED_UP.format(leg.minutes))
            except BaseException:  # an interrupt
                entry.update(state="stopped", message="was interrupted")
                raise
            finally:
                entry.pop("late", None)
                entry["seconds"] = round(entry["seconds"] + time.monotonic() - began, 1)
                self._save(leg)
            message = f": {entry['message']}" if entry.get("message") else ""
            print(f"{leg.name}, {step.name}: {entry['state']} after {entry['seconds']:.0f} s{message}", flush=True)
        return True

    def _run_step(self, leg: Leg, step: Step, seconds: float) -> dict[str, Any]:
        """What goes into the step's entry."""
        folder = self.scratch / "steps" / leg.name / step.name
        shutil.rmtree(folder, ignore_errors=True)
        files = folder / "files"
        files.mkdir(parents=True)
        output, log = folder / "output.json", folder / "log"
        minutes = max(seconds - _OWN_END, _OWN_SHARE * seconds) / 60
        places = {"output": output, "files": files, "minutes": f"{minutes:.3f}"}
        arguments = [argument.format(**places) for argument in step.arguments]
        environment = {**os.environ, **self.environment, **step.environment}
        with open(log, "wb") as stream:
            status = _wait(arguments, self.checkout, environment, stream, seconds)
        entry: dict[str, Any] = {"state": "done"}
        with contextlib.suppress(InputError, OSError):  # its absence is told below
            entry["result"] = read_json(output)
        if status is None:
            entry["state"] = "stopped" if step.resumes else "failed"
            entry["message"], entry["late"] = f"ended after {seconds:.0f} s, its limit", True
        elif status and not (step.measures and "result" in entry):
            entry["state"], entry["message"] = "failed", f"status {status}"
        if entry["state"] == "failed":
            text = log.read_text(errors="replace")
            entry["log"] = text[-_LOG:]
            last = next((line for line in reversed(text.splitlines()) if line.strip()), "")
            entry["message"] += f" ({first_line(ValueError(last))})" if last else ""
        try:
            entry["files"] = [self._keep(path) for path in sorted(files.iterdir())]
        except InputError as error:
            entry.update(state="failed", message=str(error))
        return entry

    def _keep(self, path: Path) -> str:
        """Moves a file that a step made to the results and returns its name."""
        if not path.is_file() or not _NAME.fullmatch(path.name) or path.stat().st_size > LARGEST:
            raise InputError(
                f"{path.name}: is no file of at most {size_text(LARGEST)} with a plain name; it is not kept"
            )
        shutil.move(path, self.output / path.name)
        self._count(path.name)
        return path.name

    def _save(self, leg: Leg) -> None:
        write_json(self.output / f"{leg.name}.json", self.records[leg.name])
        self._count(f"{leg.name}.json")

    def _count(self, name: str) -> None:
        self.kept.add(name)
        if len(self.kept) == FILES + 1:
            print(f"warning: this call makes more than {FILES} files: {listed(sorted(self.kept), 20)}", file=sys.stderr)


def summary(record: Mapping[str, Any]) -> str:
    """A line a step, for the end of a call."""
    return "\n".join(
        f"{record['leg']}, {name}: {step['state']}" + (f" ({step['message']})" if step.get("message") else "")
        for name, step in record["steps"].items()
    )


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def _wait(
    arguments: Sequence[str], checkout: Path, environment: Mapping[str, str], stream: BinaryIO, seconds: float
) -> int | None:
    """The exit status of a Python command, None if it had to be ended. What it started ends with it."""
    process = subprocess.Popen(
        [sys.executable, *arguments],
        cwd=checkout,
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        stdout=stream,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        preexec_fn=_end_with_parent,
    )
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(GRACE)
        return None
    finally:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


_LIBC = ctypes.CDLL(None)
_PR_SET_PDEATHSIG = 1  # prctl(2)


def _end_with_parent() -> None:
    """Lets the system kill this process when its parent dies, so that nothing is left of a day that was killed."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
