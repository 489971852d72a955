"""Runs the real commands on hostile inputs, in this process, and checks how they end.

A room's table is a list of `Case`; its test is one line:

    @pytest.mark.parametrize("case", CASES, ids=str)
    def test_hostile(case, tmp_path):
        check(case, tmp_path)

`hostile.kinds` makes the broken files and values. Each case runs the command's own file as `__main__`, so the arguments
go through the command's parser and its exit status. A case should fail before anything is compiled: the whole catalog
has three minutes.
"""

import contextlib
import ctypes
import faulthandler
import hashlib
import os
import re
import resource
import runpy
import shlex
import shutil
import signal
import stat
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

ROOT = Path(__file__).parents[2]
_HASHED = 64 << 20  # bytes; larger files are compared by size, time and allocated blocks
_HEADROOM = 8 << 30  # bytes of address space a command may add


@dataclass(frozen=True)
class Case:
    """A command on a hostile input.

    Attributes:
      name: the test's identifier.
      command: 'animate', 'train', 'evaluate', or a Python file from the repository's root ('tools/NAME.py').
      make: writes the inputs below the folder it is given and returns the arguments; the command runs in that folder,
        so the arguments may name files relative to it. It may call pytest.skip.
      culprit: what the error line must contain: a file, a field or a frame.
      during: a context manager that is given the folder and held while the command runs, for example a lock.
      may_leave: patterns of what the command may add to the folder, for example a log.
      memory: bytes by which the resident size may grow.
      seconds: the run is ended after this time, and the case fails.
    """

    name: str
    command: str
    make: Callable[[Path], Sequence[Any]]
    culprit: str
    during: Callable[[Path], contextlib.AbstractContextManager] | None = None
    may_leave: Sequence[str] = ()
    memory: int = 512 << 20
    seconds: float = 60.0

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Result:
    """How a command ended.

    Attributes:
      status: the exit status.
      stdout: what it printed.
      stderr: what it printed on the standard error, by Python or by a native library.
      memory: bytes by which the resident size grew at most.
      seconds: how long it ran.
    """

    status: int
    stdout: str
    stderr: str
    memory: int
    seconds: float

    @property
    def errors(self) -> list[str]:
        """The lines of stderr that start with 'error:'."""
        return [line for line in self.stderr.replace("\r", "\n").splitlines() if line.startswith("error:")]


def check(case: Case, tmp_path: Path) -> Result:
    """Runs the case and asserts that the command refused its input properly.

    That is: status 2, one line on stderr that starts with 'error:' and contains the culprit, no traceback or warning
    of a library, the inputs byte for byte as they were, nothing added to the folder or to the temporary folder, memory
    and time bounded.
    """
    folder = tmp_path / "case"
    folder.mkdir()
    arguments = [str(argument) for argument in case.make(folder)]
    before = snapshot(folder)
    during = case.during(folder) if case.during else contextlib.nullcontext()
    with during:
        result = run_command(case.command, arguments, folder, seconds=case.seconds)
    transcript = f"{case.command} {shlex.join(arguments)}\nstatus {result.status}\n{result.stdout}\n{result.stderr}"
    assert "Traceback (most recent call last)" not in result.stderr, transcript
    assert result.status == 2, transcript
    assert len(result.errors) == 1, transcript
    assert case.culprit in result.errors[0], f"{case.culprit!r} is not in the error line\n{transcript}"
    assert not re.search(r"^\S*:\d+: \w*Warning: ", result.stderr, re.MULTILINE), f"a library's warning\n{transcript}"
    assert len(result.errors[0]) < 2000, f"the error line has {len(result.errors[0])} characters\n{transcript[:3000]}"
    after = snapshot(folder)
    allowed = {path.relative_to(folder).as_posix() for pattern in case.may_leave for path in folder.glob(pattern)}
    added = [name for name in after if name not in before and name not in allowed]
    assert not added, f"left behind: {added}\n{transcript}"
    changed = [name for name in before if before[name] != after.get(name) and name not in allowed]
    assert not changed, f"inputs changed: {changed}\n{transcript}"
    assert result.memory <= case.memory, f"grew by {result.memory >> 20} MiB\n{transcript}"
    return result


def run_command(command: str, arguments: Sequence[str], folder: Path, *, seconds: float = 60.0) -> Result:
    """Runs a command in this process with `folder` as its working directory.

    Permissions bind it even when the tests run as root. What it changes in the process (environment, signal handlers,
    warning filters) is put back.

    Raises:
      AssertionError: it ran longer than `seconds`, or left something in the folder for temporary files.
    """
    path = ROOT / (command if command.endswith(".py") else f"champ_jax/{command}.py")
    temporary = Path(tempfile.mkdtemp(prefix="hostile-"))
    start = time.monotonic()
    try:
        with (
            _captured() as streams,
            _restored(folder, temporary, [str(path), *arguments]),
            _time_limit(seconds, command),
            _memory_limit() as memory,
            _without_root_permissions(),
        ):
            status = _status(path)
        left = sorted(entry.name for entry in temporary.iterdir())
    finally:
        shutil.rmtree(temporary)
    stdout, stderr = streams
    assert not left, f"{command} left {left} in the folder for temporary files"
    return Result(status, stdout[0], stderr[0], memory[0], time.monotonic() - start)


def snapshot(folder: Path) -> dict[str, tuple]:
    """{path below `folder`: its kind, permissions, size and content}. Links are not followed."""
    entries = {}
    for root, folders, files in os.walk(folder):
        for name in [*folders, *files]:
            path = Path(root, name)
            about = path.lstat()
            entry: tuple = (stat.filemode(about.st_mode),)
            if stat.S_ISLNK(about.st_mode):
                entry += (os.readlink(path),)
            elif stat.S_ISREG(about.st_mode):
                entry += (about.st_size, _digest(path, about))
            entries[path.relative_to(folder).as_posix()] = entry
    return entries


