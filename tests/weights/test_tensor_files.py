"""Readers: both kinds of file, failed downloads, hostile pickles."""

import json
import pickle
import subprocess
import sys

import golden_weights
import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from weights_trees import Payload

from champ_jax.common.errors import InputError
from champ_jax.weights.tensor_files import open_tensors

TENSORS = {
    "a.weight": torch.arange(6, dtype=torch.float32).reshape(2, 3),
    "b.weight": torch.tensor([1.5, -2.0], dtype=torch.float16),
    "c.weight": torch.tensor([[3.0, 1 / 3]], dtype=torch.bfloat16),
    "d": torch.arange(3),
}


def save(path, content, legacy=False):
    if path.suffix == ".safetensors":
        save_file(content, path)
    else:
        torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    return path


def check(path):
    with open_tensors(path) as file:
        assert set(file.tensors) == set(TENSORS)
        for key, tensor in TENSORS.items():
            array = file.read(key)
            assert array.shape == file.tensors[key].shape == tuple(tensor.shape)
            assert array.dtype == file.tensors[key].dtype
            assert array.dtype.name == str(tensor.dtype).removeprefix("torch.")
            assert np.array_equal(array.astype(np.float64), tensor.double().numpy())


@pytest.mark.parametrize("name", ["x.safetensors", "x.pth", "x.ckpt", "x.bin"])
def test_reads_every_kind(tmp_path, name):
    check(save(tmp_path / name, TENSORS))


def test_reads_the_format_before_zip(tmp_path):
    check(save(tmp_path / "x.pth", TENSORS, legacy=True))


def test_content_decides_not_the_suffix(tmp_path):
    save(tmp_path / "x.safetensors", TENSORS).rename(tmp_path / "x.ckpt")
    check(tmp_path / "x.ckpt")


@pytest.mark.parametrize("legacy", [False, True])
def test_wrapped_and_prefixed(tmp_path, legacy):
    wrapped = {
        "state_dict": {
            f"module.{key}": torch.nn.Parameter(t) if t.is_floating_point() else t for key, t in TENSORS.items()
        },
        "epoch": 3,
        "optimizer": {"lr": 1e-3},
    }
    check(save(tmp_path / "x.ckpt", wrapped, legacy))


def test_lightning_callback_is_an_empty_object(tmp_path, monkeypatch):
    """Stable Diffusion's own .ckpt holds such an object; its class is not imported."""
    import types

    module = types.ModuleType("pytorch_lightning.callbacks.model_checkpoint")
    kind = type("ModelCheckpoint", (), {"__module__": module.__name__})
    module.ModelCheckpoint = kind
    parents = ("pytorch_lightning", "pytorch_lightning.callbacks", module.__name__)
    with monkeypatch.context() as patch:
        for name in parents:
            patch.setitem(sys.modules, name, module if name == module.__name__ else types.ModuleType(name))
        callback = kind()
        callback.best_score = 1.0
        path = save(tmp_path / "x.ckpt", {"state_dict": TENSORS, "callbacks": {kind: {"best": 1}, "other": callback}})
    assert not set(parents) & set(sys.modules)
    check(path)


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("place", ["beside", "wrapped", "alone"])
def test_code_is_refused_and_not_run(tmp_path, place, legacy):
    trace = tmp_path / "trace"
    payload = Payload(trace)
    content = {"beside": {**TENSORS, "x": payload}, "wrapped": {"state_dict": TENSORS, "x": payload}, "alone": payload}
    path = save(tmp_path / "hostile.pth", content[place], legacy)
    with pytest.raises(InputError, match=r"hostile\.pth.*io\.open"), open_tensors(path):
        pass
    assert not trace.exists()
    torch.load(path, weights_only=False)  # it is live: without the guard it runs
    assert trace.exists()


def test_bare_pickle_is_refused_and_not_run(tmp_path):
    trace = tmp_path / "trace"
    (tmp_path / "hostile.bin").write_bytes(pickle.dumps(Payload(trace)))
    with (
        pytest.raises(InputError, match=r"hostile\.bin.*nothing of it was run"),
        open_tensors(tmp_path / "hostile.bin"),
    ):
        pass
    assert not trace.exists()


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"", "empty"),
        (b"<!DOCTYPE html><html><body>Sign in</body></html>", "web page"),
        (b"\n  <html>404</html>", "web page"),
        (b'{"error": "Repository not found"}', "text"),
        (b"Entry not found", "text"),
        ("größer\n".encode() * 400, "text"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 3438167540\n", "git lfs pull"),
        (b"\x80\x02}q\x00X\x03", "truncated or damaged"),
        (b"PK\x03\x04" + bytes(100), "truncated"),
        (bytes(range(256)), "neither"),
        ((2**20).to_bytes(8, "little") + b'{"a":', "truncated"),
        ((4).to_bytes(8, "little") + b"{{{{", "damaged header"),
    ],
)
@pytest.mark.parametrize("name", ["x.pth", "x.safetensors"])
def test_failed_downloads(tmp_path, content, word, name):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=f"{name}.*{word}") as error, open_tensors(tmp_path / name):
        pass
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["x.safetensors", "x.pth", "legacy.pth"])
@pytest.mark.parametrize("share", [0.3, 0.99])
def test_truncated(tmp_path, name, share):
    path = save(tmp_path / name, {"a": torch.arange(4096.0)}, legacy=name.startswith("legacy"))
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(InputError, match=f"{name}.*truncated"), open_tensors(path):
        pass


