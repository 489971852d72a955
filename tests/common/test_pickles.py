"""Restricted reading: every container of the field opens, nothing that calls anything does."""

import bz2
import gzip
import lzma
import os
import pickle
import re
import struct
import subprocess
import sys
import tracemalloc
import zipfile
import zlib
from collections import OrderedDict, defaultdict

import joblib
import numpy as np
import pytest
import scipy.sparse
import torch
from common import fuzz_readers

from champ_jax.common import arrays
from champ_jax.common.arrays import open_npz, read_npy
from champ_jax.common.errors import InputError
from champ_jax.common.pickles import read_arrays

TREE = {
    "a": np.arange(12, dtype=np.float32).reshape(3, 4),
    "f": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "list": [np.int64(3), "text", (1.5, None, True)],
    "empty": np.zeros((0, 3)),
}


def check(read):
    assert read.keys() == TREE.keys()
    for name in ("a", "f", "empty"):
        np.testing.assert_array_equal(read[name], TREE[name])
    assert read["list"] == TREE["list"]


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickles_of_every_protocol(tmp_path, protocol):
    path = tmp_path / "file.pkl"
    path.write_bytes(pickle.dumps(TREE, protocol=protocol))
    check(read_arrays(path))


@pytest.mark.parametrize("compress", [0, 3, ("gzip", 3), ("bz2", 3), ("xz", 3), ("lzma", 3)])
def test_joblib_files(tmp_path, compress):
    path = tmp_path / "file.pkl"
    nested = {
        "tree": TREE,
        "objects": np.array([{"x": np.ones(2)}, None], dtype=object),
        "more": defaultdict(dict, k={1: 2}),
    }
    joblib.dump(nested, path, compress=compress)
    read = read_arrays(path)
    check(read["tree"])
    np.testing.assert_array_equal(read["objects"][0]["x"], np.ones(2))
    assert read["more"] == {"k": {1: 2}}


def test_npy_and_npz_with_object_arrays(tmp_path):
    np.save(tmp_path / "a.npy", TREE)
    check(read_arrays(tmp_path / "a.npy"))
    np.savez_compressed(tmp_path / "b.npz", plain=TREE["f"], objects=np.array([TREE, TREE], dtype=object))
    read = read_arrays(tmp_path / "b.npz")
    np.testing.assert_array_equal(read["plain"], TREE["f"])
    check(read["objects"][1])


def test_torch_files_and_pickled_tensors(tmp_path):
    tensors = OrderedDict(x=torch.arange(6).reshape(2, 3).T, h=torch.ones(2, dtype=torch.bfloat16))
    torch.save({"p": tensors}, tmp_path / "a.pt")
    np.save(tmp_path / "b.npy", dict(tensors))
    for read in (read_arrays(tmp_path / "a.pt")["p"], read_arrays(tmp_path / "b.npy")):
        np.testing.assert_array_equal(read["x"], [[0, 3], [1, 4], [2, 5]])
        np.testing.assert_array_equal(read["h"], [1.0, 1.0])


@pytest.mark.parametrize("legacy", [False, True])
def test_large_tensors(tmp_path, legacy):
    """Most of a file may lie outside of its pickle."""
    large = torch.arange(3_000_000, dtype=torch.int8)
    torch.save({"a": large, "b": large[5:10]}, tmp_path / "x.pth", _use_new_zipfile_serialization=not legacy)
    read = read_arrays(tmp_path / "x.pth")
    np.testing.assert_array_equal(read["a"], large.numpy())
    np.testing.assert_array_equal(read["b"], [5, 6, 7, 8, 9])


@pytest.mark.parametrize("kind", ["csc", "csr", "coo"])
def test_sparse_matrices(tmp_path, kind):
    dense = np.array([[0, 2.0, 0], [1, 0, 0]])
    (tmp_path / "s.pkl").write_bytes(pickle.dumps({"s": scipy.sparse.coo_matrix(dense).asformat(kind)}))
    np.testing.assert_array_equal(read_arrays(tmp_path / "s.pkl")["s"], dense)


