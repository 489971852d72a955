"""The latent cache: what training reads equals what the networks make of the same pictures."""

import importlib.util
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
from flax import nnx
from tiny_videos import write_video

from champ_jax.common.cli import run
from champ_jax.common.errors import InputError
from champ_jax.data.build import build_dataset
from champ_jax.data.encoder import load_encoder
from champ_jax.data.framing import Framing
from champ_jax.data.latents import Encoder, cache_latents
from champ_jax.data.pipeline import make_stage1, make_stage2
from champ_jax.data.records import open_part
from champ_jax.models.champ import ChampConfig, build_component
from champ_jax.models.clip import CLIPVisionConfig
from champ_jax.models.guidance import GuidanceConfig
from champ_jax.models.unet import UNetConfig
from champ_jax.models.vae import VAEConfig
from champ_jax.weights.checkpoint import save_checkpoint

TOOL = Path(__file__).parents[2] / "tools" / "build_dataset.py"
OPTIONS = {"seed": 1, "batch_size": 2, "image_size": (32, 48), "crop": "center", "conditions": ["depth"]}


def make_checkpoint(folder, seed):
    """A checkpoint with random networks of a tiny size."""
    config = ChampConfig(
        unet=UNetConfig(
            block_out_channels=(16,), attention_levels=(True,), heads=(2,), cross_attention_dim=24, norm_num_groups=8
        ),
        guidance=GuidanceConfig((8, 8, 8, 8), out_channels=16, heads=2, norm_num_groups=8),
        vae=VAEConfig(block_out_channels=(8, 8, 8, 8), layers_per_block=1, norm_num_groups=4),
        image_encoder=CLIPVisionConfig(
            hidden_size=16,
            intermediate_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            patch_size=56,
            projection_dim=24,
        ),
    )
    rng = np.random.default_rng(seed)
    trees = {}
    for name in ("vae", "image_encoder"):
        state = nnx.state(build_component(name, config))
        random = jax.tree.map(lambda x: (0.3 * rng.standard_normal(x.shape)).astype(x.dtype), state)
        trees[name] = nnx.to_pure_dict(random)
    save_checkpoint(folder, trees, config.to_json())
    return folder


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return make_checkpoint(tmp_path_factory.mktemp("weights") / "one", 0)


@pytest.fixture(scope="module")
def encoder(checkpoint):
    return load_encoder(checkpoint)


@pytest.fixture(scope="module")
def cached_path(tmp_path_factory, encoder):
    root = tmp_path_factory.mktemp("cached")
    write_video(root / "in" / "one", 9)
    write_video(root / "in" / "two", 6, video=1)
    build_dataset([root / "in"], root / "out")
    framing = Framing((32, 48), "center")
    assert cache_latents(root / "out", encoder, framing, batch_size=1) == 15
    assert cache_latents(root / "out", encoder, framing, batch_size=1) == 0
    return root / "out"


