"""Compares the memory and disk that are available with what a run will need, before it begins."""

import os
import resource
import shutil
from pathlib import Path

from champ_jax.common.errors import InputError

_CONTROL_GROUPS = Path("/proc/self/cgroup")
_CONTROL_GROUP_ROOT = Path("/sys/fs/cgroup")
_UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")


def size_text(size: float) -> str:
    """A number of bytes as a person reads it: '312 bytes', '3.4 KiB', '12.0 GiB'."""
    unit = 0
    while abs(size) >= 1024 and unit < len(_UNITS) - 1:
        size, unit = size / 1024, unit + 1
    return f"{size:,.0f} {_UNITS[unit]}" if unit == 0 else f"{size:,.1f} {_UNITS[unit]}"


def available_memory() -> int:
    """Bytes of host memory that this process can still take.

    The least of what the machine has available, what the control groups (containers) leave, and what the address space
    limit (`ulimit -v`) leaves.
    """
    found = [_machine_memory()]
    found += [limit - used for limit, used in _control_groups()]
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    if soft != resource.RLIM_INFINITY:
        found.append(soft - _address_space())
    return max(min(found), 0)


def require_memory(size: int, what: str, remedy: str) -> None:
    """Raises InputError if less than `size` bytes of memory are available.

    Args:
      size: bytes that will be taken, all in all.
      what: what takes them, the subject of the message.
      remedy: what the user can do.
    """
    free = available_memory()
    if size > free:
        raise InputError(f"{what}: needs {size_text(size)} of memory, {size_text(free)} are available; {remedy}")


def require_space(path: str | os.PathLike, size: int) -> None:
    """Raises InputError if the disk that will hold `path` has less than `size` bytes free."""
    folder = Path(path).absolute()
    try:
        while not folder.exists() and folder != folder.parent:
            folder = folder.parent
        free = shutil.disk_usage(folder).free
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be written ({error}); name another output") from error
    if free < size:
        raise InputError(
            f"{path}: needs {size_text(size)}, the disk has {size_text(free)} free; free some or name another output"
        )


def _machine_memory() -> int:
    try:
        with open("/proc/meminfo") as file:
            for line in file:
                if line.startswith("MemAvailable:"):
                    return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _control_groups() -> list[tuple[int, int]]:
    """(limit, used) in bytes of every memory control group this process is in; page caches do not count as used."""
    try:
        entries = [line.split(":", 2) for line in _CONTROL_GROUPS.read_text().splitlines()]
    except OSError:
        return []
    found = []
    for _, controllers, name in (entry for entry in entries if len(entry) == 3):
        if controllers and "memory" not in controllers.split(","):
            continue
        root = _CONTROL_GROUP_ROOT / "memory" if controllers else _CONTROL_GROUP_ROOT
        files = ("memory.limit_in_bytes", "memory.usage_in_bytes") if controllers else ("memory.max", "memory.current")
        folder = root / name.lstrip("/")
        for place in [folder, *folder.parents]:
            if root not in [place, *place.parents]:
                break
            limit, used = (_read_number(place / file) for file in files)
            if limit is not None and used is not None:
                found.append((limit, used - _page_cache(place)))
    return found


def _read_number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):  # 'max'
        return None


def _page_cache(folder: Path) -> int:
    try:
        statistics = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
        return int(statistics.get("inactive_file", statistics.get("total_inactive_file", 0)))
    except (OSError, ValueError):
        return 0


def _address_space() -> int:
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0
