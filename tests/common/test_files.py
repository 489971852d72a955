"""Files: what is refused as input, and outputs that appear whole or not at all."""

import contextlib
import errno
import json
import os
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from hostile.kinds import largest_file

from champ_jax.common import files
from champ_jax.common.errors import InputError
from champ_jax.common.files import atomic_path, read_json, read_text, require_file, require_folder


@pytest.fixture
def folder(tmp_path):
    return tmp_path


def fail_halfway(path):
    with atomic_path(path) as temporary:
        temporary.write_text("half")
        raise ZeroDivisionError


def names(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def as_user(code):
    """Runs Python code as a user without root's powers; True if it ended with status 0."""
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code).replace("BECOME_USER", "if os.getuid() == 0: os.setuid(65534)")],
        env=os.environ,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (lambda path: None, "no such file"),
        (lambda path: path.mkdir(), "is a folder, not a file"),
        (lambda path: os.mkfifo(path), r"is a pipe \(FIFO\), not a file"),
        (lambda path: path.symlink_to("/dev/null"), "is a device, not a file"),
        (lambda path: path.symlink_to("nowhere"), "no such file .the link leads nowhere"),
        (lambda path: path.symlink_to(path), "cannot be read"),
    ],
)
def test_inputs_that_are_not_files(folder, make, word):
    make(folder / "x")
    with pytest.raises(InputError, match=f"x: {word}"):
        require_file(folder / "x")


@pytest.mark.parametrize("name", ["n" * 300, "a\0b", "\ud800"])
def test_impossible_names(folder, name):
    for use in (require_file, require_folder):
        with pytest.raises(InputError):
            use(folder / name)
    with pytest.raises(InputError), atomic_path(folder / name):
        pass
    assert not names(folder)


def test_a_file_where_a_folder_is_meant_is_described(folder):
    (folder / "maps").write_bytes(b"PK\x03\x04")
    with pytest.raises(InputError, match=r"maps: is a zip archive.*; a folder is expected"):
        require_folder(folder / "maps")


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (b"", "is empty"),
        (b"{", r"is not JSON \(line 1, column 2"),
        (b"[" * 100_000, "nested too deeply"),
        (b"9" * 5000, "is not JSON"),
        (b"\x89PNG\r\n\x1a\n" + bytes(range(256)), "is a PNG picture; UTF-8 text is expected"),
        (b"<html>", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"),
        (b"[" + b"1," * 600 + b"1]", "more than the 1.0 KiB"),
    ],
)
def test_text_that_is_not_json(folder, data, word):
    (folder / "x.json").write_bytes(data)
    with pytest.raises(InputError, match=rf"x\.json: .*{word}") as caught:
        read_json(folder / "x.json", limit=1024 if b"1," in data else files.MAX_JSON)
    assert "\n" not in str(caught.value)


def test_json_with_a_byte_order_mark(folder):
    (folder / "x.json").write_bytes(b'\xef\xbb\xbf{"a": 1}')
    assert read_json(folder / "x.json") == {"a": 1}
    files.write_json(folder / "y.json", {"a": 1})
    assert json.loads((folder / "y.json").read_text()) == {"a": 1}


def test_permissions_are_named(folder):
    (folder / "secret").write_text("x")
    (folder / "secret").chmod(0)
    (folder / "closed").mkdir()
    (folder / "closed").chmod(0)
    folder.chmod(0o755)
    for parent in folder.parents[:3]:
        with contextlib.suppress(OSError):
            parent.chmod(parent.stat().st_mode | 0o55)
    as_user(
        f"""
        import os
        from pathlib import Path
        from champ_jax.common.errors import InputError
        from champ_jax.common.files import atomic_path, read_text, require_folder
        BECOME_USER
        folder = Path({str(folder)!r})
        def write(path):
            with atomic_path(path) as temporary:
                temporary.write_text("x")
        for use, path in ((read_text, folder / "secret"), (require_folder, folder / "closed"),
                          (read_text, folder / "closed" / "x"), (write, folder / "new"),
                          (write, folder / "closed" / "new")):
            try:
                use(path)
            except InputError as error:
                assert "permission denied" in str(error) and str(path) in str(error), error
            else:
                raise AssertionError(path)
        """
    )


def test_an_output_replaces_only_when_it_is_whole(folder):
    path = folder / "deep" / "out.txt"
    with pytest.raises(ZeroDivisionError):
        fail_halfway(path)
    assert not names(folder)
    for text in ("first", "second"):
        with atomic_path(path) as temporary:
            assert temporary.suffix == ".txt"
            temporary.write_text(text)
    assert path.read_text() == "second"
    with pytest.raises(ZeroDivisionError):
        fail_halfway(path)
    assert path.read_text() == "second"
    with pytest.raises(InputError, match="exists already"), atomic_path(path, replace=False):
        pass
    assert names(folder) == ["deep", "deep/out.txt"]


def test_a_folder_is_replaced_whole(folder):
    for name in ("a", "b"):
        with atomic_path(folder / "out", folder=True) as temporary:
            temporary.mkdir()
            (temporary / name).write_text(name)
    assert names(folder) == ["out", "out/b"]


