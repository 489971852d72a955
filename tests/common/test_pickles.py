"""Restricted reading: every container of the field opens, nothing that calls anything does."""

import os
import pickle
from collections import OrderedDict, defaultdict

import joblib
import numpy as np
import pytest
import scipy.sparse
import torch

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
