"""Disk, memory, shared memory, and the folders that are written to."""

import os
import shutil
import tempfile
from pathlib import Path

from champ_jax.common.limits import available_memory, size_text
from champ_jax.doctor.findings import OK, PROBLEM, WARNING, Finding

GROUP = "Machine"
MEMORY = 1400 * 2**20
"""Bytes that animating with the built-in model takes at its peak, measured on a CPU."""

_RESULTS = 50 * 2**20  # disk for results
_COMFORTABLE_DISK, _COMFORTABLE_MEMORY = 2**30, 4 * 2**30
_SHARED = 2**30
_SHARED_FOLDER = Path("/dev/shm")


def check_processors() -> list[Finding]:
    """How many processors this process may use."""
    try:
        count = len(os.sched_getaffinity(0))
    except AttributeError:
        count = os.cpu_count() or 1
    return [Finding(GROUP, "processors", OK, f"{count} that this process may use, {os.cpu_count()} in the machine")]


def check_memory() -> list[Finding]:
    """Host memory."""
    free = available_memory()
    value = f"{size_text(free)} available"
    if free < MEMORY:
        remedy = f"end other programs or raise the container's limit; the built-in model needs {size_text(MEMORY)}"
        return [Finding(GROUP, "memory", PROBLEM, value, remedy, needed=True)]
    if free < _COMFORTABLE_MEMORY:
        return [Finding(GROUP, "memory", WARNING, value, "Champ's weights need 10 GiB or more; end other programs")]
    return [Finding(GROUP, "memory", OK, value)]


def check_shared_memory() -> list[Finding]:
    """/dev/shm, through which processes that read training data pass it on."""
    if not _SHARED_FOLDER.is_dir():
        return [Finding(GROUP, str(_SHARED_FOLDER), OK, "there is none on this system")]
    size, _, free = shutil.disk_usage(_SHARED_FOLDER)
    value = f"{size_text(free)} of {size_text(size)} free"
    if free < _SHARED:
        remedy = "for training: docker run --shm-size=8g, or --config.data.workers=0"
        return [Finding(GROUP, str(_SHARED_FOLDER), WARNING, value, remedy)]
    return [Finding(GROUP, str(_SHARED_FOLDER), OK, value)]


def check_results() -> list[Finding]:
    """The folder that results go to where nothing else is said, and its disk."""
    folder = Path.cwd()
    findings = []
    why = why_not_writable(folder / "results")
    if why:
        remedy = "run in a folder that you may write to, or name the results: --config.output=FOLDER/animation.mp4"
        findings.append(Finding(GROUP, "results", PROBLEM, f"{folder / 'results'}: {why}", remedy, needed=True))
    else:
        findings.append(Finding(GROUP, "results", OK, f"{folder / 'results'} can be written"))
    free = shutil.disk_usage(folder).free
    value = f"{size_text(free)} free where {folder} is"
    if free < _RESULTS:
        findings.append(Finding(GROUP, "disk", PROBLEM, value, "free some, or run on another disk", needed=True))
    elif free < _COMFORTABLE_DISK:
        findings.append(Finding(GROUP, "disk", WARNING, value, "free some; weights and videos need more"))
    else:
        findings.append(Finding(GROUP, "disk", OK, value))
    return findings


def check_temporary() -> list[Finding]:
    """The folder for temporary files."""
    remedy = "set TMPDIR to a folder that you may write to"
    try:
        folder = Path(tempfile.gettempdir())
    except OSError as error:
        return [Finding(GROUP, "temporary files", WARNING, str(error), remedy)]
    why = why_not_writable(folder)
    if why:
        return [Finding(GROUP, "temporary files", WARNING, f"{folder}: {why}", remedy)]
    return [Finding(GROUP, "temporary files", OK, f"{folder} can be written")]


def check_caches() -> list[Finding]:
    """Where compiled programs and completions are kept."""
    folders = {"cache": Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")) / "champ_jax"}
    compiled = os.environ.get("JAX_COMPILATION_CACHE_DIR")
    if compiled and "://" not in compiled:
        folders["JAX's cache"] = Path(compiled)
    findings = []
    for name, folder in folders.items():
        why = why_not_writable(folder)
        if why:
            variable = "JAX_COMPILATION_CACHE_DIR" if name != "cache" else "XDG_CACHE_HOME"
            remedy = f"programs are compiled anew in every run; set {variable} to a folder that you may write to"
            findings.append(Finding(GROUP, name, WARNING, f"{folder}: {why}", remedy))
        else:
            findings.append(Finding(GROUP, name, OK, f"{folder} can be written"))
    return findings


def why_not_writable(folder: Path) -> str | None:
    """Why no file can be written in `folder`, which may not exist yet; None if it can. Nothing is left there."""
    try:
        place = folder.absolute()
        while not os.path.lexists(place) and place != place.parent:
            place = place.parent
        if not place.is_dir():
            return f"{place} is not a folder"
        with tempfile.TemporaryFile(dir=place) as file:
            file.write(b"champ")
            file.flush()
    except (OSError, ValueError) as error:
        return f"cannot be written ({getattr(error, 'strerror', None) or error})"
    return None