@pytest.mark.parametrize("as_folder", [False, True])
def test_what_is_of_another_kind_is_never_replaced(folder, as_folder):
    (folder / "file").write_text("mine")
    (folder / "folder").mkdir()
    (folder / "folder" / "mine").write_text("mine")
    (folder / "nowhere").symlink_to("gone")
    os.mkfifo(folder / "pipe")
    before = names(folder)
    outputs = [
        "file" if as_folder else "folder",
        "nowhere",
        "pipe",
        "file/below",
        "file/a/b",
        *([] if as_folder else ["file/"]),
    ]
    for name in [*outputs, *([] if as_folder else [".", "folder/", "new/"])]:
        with (
            pytest.raises(InputError, match=r"file|folder|link|pipe"),
            atomic_path(f"{folder}/{name}", folder=as_folder),
        ):
            raise AssertionError(name)
    assert names(folder) == before


def test_a_link_to_a_file_stays_a_link(folder):
    (folder / "disk").mkdir()
    (folder / "disk" / "real.txt").write_text("old")
    (folder / "link.txt").symlink_to("disk/real.txt")
    with atomic_path(folder / "link.txt") as temporary:
        temporary.write_text("new")
    assert (folder / "link.txt").is_symlink()
    assert (folder / "disk" / "real.txt").read_text() == "new"


KILLED = """
import os, signal, sys
from pathlib import Path
from champ_jax.common.files import atomic_path
with atomic_path(Path(sys.argv[1]), folder=sys.argv[2] == "folder") as temporary:
    if sys.argv[2] == "folder":
        temporary.mkdir()
        temporary = temporary / "x"
    temporary.write_text("half")
    if len(sys.argv) > 3:
        rename = os.replace
        os.replace = lambda *paths: os.kill(os.getpid(), signal.SIGKILL)
    else:
        os.kill(os.getpid(), signal.SIGKILL)
"""


def kill_in(*arguments):
    result = subprocess.run([sys.executable, "-c", KILLED, *map(str, arguments)], env=os.environ, timeout=60)
    assert result.returncode == -signal.SIGKILL


def test_the_next_run_removes_what_a_killed_one_left(folder):
    (folder / ".out.txt.notours1").mkdir()  # the name fits, but the mark in it is missing
    with atomic_path(folder / "out.txt") as alive:
        alive.write_text("alive")
        kill_in(folder / "out.txt", "file")
        assert len(names(folder)) == 1 + 3 + 3
        with atomic_path(folder / "out.txt") as temporary:
            temporary.write_text("other")
    assert names(folder) == [".out.txt.notours1", "out.txt"]
    assert (folder / "out.txt").read_text() == "alive"


def test_a_folder_whose_replacement_was_killed_comes_back(folder):
    (folder / "out").mkdir()
    (folder / "out" / "x").write_text("earlier")
    kill_in(folder / "out", "folder", "between the renames")
    assert not (folder / "out").exists()
    with pytest.raises(ZeroDivisionError), atomic_path(folder / "out", folder=True):
        raise ZeroDivisionError
    assert names(folder) == ["out", "out/x"]
    assert (folder / "out" / "x").read_text() == "earlier"


def save_safetensors(path):
    from safetensors.numpy import save_file

    save_file({"a": np.zeros(2**18)}, path)


def save_torch(path):
    import torch

    torch.save(torch.zeros(2**18), path)


def save_orbax(path):
    import orbax.checkpoint as ocp

    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(path.absolute(), {"a": np.random.default_rng(0).random(2**18)})


def save_npy(path):
    with open(path, "wb") as file:
        np.save(file, np.zeros(2**18))


def save_npz(path):
    np.savez(path, a=np.zeros(2**18))


WRITERS = (lambda path: path.write_bytes(bytes(2**20)), save_npy, save_npz, save_safetensors, save_torch, save_orbax)


@pytest.mark.parametrize("write", WRITERS, ids=["bytes", "npy", "npz", "safetensors", "torch", "orbax"])
def test_a_full_disk_is_one_line_and_keeps_the_earlier_result(folder, write):
    as_folder = write is save_orbax
    if as_folder:
        (folder / "out.npz").mkdir()
    else:
        (folder / "out.npz").write_text("earlier")
    before = names(folder)
    with (
        largest_file(2**16),
        pytest.raises(InputError, match=r"out\.npz: the disk or quota is full") as caught,
        atomic_path(folder / "out.npz", folder=as_folder) as temporary,
    ):
        write(temporary)
    assert "\n" not in str(caught.value)
    assert names(folder) == before


def test_other_errors_are_not_taken_for_a_full_disk(folder):
    for error in (OSError(errno.EIO, "input/output error"), ValueError("wrong"), RuntimeError("bug")):
        assert not files.is_disk_full(error)
        with pytest.raises(type(error)), atomic_path(folder / "out"):
            raise error
    wrapped = RuntimeError("task failed")
    wrapped.__cause__ = ExceptionGroup("many", [ValueError("x"), OSError(errno.EDQUOT, "over quota")])
    assert files.is_disk_full(wrapped)


@pytest.mark.skipif(os.getuid() != 0, reason="mounting needs root")
def test_a_disk_that_is_full(folder):
    disk = folder / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("this machine mounts nothing")
    try:
        (disk / "out").write_text("earlier")
        with pytest.raises(InputError, match="full"), atomic_path(disk / "out") as temporary:
            temporary.write_bytes(bytes(2**20))
        assert (disk / "out").read_text() == "earlier"
        assert names(disk) == ["out"]
    finally:
        subprocess.run(["umount", disk], check=True)


def test_text(folder):
    (folder / "x").write_bytes("größer".encode("latin1"))
    with pytest.raises(InputError, match="UTF-8"):
        read_text(folder / "x")
