"""Body files: official pickles with chumpy inside, npz, SMPL-H and SMPL-X, and what is refused."""

import pickle
import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from bodies import random_body, random_rotations, write_pickle

from champ_jax.body.smpl import load_body, smpl
from champ_jax.common.errors import InputError


@pytest.fixture
def chumpy(monkeypatch):
    """Classes that pickle as chumpy's do; gone from the interpreter when the reader runs."""
    module, ch, reordering = (types.ModuleType(name) for name in ("chumpy", "chumpy.ch", "chumpy.reordering"))
    ch.Ch = type("Ch", (), {"__module__": "chumpy.ch"})
    reordering.Select = type("Select", (), {"__module__": "chumpy.reordering"})
    for name, value in (("chumpy", module), ("chumpy.ch", ch), ("chumpy.reordering", reordering)):
        monkeypatch.setitem(sys.modules, name, value)

    def leaf(array):
        value = ch.Ch()
        value.x = array
        value._dirty_vars = set()
        return value

    def select(array, indices, shape):
        value = reordering.Select()
        value.a, value.idxs, value.preferred_shape = leaf(array), indices, shape
        return value

    return leaf, select


@pytest.mark.parametrize("protocol", [0, 1, 2, 4])
def test_reads_pickles_with_chumpy_objects(tmp_path, chumpy, protocol):
    leaf, select = chumpy
    body = random_body(30)
    shuffled = np.random.default_rng(0).permutation(90)
    flat = np.empty(90)
    flat[shuffled] = body["v_template"].ravel()
    stored = dict(
        body,
        shapedirs=leaf(body["shapedirs"]),
        v_template=select(flat, shuffled, (30, 3)),
        J=select(leaf(None), None, None),  # a field nobody needs may hold anything of chumpy's
    )
    path = tmp_path / "body.pkl"
    path.write_bytes(pickle.dumps(stored, protocol=protocol))
    for name in ("chumpy", "chumpy.ch", "chumpy.reordering"):
        del sys.modules[name]
    loaded = load_body(path)
    np.testing.assert_allclose(loaded.v_template, body["v_template"], atol=1e-7)
    np.testing.assert_allclose(loaded.shapedirs, body["shapedirs"], atol=1e-7)
    assert "chumpy" not in sys.modules


@pytest.mark.parametrize("joints", [52, 55])
def test_larger_bodies_reduce_to_24_joints(tmp_path, joints):
    """With fingers, jaw and eyes at rest, the reduced body equals the full one as smplx's own skinning poses it."""
    from smplx.lbs import lbs

    body = random_body(50, joints=joints, betas=16, seed=joints)
    # The fingers' and face's places in the tree: they hang on wrists and head.
    parents = body["kintree_table"][0].astype(np.int64)
    parents[0] = -1
    face = joints - 52
    parents[22 : 22 + face] = 15
    parents[22 + face : 37 + face], parents[37 + face :] = 20, 21
    body["kintree_table"][0] = parents.astype(np.uint32)
    path = tmp_path / "body.npz"
    np.savez(path, **body)
    rotations = random_rotations((2, 24), seed=1)
    rotations[:, 22:] = np.eye(3)
    full = np.tile(np.eye(3, dtype=np.float32), (2, joints, 1, 1))
    full[:, :22] = rotations[:, :22]
    betas = np.random.default_rng(0).normal(size=10).astype(np.float32)
    tensors = {
        name: torch.tensor(np.asarray(body[name], np.float32)) for name in ("v_template", "shapedirs", "weights")
    }
    expected, _ = lbs(
        torch.from_numpy(np.tile(betas, (2, 1))),
        torch.from_numpy(full),
        tensors["v_template"],
        tensors["shapedirs"][..., :10],
        torch.tensor(body["posedirs"].reshape(150, -1).T.astype(np.float32)),
        torch.tensor(body["J_regressor"].astype(np.float32)),
        torch.from_numpy(parents),
        tensors["weights"],
        pose2rot=False,
    )
    loaded = load_body(path)
    np.testing.assert_allclose(jax.jit(smpl)(loaded, betas, rotations)[0], expected.numpy(), atol=1e-5)
    np.testing.assert_allclose(loaded.weights.sum(axis=1), 1, atol=1e-5)
    assert loaded.space == {52: "smpl", 55: "smplx"}[joints]


def test_parts_are_the_largest_weights(tmp_path):
    body = random_body(30)
    loaded = load_body(write_pickle(tmp_path / "body.pkl", body))
    np.testing.assert_array_equal(loaded.parts, body["weights"].argmax(axis=1))
    assert loaded.parents[1:] == tuple(body["kintree_table"][0][1:])
    assert loaded.faces.dtype == jnp.int32


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda body: body.pop("posedirs"), "lacks posedirs"),
        (lambda body: body.update(weights=body["weights"][:-1]), r"weights has shape \(29, 24\)"),
        (lambda body: body.update(shapedirs=body["shapedirs"][..., :4]), "4 shape directions"),
        (lambda body: body.update(f=body["f"] + 30), "names a vertex outside"),
        (
            lambda body: body.update(v_template=body["v_template"] * np.nan),
            "v_template holds a number that is not finite",
        ),
        (lambda body: body.update(v_template=np.array(["a"])), "v_template holds text"),
        (lambda body: body.update(kintree_table=np.flip(body["kintree_table"], axis=1)), "not SMPL's tree"),
    ],
)
def test_broken_bodies_are_named(tmp_path, change, message):
    body = random_body(30)
    change(body)
    path = tmp_path / "broken.npz"
    np.savez(path, **body)
    with pytest.raises(InputError, match=message) as caught:
        load_body(path)
    assert "broken.npz" in str(caught.value)


def test_missing_and_foreign_files(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        load_body(tmp_path / "none.pkl")
    (tmp_path / "text.pkl").write_text("no body at all")
    with pytest.raises(InputError, match="cannot be read"):
        load_body(tmp_path / "text.pkl")
    np.save(tmp_path / "array.npy", np.zeros(3))
    with pytest.raises(InputError, match="is not a body file"):
        load_body(tmp_path / "array.npy")