def _digest(path: Path, about: os.stat_result) -> Any:
    if about.st_size > _HASHED:
        return about.st_mtime_ns, about.st_blocks
    try:
        return hashlib.blake2b(path.read_bytes()).hexdigest()
    except PermissionError:
        return about.st_mtime_ns


def _status(path: Path) -> int:
    if path.parent.name == "tools":
        sys.path.insert(0, str(path.parent))  # as the interpreter does with a script's folder
    try:
        runpy.run_path(str(path), run_name="__main__")
    except SystemExit as error:
        if isinstance(error.code, str):  # what the interpreter does with it
            print(error.code, file=sys.stderr)
            return 1
        return error.code or 0
    return 0


@contextlib.contextmanager
def _captured() -> Iterator[tuple[list[str], list[str]]]:
    """Catches what is written to the standard streams, by native code too; the lists hold it afterwards."""
    texts: tuple[list[str], list[str]] = ([], [])
    streams = sys.stdout, sys.stderr
    for stream in streams:
        stream.flush()
    kept = [os.dup(number) for number in (1, 2)]
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        for number, file in ((1, out), (2, err)):
            os.dup2(file.fileno(), number)
        # Unbuffered, as the order of Python's and native code's lines matters to a reader.
        sys.stdout, sys.stderr = (
            os.fdopen(os.dup(number), "w", encoding="utf-8", errors="backslashreplace", buffering=1)
            for number in (1, 2)
        )
        try:
            yield texts
        finally:
            for stream in (sys.stdout, sys.stderr):
                stream.close()
            sys.stdout, sys.stderr = streams
            for number, saved in zip((1, 2), kept):
                os.dup2(saved, number)
                os.close(saved)
            for file, text in zip((out, err), texts):
                file.seek(0)
                text.append(file.read().decode("utf-8", "backslashreplace"))


@contextlib.contextmanager
def _restored(folder: Path, temporary: Path, argv: list[str]) -> Iterator[None]:
    """Sets the working directory, the folder for temporary files and the arguments; puts back all that changes."""
    kept = sys.argv, os.getcwd(), dict(os.environ), tempfile.tempdir, sys.path[:], sys.modules["__main__"]
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)}
    sys.argv, tempfile.tempdir = argv, str(temporary)
    os.environ["TMPDIR"] = str(temporary)
    os.chdir(folder)
    try:
        with warnings.catch_warnings():
            warnings.resetwarnings()
            warnings.showwarning = _show_warning  # pytest collects them
            warnings.simplefilter("ignore", DeprecationWarning)
            yield
    finally:
        sys.argv, working, environment, tempfile.tempdir, sys.path[:], sys.modules["__main__"] = kept
        os.chdir(working)
        for name in set(os.environ) - set(environment):
            del os.environ[name]
        os.environ.update(environment)
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    print(warnings.formatwarning(message, category, filename, lineno, line), file=file or sys.stderr, end="")


class _Late(BaseException):
    """The run took too long. Not an Exception, so that no command takes it for its own."""


@contextlib.contextmanager
def _time_limit(seconds: float, command: str) -> Iterator[None]:
    """Ends the block after `seconds`; native code that does not return ends the process, with a traceback, later."""

    def end(number: int, frame: Any) -> None:
        raise _Late

    before = signal.signal(signal.SIGALRM, end)
    faulthandler.dump_traceback_later(4 * seconds, exit=True, file=sys.__stderr__)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    except _Late:
        raise AssertionError(f"{command} ran longer than {seconds:g} s") from None
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        faulthandler.cancel_dump_traceback_later()
        signal.signal(signal.SIGALRM, before)


@contextlib.contextmanager
def _memory_limit() -> Iterator[list[int]]:
    """Bounds the address space, so that a bomb meets MemoryError and not the kernel; reports how far the resident size
    rose above what it was."""
    grown: list[int] = []
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    soft = resource.getrlimit(resource.RLIMIT_AS)[0]
    limit = _process_size("VmSize") + _HEADROOM
    resource.setrlimit(resource.RLIMIT_AS, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))
    Path("/proc/self/clear_refs").write_text("5")  # starts VmHWM, the highest resident size, anew
    before = _process_size("VmRSS")
    try:
        yield grown
    finally:
        grown.append(max(_process_size("VmHWM") - before, 0))
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def _process_size(field: str) -> int:
    """A size of this process in bytes, by its name in /proc/self/status."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise KeyError(field)


class _CapabilityHeader(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


_CAPABILITY_VERSION = 0x20080522
_PAST_PERMISSIONS = 0b110  # CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH, capability.h


@contextlib.contextmanager
def _without_root_permissions() -> Iterator[None]:
    """Lets file permissions bind this thread, and those it starts, even if it is root's (capset(2))."""
    libc = ctypes.CDLL(None, use_errno=True)
    header = _CapabilityHeader(_CAPABILITY_VERSION, 0)
    kept = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable; twice
    if libc.capget(ctypes.byref(header), kept) != 0:
        raise OSError(ctypes.get_errno(), "capget")
    fewer = (ctypes.c_uint32 * 6)(*kept)
    fewer[0] &= ~_PAST_PERMISSIONS
    libc.capset(ctypes.byref(header), fewer)
    try:
        yield
    finally:
        if libc.capset(ctypes.byref(header), kept) != 0:
            raise OSError(ctypes.get_errno(), "capset")