def encode(encoder, pictures, small):
    """The networks' outputs for any number of pictures, padded to the number of devices."""
    count = len(pictures)
    padded = [np.resize(x, (-(-count // encoder.devices) * encoder.devices, *x.shape[1:])) for x in (pictures, small)]
    return {name: value[:count] for name, value in encoder.encode(*padded).items()}


@pytest.mark.parametrize("make", [make_stage1, lambda path, **options: make_stage2(path, frames=4, **options)])
def test_cached_batches_are_the_networks_outputs_for_the_same_samples(cached_path, encoder, make):
    pictures = next(make(cached_path, **OPTIONS))
    latents = next(make(cached_path, **OPTIONS, cached=True))
    assert latents["names"] == pictures["names"]
    np.testing.assert_array_equal(latents["conditions"]["depth"], pictures["conditions"]["depth"])
    assert set(latents) == set(pictures) - {"pixels", "reference", "clip_pixels"} | {
        "latents_mean", "latents_std", "reference_mean", "reference_std", "embedding"
    }  # fmt: skip
    reference = encode(encoder, pictures["reference"], pictures["clip_pixels"])
    frames = pictures["pixels"].reshape(-1, 48, 32, 3)
    targets = encode(encoder, frames, np.zeros((len(frames), 224, 224, 3), np.uint8))
    shape = (2, pictures["pixels"].shape[1], 6, 4, 4)
    assert latents["latents_mean"].shape == shape
    expected = {
        "latents_mean": targets["mean"].reshape(shape),
        "latents_std": targets["std"].reshape(shape),
        "reference_mean": reference["mean"],
        "reference_std": reference["std"],
        "embedding": reference["embedding"],
    }
    for name, value in expected.items():
        assert latents[name].dtype == np.float32
        np.testing.assert_allclose(latents[name], value, rtol=1e-5, atol=1e-5, err_msg=name)
    assert np.std(expected["latents_mean"]) > 0.01
    assert np.std(expected["embedding"]) > 0.01


def test_the_picture_may_stand_for_a_cached_embedding(cached_path):
    options = {**OPTIONS, "crop": "center"}
    pictures = next(make_stage1(cached_path, **options))
    latents = next(make_stage1(cached_path, **options, cached=True, cached_embeddings=False))
    assert "embedding" not in latents
    np.testing.assert_array_equal(latents["clip_pixels"], pictures["clip_pixels"])


def test_new_videos_need_only_their_own_latents(cached_path, encoder, tmp_path):
    path = tmp_path / "out"
    shutil.copytree(cached_path, path)
    write_video(tmp_path / "more" / "three", 5, video=2)
    build_dataset([tmp_path / "more"], path)
    with pytest.raises(InputError, match=r"1 parts have no cached latents; .*--size=32x48 --crop=center"):
        make_stage1(path, **OPTIONS, cached=True)
    assert cache_latents(path, encoder, Framing((32, 48), "center"), batch_size=1) == 5
    assert next(make_stage1(path, **OPTIONS, cached=True))["latents_mean"].shape == (2, 1, 6, 4, 4)


def test_outputs_of_other_networks_are_not_mixed(cached_path, tmp_path):
    other = load_encoder(make_checkpoint(tmp_path / "two", 1))
    with pytest.raises(InputError, match="was made by other networks"):
        cache_latents(cached_path, other, Framing((32, 48), "center"))


@pytest.mark.parametrize("crop", ["random", "box"])
def test_the_cache_and_moving_crops_are_refused_together(cached_path, crop):
    with pytest.raises(InputError, match=f"crop='{crop}': cached latents have one fixed window a frame"):
        make_stage1(cached_path, **{**OPTIONS, "crop": crop}, cached=True)


def test_another_size_is_another_cache(cached_path):
    with pytest.raises(InputError, match="latents_64x48_center_cover: 1 parts have no cached latents"):
        make_stage1(cached_path, **{**OPTIONS, "image_size": (64, 48)}, cached=True)


def fake_encoder(value=0.0):
    """Networks whose outputs are all `value`; nothing is compiled."""

    def encode(pictures, small):
        shapes = {"mean": (6, 4, 4), "std": (6, 4, 4), "embedding": (3,)}
        return {name: np.full((len(pictures), *shape), value, np.float32) for name, shape in shapes.items()}

    return Encoder(encode, "f" * 64, 8)


def test_outputs_that_are_not_finite_are_never_stored(tmp_path):
    write_video(tmp_path / "in" / "one", 2)
    build_dataset([tmp_path / "in"], tmp_path / "out")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(InputError, match="in/one frame 0001: the networks' mean is not finite"):
        cache_latents(tmp_path / "out", fake_encoder(np.nan), Framing((32, 48), "center"))
    assert sorted(tmp_path.rglob("*")) == before


def test_latents_of_other_videos_and_damaged_ones_are_refused(tmp_path):
    for name in ("one", "two"):
        write_video(tmp_path / name / "in" / name, 2)
        build_dataset([tmp_path / name / "in"], tmp_path / name / "out")
        cache_latents(tmp_path / name / "out", fake_encoder(), Framing((32, 48), "center"))
    folder = "latents_32x48_center_cover"
    path, part = tmp_path / "one" / "out", tmp_path / "one" / "out" / folder / "part-00000"
    next(make_stage1(path, **OPTIONS, cached=True))
    shutil.rmtree(path / folder)
    shutil.copytree(tmp_path / "two" / "out" / folder, path / folder)
    with pytest.raises(InputError, match="part-00000: was made for other videos"):
        make_stage1(path, **OPTIONS, cached=True)
    with pytest.raises(InputError, match="part-00000: was made for other videos"):
        cache_latents(path, fake_encoder(), Framing((32, 48), "center"))
    shutil.rmtree(path / folder)
    cache_latents(path, fake_encoder(), Framing((32, 48), "center"))
    file = next(part.glob("*/*array_record*"))
    file.write_bytes(file.read_bytes()[: 1 << 16])
    open_part.cache_clear()  # another process would read it
    with pytest.raises(InputError, match=f"{folder}/part-00000: not a readable part"):
        next(make_stage1(path, **OPTIONS, cached=True))


def test_the_tool_makes_the_cache(tmp_path, checkpoint, capsys):
    spec = importlib.util.spec_from_file_location("build_dataset", TOOL)
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)

    def call(*arguments):
        with pytest.raises(SystemExit) as exit_:
            run(tool.main, [f"--output={tmp_path / 'out'}", "--cache_latents", *arguments])
        return exit_.value.code, capsys.readouterr().err.strip().splitlines()[-1]

    write_video(tmp_path / "in" / "one", 3)
    given = [f"--source={tmp_path / 'in'}", f"--weights={checkpoint}", "--workers=1", "--batch_size=1"]
    assert call(*given, "--size=32x48") == (0, f"{tmp_path / 'out'}/latents_32x48_center_cover: 3 frames encoded")
    assert call(*given[1:], "--size=32") == (2, "error: --size=32: expected WIDTHxHEIGHT, for example 512x512")
    code, line = call(*given[1:], "--crop=random")
    assert code == 2
    assert "crop='random': cached latents have one fixed window" in line
    assert call("--size=32x48")[1].startswith("error: --cache_latents: needs --weights=CHECKPOINT")
    assert "both must be multiples of the VAE's reduction, 8" in call(*given[1:], "--size=30x48")[1]