class Evil:
    """Unpickles by calling."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("container", ["pickle", "joblib", "joblib-compressed", "npy", "npz", "torch"])
@pytest.mark.parametrize("call", ["system", "eval", "exec", "import", "getattr"])
def test_nothing_in_a_file_runs(tmp_path, container, call):
    mark = tmp_path / "ran"
    code = f"open({str(mark)!r}, 'w')"
    evil = {
        "system": Evil(os.system, f"touch {mark}"),
        "eval": Evil(eval, code),
        "exec": Evil(exec, code),
        "import": Evil(__import__, "this"),
        "getattr": Evil(getattr, Evil(__import__, "os"), "system"),
    }[call]
    path, value = tmp_path / "evil", {"pose": np.zeros(3), "x": evil}
    if container == "pickle":
        path.write_bytes(pickle.dumps(value))
    elif container.startswith("joblib"):
        joblib.dump(value, path, compress=3 if "compressed" in container else 0)
    elif container == "npy":
        with open(path, "wb") as file:
            np.save(file, value, allow_pickle=True)
    elif container == "npz":
        with open(path, "wb") as file:
            np.savez(file, value=np.array([value], dtype=object))
    else:
        torch.save(value, path)
    with pytest.raises(InputError, match=r"nothing in it was run") as caught:
        read_arrays(path)
    assert not mark.exists()
    name = {"import": "__import__", "getattr": r"getattr"}.get(call, call)
    assert container == "torch" or name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_pickle_cannot_change_what_the_reader_uses(tmp_path):
    """BUILD on a class or function of the table would set attributes on it."""
    attack = b"\x80\x02cnumpy.core.multiarray\n_reconstruct\n}X\x04\x00\x00\x00nameX\x01\x00\x00\x00xsb."
    (tmp_path / "build.pkl").write_bytes(attack)
    with pytest.raises(InputError, match="a change to"):
        read_arrays(tmp_path / "build.pkl")


@pytest.mark.parametrize("cut", [1, 40, 200])
def test_files_that_break_off(tmp_path, cut):
    joblib.dump(TREE, tmp_path / "whole.pkl")
    data = (tmp_path / "whole.pkl").read_bytes()
    (tmp_path / "cut.pkl").write_bytes(data[:-cut])
    with pytest.raises(InputError, match=r"cut\.pkl"):
        read_arrays(tmp_path / "cut.pkl")


def short(text):
    return b"\x8c" + bytes([len(text)]) + text.encode()


def named(module, name):
    return short(module) + short(name) + b"\x93"


def forged_dtype(flags=0, order="|", size=8):
    """numpy.dtype('O8') whose state says that it holds no objects: numbers would be taken for pointers."""
    state = b"(K\x03" + short(order) + b"NNNJ" + struct.pack("<i", size) + b"K\x08K" + bytes([flags]) + b"t"
    return named("numpy", "dtype") + short("O8") + b"\x89\x88\x87R" + state + b"b"


def forged_scalar(pointer=0x4141414141414141):
    data = struct.pack("<Q", pointer)
    return b"\x80\x04" + named("numpy._core.multiarray", "scalar") + forged_dtype() + b"C\x08" + data + b"\x86R."


READ = """
import sys
from champ_jax.common import cli
from champ_jax.common.pickles import read_arrays
for path in sys.argv[1:]:
    try:
        cli.run(lambda arguments: print(read_arrays(path)), [])
    except SystemExit as end:
        print(end.code)
