"""Probes: checks that may crash or hang, each in a process of its own with a time limit.

A probe is a generator. It yields what it is about to try, a `Finding` when it knows, and so on; if the process dies or
takes too long, what it tried last is the problem. A library may print what it likes: findings go through a pipe of
their own.
"""

import contextlib
import dataclasses
import json
import os
import selectors
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence

from champ_jax.common.children import environment, python
from champ_jax.doctor.findings import PROBLEM, WARNING, Finding, clean

_LONGEST = 1 << 20  # bytes of one probe's findings
DONE = "done"


@dataclasses.dataclass(frozen=True)
class Attempt:
    """What a probe is about to try, and what it means if that never ends.

    Attributes:
      group, name: of the finding.
      remedy: what to do.
      needed: whether the main job needs it: a problem, else a warning.
    """

    group: str
    name: str
    remedy: str
    needed: bool = False

    def failed(self, why: object) -> Finding:
        """The finding that it does not work."""
        level = PROBLEM if self.needed else WARNING
        return Finding(self.group, self.name, level, str(why), self.remedy, self.needed)


Probe = Generator[Attempt | Finding, None, None]


def attempts(probe: Callable[..., Probe], first: Attempt, *arguments: str) -> Iterator[Attempt | Finding]:
    """What a probe yields; an exception becomes the finding of its last attempt and ends it."""
    last = first
    yield first
    try:
        for item in probe(*arguments):
            if isinstance(item, Attempt):
                last = item
            yield item
    except (Exception, SystemExit) as error:
        yield last.failed(reason(error))


def reason(error: BaseException) -> str:
    """An exception in a line."""
    text = clean(error)[:300]
    if isinstance(error, ImportError):
        return f"cannot be imported: {text}"
    return text if type(error).__name__ == "InputError" else f"{type(error).__name__}: {text}"


def run_probes(probes: Mapping[str, tuple[Attempt, Sequence[str]]], seconds: float) -> dict[str, list[Finding]]:
    """Runs probes side by side.

    Args:
      probes: {name in `champ_jax.doctor.probes`: (what to blame if it does not even begin, its arguments)}.
      seconds: the time limit of each.

    Returns:
      {name: its findings}, in the order of `probes`.
    """
    end = time.monotonic() + seconds
    running: dict[str, _Child] = {}
    scratch = _scratch()  # what killed processes leave in the folder for temporary files goes with it
    try:
        for name, (first, arguments) in probes.items():
            running[name] = _Child(name, first, arguments, {"TMPDIR": scratch} if scratch else {})
        with selectors.DefaultSelector() as selector:
            for child in running.values():
                if child.process is not None:
                    selector.register(child.pipe, selectors.EVENT_READ, child)
            while selector.get_map() and (left := end - time.monotonic()) > 0:
                for key, _ in selector.select(left):
                    if not key.data.read():
                        selector.unregister(key.fileobj)
        return {name: child.result(seconds, end) for name, child in running.items()}
    finally:
        for child in running.values():
            child.kill()
        if scratch:
            shutil.rmtree(scratch, ignore_errors=True)


def _scratch() -> str | None:
    """A folder for temporary files; None where there can be none, which is reported elsewhere."""
    try:
        return tempfile.mkdtemp(prefix="champ-doctor-")
    except OSError:
        return None


class _Child:
    """The process of a probe."""

    def __init__(self, name: str, first: Attempt, arguments: Sequence[str], variables: Mapping[str, str]):
        self.first = first
        self.received = b""
        self.process = None
        self.pipe, writing = os.pipe()
        self.cause: object = None
        # An accelerator is tried by one process, which leaves memory to the programs that run there.
        variables = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false", "TF_CPP_MIN_LOG_LEVEL": "3", **variables}
        if name != "devices":
            variables["JAX_PLATFORMS"] = "cpu"
        try:
            self.process = subprocess.Popen(
                python("champ_jax.doctor.child", [str(writing), name, *arguments]),
                env=environment(**variables),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=[writing],
                start_new_session=True,
            )
        except OSError as error:
            self.cause = f"no process can be started: {error}"
        finally:
            os.close(writing)

    def read(self) -> bool:
        """Takes what is there; False at the end."""
        data = os.read(self.pipe, 65536)
        self.received += data
        return bool(data) and len(self.received) < _LONGEST

    def result(self, seconds: float, end: float) -> list[Finding]:
        """The findings, and one more if the probe did not come to its end."""
        findings, last, done = _parse(self.received, self.first)
        if done:
            return findings
        if self.process is not None:
            try:
                status = self.process.wait(max(end - time.monotonic(), 0.5 if self.received else 0))
                self.cause = _ending(status)
            except subprocess.TimeoutExpired:
                self.cause = f"no answer within {seconds:g} s"
        return [*findings, last.failed(self.cause)]

    def kill(self) -> None:
        """Ends the process and those it started."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        os.close(self.pipe)


def _ending(status: int) -> str:
    if status < 0:
        try:
            return f"crashed ({signal.Signals(-status).name})"
        except ValueError:
            return f"crashed (signal {-status})"
    return f"ended with status {status}"


def _parse(received: bytes, first: Attempt) -> tuple[list[Finding], Attempt, bool]:
    """(findings, the last attempt, whether the probe came to its end) of what a child sent."""
    findings: list[Finding] = []
    last, done = first, False
    for line in received.splitlines():
        try:
            fields = json.loads(line)
            if fields == DONE:
                done = True
            elif "level" in fields:
                findings.append(Finding.read(fields))
            else:
                last = Attempt(**fields)
        except (ValueError, TypeError, RecursionError):
            continue
    return findings, last, done