def test_entries_that_are_not_weights_are_kept_apart(tmp_path):
    """What trainers store next to the tensors, and tensors of types that no network here has."""
    others = {
        "epoch": 4,
        "animatediff_config": {"unet": {"motion": True}},
        "note": "by me",
        "mask": torch.zeros(2, dtype=torch.uint8),
        "phase": torch.zeros(2, dtype=torch.complex64),
        "sparse": torch.zeros(2, 2).to_sparse(),
    }
    path = save(tmp_path / "x.pth", {**TENSORS, **others})
    check(path)
    with open_tensors(path) as file:
        assert set(file.others) == set(others)
        assert file.others["epoch"] == "not a tensor (int)"
        assert file.others["mask"] == "of type uint8"
    save_file({**TENSORS, "mask": others["mask"]}, tmp_path / "x.safetensors", metadata={"format": "pt"})
    check(tmp_path / "x.safetensors")
    with open_tensors(tmp_path / "x.safetensors") as file:
        assert file.others == {"mask": "of type U8"}
        assert file.metadata == {"format": "pt"}


@pytest.mark.parametrize(
    ("content", "word"),
    [
        ([torch.zeros(2)], "holds a list"),
        ({}, "holds no tensors"),
        ({"a": torch.zeros(2, dtype=torch.complex64)}, "holds no tensors, but a"),
        ({"epoch": 4, "note": "by me"}, "holds no tensors, but epoch, note"),
    ],
)
def test_other_content(tmp_path, content, word):
    with pytest.raises(InputError, match=word), open_tensors(save(tmp_path / "x.pth", content)):
        pass


def header(**entries):
    """A .safetensors file of this header and 64 bytes."""
    text = json.dumps(entries).encode()
    return len(text).to_bytes(8, "little") + text + bytes(64)


def tensor(begin, end, shape=(8,), dtype="F32"):
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


@pytest.mark.parametrize(
    ("content", "word"),
    [
        ((2**40).to_bytes(8, "little") + b"{" + bytes(64), "neither"),
        ((2**30).to_bytes(8, "little") + b"{" + bytes(64), "damaged header"),
        (header(a=tensor(0, 32), b=tensor(16, 48)), "b overlaps"),
        (header(a=tensor(0, 24, (6,)), b=tensor(32, 64)), "b leaves a gap"),
        (header(a=tensor(0, 32), b=tensor(32, 96, (16,))), "truncated"),
        (header(a=tensor(0, 32)), "is damaged, it has"),
        (header(a=tensor(0, 64, (10**12,))), "its shape and its bytes differ"),
        (header(a=tensor(0, 64, (2**63, 0))), "not a size"),
        (header(a=tensor(64, 0, ())), "ends before it begins"),
        (header(a=tensor(-32, 32)), "not a size"),
        (header(a=tensor(0, 32, "8")), "not a size"),
        (header(a=tensor(0, 32, (8.0,))), "not a size"),
        (header(a=tensor(0, 32, 8)), "damaged header"),
        (header(a=tensor(0, 64, dtype=["F32"])), "damaged header"),
        (header(a={"dtype": "F32"}), "damaged header"),
        (header(a=3), "damaged header"),
        (header(__metadata__=[1]), "damaged header"),
        ((200000).to_bytes(8, "little") + b'{"a":' * 40000, "damaged header"),
    ],
)
def test_headers_that_lie(tmp_path, content, word):
    (tmp_path / "x.safetensors").write_bytes(content)
    with pytest.raises(InputError, match=f"x.safetensors.*{word}"), open_tensors(tmp_path / "x.safetensors"):
        pass


def test_torchscript(tmp_path):
    torch.jit.script(torch.nn.Linear(2, 2)).save(tmp_path / "x.pth")
    with pytest.raises(InputError, match="TorchScript"), open_tensors(tmp_path / "x.pth"):
        pass


def test_missing_file_and_folder(tmp_path):
    for path, word in ((tmp_path / "x.pth", "no such file"), (tmp_path, "folder")):
        with pytest.raises(InputError, match=word), open_tensors(path):
            pass


def test_without_torch(tmp_path):
    """Neither kind needs PyTorch, nor imports it."""
    paths = [save(tmp_path / "x.safetensors", TENSORS), save(tmp_path / "x.pth", TENSORS)]
    paths.append(save(tmp_path / "legacy.pth", TENSORS, legacy=True))
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from champ_jax.weights.tensor_files import open_tensors\n"
        "for path in sys.argv[1:]:\n"
        "    with open_tensors(path) as file:\n"
        "        print(file.read('c.weight').dtype, file.read('c.weight').astype(float).tolist())\n"
    )
    done = subprocess.run([sys.executable, "-c", code, *map(str, paths)], capture_output=True, text=True, check=False)
    assert done.stdout == 3 * f"bfloat16 {TENSORS['c.weight'].tolist()}\n", done.stderr


def test_reading_is_lazy(tmp_path):
    """Opening maps the file; it does not read the tensors."""
    path = golden_weights.write_state(tmp_path / "x.pth", {"a": np.ones(2**20, np.float32)})
    with open_tensors(path) as file:
        with path.open("r+b") as raw:
            raw.seek(raw.read().index(np.ones(2**20, np.float32).tobytes()))
            raw.write(np.full(2**20, 2, np.float32).tobytes())
        assert (file.read("a") == 2).all()