"""


def forged_files(folder):
    """The same attack in every container that can hold a pickle."""
    payload = forged_scalar()
    header = b"{'descr': '|O', 'fortran_order': False, 'shape': (), }\n"
    npy = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + payload
    (folder / "a.pkl").write_bytes(payload)
    (folder / "b.npy").write_bytes(npy)
    with zipfile.ZipFile(folder / "c.npz", "w") as archive:
        archive.writestr("x.npy", npy)
    (folder / "d.pkl").write_bytes(zlib.compress(payload))
    wrapper = named("joblib.numpy_pickle", "NumpyArrayWrapper") + b")\x81}("
    wrapper += short("shape") + b"K\x01\x85" + short("dtype") + forged_dtype() + short("order") + short("C") + b"ub"
    (folder / "e.pkl").write_bytes(b"\x80\x04" + wrapper + struct.pack("<Q", 0x4141414141414141) + b".")
    with zipfile.ZipFile(folder / "f.pth", "w") as archive:
        archive.writestr("x/data.pkl", payload)
    state = b"(K\x01K\x01\x85" + forged_dtype() + b"\x89C\x08AAAAAAAAtb."
    array = named("numpy._core.multiarray", "_reconstruct") + named("numpy", "ndarray") + b"K\x00\x85C\x01b\x87R"
    (folder / "g.pkl").write_bytes(b"\x80\x04" + array + state)
    buffer = named("numpy._core.numeric", "_frombuffer") + b"(C\x08AAAAAAAA" + forged_dtype()
    (folder / "h.pkl").write_bytes(b"\x80\x04" + buffer + b"K\x01\x85" + short("C") + b"tR.")
    return sorted(folder.iterdir())


def test_forged_dtypes_become_no_pointers(tmp_path):
    """Python's own unpickler, given only numpy's dtype and scalar, dies of the first file."""
    paths = [str(path) for path in forged_files(tmp_path)]
    naive = "import pickle, sys; print(pickle.load(open(sys.argv[1], 'rb')))"
    assert subprocess.run([sys.executable, "-c", naive, paths[0]], capture_output=True, check=False).returncode < 0
    done = subprocess.run([sys.executable, "-c", READ, *paths], capture_output=True, text=True, check=False)
    lines = done.stderr.splitlines()
    assert (done.returncode, done.stdout, len(lines)) == (0, "2\n" * len(paths), len(paths)), done
    for path, line in zip(paths, lines):
        assert line.startswith(f"error: {path}: ")


def nested(depth):
    return b"\x80\x04" + b"]" * depth + b"a" * (depth - 1) + b"."


def doubled(levels):
    """Lists of the list before, twice: 2 ** levels elements in a few bytes a level."""
    steps = b"".join(b"]\x94(h" + bytes([i]) + b"h" + bytes([i]) + b"e" for i in range(levels))
    return b"\x80\x04]\x94" + steps + b"."


HOSTILE = {
    "nested": (nested(100_000), "nested more than"),
    "doubled": (doubled(60), "so often"),
    "itself": (b"\x80\x04]\x94h\x00a.", "contains itself"),
    "long integer": (b"\x80\x04\x8b\x00\x00\x00\x10" + b"\x01" * 5000 + b".", "an integer of"),
    "long digits": (b"L" + b"9" * 100_000 + b"L\n.", "an integer of"),
    "long bytes": (b"\x80\x04\x8e" + b"\xff" * 7 + b"\x0f.", "truncated"),
    "long array of bytes": (b"\x80\x05\x96" + b"\xff" * 7 + b"\x0f.", "truncated"),
    "long text": (b"\x80\x04\x8d" + b"\xff" * 7 + b"\x0f.", "truncated"),
    "frame": (b"\x80\x04\x95" + b"\xff" * 8 + b"N", "truncated"),
    "bytes of a length": (b"\x80\x04" + named("builtins", "bytearray") + b"J\xff\xff\xff\x7f\x85R.", "of a int"),
    "registry": (b"\x80\x04\x82\x01.", "extension registry"),
    "outside": (b"\x80\x04\x8c\x01aQ.", "outside the file"),
    "terminal": (b"cos\x1b[2J\nsystem\n.", "nothing in it was run"),
    "large string": (b"\x80\x04" + named("numpy", "dtype") + short("U999999999") + b"\x85R)\x81.", "damaged"),
    "records": (pickle.dumps(np.zeros(2, [("a", "f4")])), "array of records"),
    "dates": (pickle.dumps(np.zeros(2, "M8[s]")), "array of type <M8"),
    "short array": (pickle.dumps(np.arange(8.0)).replace(b"K\x08\x85", b"K\x80\x85"), "which takes"),
    "web page": (b"<!DOCTYPE html><html>Sign in</html>", "web page"),
    "pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:118\n", "git lfs pull"),
    "empty": (b"", "is empty"),
    "video": (b"\x00\x00\x00\x20ftypisom" + bytes(100), "is a video"),
}


def npy(shape, descr="'<f4'", data=bytes(16)):
    header = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + data


HOSTILE |= {
    "npy of many": (npy("(1000000000000,)"), "which takes 3.6 TiB, but only 16 bytes follow"),
    "npy beyond all": (npy(f"({2**62}, {2**62})"), "impossible shape"),
    "npy negative": (npy("(-1,)"), "damaged .npy header"),
    "npy deep": (npy("(" * 20_000), "damaged .npy header"),
    "npy of dimensions": (npy("(" + "1," * 40 + ")"), "impossible shape"),
    "npy of strings of no length": (npy("(1000000000,)", "'<U0'"), "which takes"),
    "npy of records": (npy("(1,)", "[('a', '<f4')]"), "array of records"),
    "npy of subarrays": (npy("(1,)", "('<f4', (1000000000,))"), "array of records"),
    "npy header": (b"\x93NUMPY\x02\x00\xff\xff\xff\x7f" + bytes(50), "header of"),
    "npy version": (b"\x93NUMPY\x09\x00" + bytes(50), "unknown version"),
    "npy cut": (npy("(4,)")[:-1], "which takes"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_one_line_and_take_no_memory(tmp_path, name):
    content, word = HOSTILE[name]
    (tmp_path / "x.pkl").write_bytes(content)
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match=rf"x\.pkl: .*{re.escape(word)}") as caught:
            read_arrays(tmp_path / "x.pkl")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2**26
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("kind", ["gzip", "bz2", "xz", "lzma", "zlib", "npz"])
def test_bombs_are_not_blown_up(tmp_path, kind, monkeypatch):
    monkeypatch.setattr(arrays, "BASE_SIZE", 2**20)
    monkeypatch.setattr(arrays, "_CHUNK", 2**20)
    data, path = bytes(2**25), tmp_path / "x"
    if kind == "npz":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("a.npy", npy(f"({2**23},)", data=data))
    else:
        form = {"format": lzma.FORMAT_ALONE} if kind == "lzma" else {}
        path.write_bytes(
            {"gzip": gzip, "bz2": bz2, "xz": lzma, "lzma": lzma, "zlib": zlib}[kind].compress(data, **form)
        )
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match=r"decompress to .* beyond the .* that are plausible"):
            read_arrays(path)
        assert tracemalloc.get_traced_memory()[1] < 2**24  # xz keeps 8 MiB itself
    finally:
        tracemalloc.stop()


def test_archives_that_lie(tmp_path):
    path = tmp_path / "x.npz"
    np.savez(path, a=np.arange(1000.0))
    whole = path.read_bytes()
    entry = whole.index(b"PK\x01\x02")  # of the central directory
    for at, change, word in (
        (entry + 8, b"\x01\x00", "a.npy is encrypted"),
        (entry + 10, b"\x63\x00", "method 99"),
        (entry + 24, b"\xff\xff\xff\x7f", "beyond the .* that are plausible"),
        (entry + 16, b"\0\0\0\0", "damaged"),  # the checksum
        (len(whole) - 5, b"\xff", "damaged"),
    ):
        path.write_bytes(whole[:at] + change + whole[at + len(change) :])
        with pytest.raises(InputError, match=rf"x\.npz.*{word}"):
            read_arrays(path)
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"x\.npz: is damaged"):
        read_arrays(path)


def test_arrays_without_pickles(tmp_path):
    np.savez(tmp_path / "x.npz", a=np.arange(3.0), b=np.array(["text"]), c=np.array([{}], object))
    with open_npz(tmp_path / "x.npz") as (names, read):
        assert names == ["a", "b", "c"]
        np.testing.assert_array_equal(read("a"), [0, 1, 2])
        assert read("b").tolist() == ["text"]
        with pytest.raises(InputError, match=r"x\.npz: c: holds Python objects"):
            read("c")
    for value in (np.asfortranarray(np.arange(6.0).reshape(2, 3)), np.array(1.5), np.zeros((0, 3)), np.arange(3) > 1):
        np.save(tmp_path / "x.npy", value)
        read = read_npy(tmp_path / "x.npy")
        np.testing.assert_array_equal(read, value)
        assert read.dtype == value.dtype
        assert read.flags.writeable
    with pytest.raises(InputError, match=r"x\.npz: is a zip archive.*; a \.npy file is expected"):
        read_npy(tmp_path / "x.npz")


@pytest.mark.parametrize("kind", ["csc", "csr", "coo"])
@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda state: state.update(_shape=(10**9, 10**9)), "sparse matrix of shape"),
        (lambda state: state.update(_shape=(10**9, 3)), "sparse matrix"),
        (lambda state: state.update(_shape=(1, 1)), "sparse matrix"),
        (lambda state: state.update(data=np.array(["x", "y"])), "sparse matrix"),
        (lambda state: state.update(data=np.arange(9.0)), "sparse matrix"),
    ],
)
def test_sparse_matrices_that_lie(tmp_path, kind, change, word):
    matrix = scipy.sparse.coo_matrix(np.array([[0, 2.0, 0], [1, 0, 0]])).asformat(kind)
    state = dict(matrix.__dict__) if kind != "coo" else {"coords": matrix.coords, "data": matrix.data}
    change(state)
    state.setdefault("_shape", (2, 3))
    name = f"scipy.sparse._{kind} {kind}_matrix".split()
    body = pickle.dumps(state, protocol=4)
    body = body[2 + 9 : -1] if body[2:3] == b"\x95" else body[2:-1]
    (tmp_path / "s.pkl").write_bytes(b"\x80\x04" + named(*name) + b")\x81" + body + b"b.")
    with pytest.raises(InputError, match=rf"s\.pkl: .*{word}"):
        read_arrays(tmp_path / "s.pkl")


@pytest.mark.parametrize(
    ("offset", "shape", "strides"),
    [
        (0, (10**9,), (0,)),
        (0, (10**6, 10**6), (0, 0)),
        (6, (1,), (1,)),
        (0, (7,), (1,)),
        (0, (2,), (10**12,)),
        (-1, (1,), (1,)),
    ],
)
def test_tensors_stay_within_their_storage(tmp_path, offset, shape, strides):
    class Forged:
        def __reduce__(self):
            return torch._utils._rebuild_tensor_v2, (
                torch.storage.TypedStorage(
                    wrap_storage=torch.arange(6.0).untyped_storage(), dtype=torch.float32, _internal=True
                ),
                offset,
                shape,
                strides,
                False,
                OrderedDict(),
            )

    torch.save({"a": Forged()}, tmp_path / "x.pth")
    with pytest.raises(InputError, match="tensor"):
        read_arrays(tmp_path / "x.pth")


def test_readers_survive_fuzzing(tmp_path):
    assert fuzz_readers.fuzz(2.0, 0, tmp_path) > 20


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_readers_survive_a_minute_of_fuzzing(seed):
    """In a process of its own with bounded memory: what kills it is a failure, too."""
    arguments = [sys.executable, fuzz_readers.__file__, "30", str(seed)]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
