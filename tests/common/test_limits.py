"""Available memory and disk, and how messages give them."""

import resource
import subprocess
import sys

import pytest

from champ_jax.common import limits
from champ_jax.common.errors import InputError
from champ_jax.common.limits import available_memory, require_memory, require_space, size_text


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 bytes"),
        (312, "312 bytes"),
        (2048, "2.0 KiB"),
        (5.5 * 2**20, "5.5 MiB"),
        (3 * 2**40, "3.0 TiB"),
        (2**70, "1,024.0 EiB"),
    ],
)
def test_sizes_are_said_in_a_unit_that_shows_something(size, text):
    assert size_text(size) == text


def test_a_small_lack_is_not_said_as_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(limits.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 100}))
    with pytest.raises(InputError, match=r"x: needs 300 bytes, the disk has 100 bytes free"):
        require_space(tmp_path / "new" / "x", 300)
    require_space(tmp_path / "x", 100)


def test_memory_that_is_not_there(monkeypatch):
    with pytest.raises(InputError, match=r"x: needs 1\.0 EiB of memory, .* are available; make it smaller"):
        require_memory(2**60, "x", "make it smaller")
    require_memory(2**20, "x", "make it smaller")
    assert 2**20 < available_memory() < 2**50


def test_the_limit_of_the_address_space_counts():
    code = "from champ_jax.common.limits import available_memory; print(available_memory())"
    limit = 2**31
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)),
    )
    assert 0 < int(done.stdout) < limit


@pytest.mark.parametrize("version", [1, 2])
def test_limits_of_containers_count(tmp_path, monkeypatch, version):
    """The least of a group and those around it, without the page cache, as /sys/fs/cgroup lists them."""
    root = tmp_path / ("memory" if version == 1 else ".")
    names = ("memory.limit_in_bytes", "memory.usage_in_bytes") if version == 1 else ("memory.max", "memory.current")
    inner = root / "outer" / "inner"
    inner.mkdir(parents=True)
    for folder, limit in ((inner, "max" if version == 2 else str(2**63 - 4096)), (inner.parent, str(300 * 2**20))):
        (folder / names[0]).write_text(f"{limit}\n")
        (folder / names[1]).write_text(f"{200 * 2**20}\n")
        (folder / "memory.stat").write_text(f"inactive_file {50 * 2**20}\n")
    groups = tmp_path / "groups"
    groups.write_text("4:memory:/outer/inner\n" if version == 1 else "0::/outer/inner\n")
    monkeypatch.setattr(limits, "_CONTROL_GROUPS", groups)
    monkeypatch.setattr(limits, "_CONTROL_GROUP_ROOT", tmp_path)
    assert available_memory() == 150 * 2**20
