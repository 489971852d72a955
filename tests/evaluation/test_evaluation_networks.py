"""Evaluation networks against recorded features, and their parts against PyTorch."""

import json

import jax
import numpy as np
import pytest
import torch
from evaluation_weights import GOLDEN, published
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from champ_jax.common.pictures import list_images, read_image
from champ_jax.evaluation.clips import i3d_frames, resnet3d_frames
from champ_jax.evaluation.evaluator import inception_frames
from champ_jax.evaluation.networks.i3d import same_max_pool
from champ_jax.evaluation.networks.layers import average_pool_3x3, conv3d, max_pool, same_padding
from champ_jax.evaluation.networks.lpips import to_range

RNG = np.random.default_rng(0)
SPREAD = 1e-4  # of the recorded features' standard deviation


def first(*arrays):
    """Channels first, torch."""
    moved = [torch.from_numpy(np.moveaxis(np.asarray(a), -1, 1).copy()) for a in arrays]
    return moved[0] if len(moved) == 1 else moved


def last(tensor):
    return np.moveaxis(tensor.numpy(), 1, -1)


def close(found, expected, bound=SPREAD):
    error = np.abs(np.asarray(found) - expected).max() / expected.std()
    assert error < bound, error


@settings(deadline=None, max_examples=12)
@given(st.integers(1, 5), st.integers(1, 3), st.sampled_from([1, 3, 7]), st.integers(1, 2), st.booleans())
def test_conv3d_is_pytorchs(frames, width, taps, stride, same):
    x = RNG.standard_normal((2, frames, 6 + width, 7, 3)).astype(np.float32)
    kernel = RNG.standard_normal((taps, 3, 3, 3, 4)).astype(np.float32)
    strides = (stride, 2, 1)
    pads = [(taps // 2, taps // 2), (1, 1), (0, 1)]
    if same:
        pads = same_padding(x.shape[1:4], kernel.shape[:3], strides)
    padded = F.pad(first(x), [p for pair in pads[::-1] for p in pair])
    expected = last(F.conv3d(padded, torch.from_numpy(kernel.transpose(4, 3, 0, 1, 2).copy()), stride=strides))
    found = np.asarray(conv3d(x, kernel, strides, pads))
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())


def test_tensorflows_same_padding_puts_the_odd_rest_on_the_far_side():
    assert same_padding((16, 224, 56), (7, 7, 3), (2, 2, 2)) == [(2, 3), (2, 3), (0, 1)]
    assert same_padding((7, 5), (3, 1), (1, 1)) == [(1, 1), (0, 0)]
    assert same_padding((5, 10), (2, 3), (2, 2)) == [(0, 1), (0, 1)]


def test_pools_are_pytorchs():
    x = RNG.standard_normal((2, 9, 8, 3)).astype(np.float32)
    expected = last(F.avg_pool2d(first(x), 3, 1, 1, count_include_pad=False))
    np.testing.assert_allclose(np.asarray(average_pool_3x3(x)), expected, atol=1e-6)
    expected = last(F.max_pool2d(first(x - 5), 3, 2, 1))
    np.testing.assert_array_equal(np.asarray(max_pool(x - 5, (3, 3), (2, 2), [(1, 1), (1, 1)])), expected)
    # TensorFlow's ports pad with zeros, which win over negative values.
    clip = RNG.standard_normal((1, 5, 6, 7, 2)).astype(np.float32) - 2
    expected = last(F.max_pool3d(F.pad(first(clip), (1, 1, 0, 1, 1, 1)), 3, 2))
    np.testing.assert_array_equal(np.asarray(same_max_pool(clip, (3, 3, 3), (2, 2, 2))), expected)
    assert (expected == 0).any()


@pytest.mark.parametrize("signed", [False, True])
def test_lpips_alexnet_on_recorded_pairs(network, apply, signed):
    pairs = json.loads((GOLDEN / "lpips.json").read_text())["alex"]["pairs"]
    expected = np.array([pair[f"input_0_1_normalize_{str(signed).lower()}"]["per_layer"] for pair in pairs])
    sides = [np.stack([read_image(p) for p in list_images(GOLDEN / "legacy" / side)]) for side in ("gen", "gt")]
    found = apply(
        network("lpips_alex"), lambda model, a, b: model.per_layer(to_range(a, signed), to_range(b, signed)), *sides
    )
    np.testing.assert_allclose(found, expected, atol=1e-5 * expected.max())
    assert found[3].tolist() == [0] * 5


@pytest.mark.parametrize("name", ["lpips_vgg", "lpips_alex"])
def test_lpips_against_torch(network, apply, name):
    tensors = {key: torch.from_numpy(value) for key, value in published(name).items()}
    vgg = [64, 64, "pool", 128, 128, "pool", 256, 256, 256, "pool", 512, 512, 512, "pool", 512, 512, 512]
    layers = vgg if name == "lpips_vgg" else [64, "pool", 192, "pool", 384, 256, 256]
    shapes = {64: (4, 2), 192: (1, 2)} if name == "lpips_alex" else {}

    def backbone(x):
        shift = torch.tensor([-0.030, -0.088, -0.188]).view(1, 3, 1, 1)
        x = (x - shift) / torch.tensor([0.458, 0.448, 0.450]).view(1, 3, 1, 1)
        taps, index = [], 0
        for position, layer in enumerate(layers):
            if layer == "pool":
                x = F.max_pool2d(x, 2 if name == "lpips_vgg" else 3, 2)
                index += 1
                continue
            stride, padding = shapes.get(layer, (1, 1))
            weight, bias = tensors[f"features.{index}.weight"], tensors[f"features.{index}.bias"]
            x = F.relu(F.conv2d(x, weight, bias, stride, padding))
            index += 2
            following = layers[position + 1] if position + 1 < len(layers) else "pool"
            if following == "pool" or name == "lpips_alex":
                taps.append(x)
        return taps

    a, b = RNG.uniform(-1, 1, (2, 2, 48, 64, 3)).astype(np.float32)
    expected = 0
    for number, (fa, fb) in enumerate(zip(backbone(first(a)), backbone(first(b)), strict=True)):
        unit = [f / (f.pow(2).sum(1, keepdim=True).sqrt() + 1e-10) for f in (fa, fb)]
        weighted = F.conv2d((unit[0] - unit[1]) ** 2, tensors[f"lin{number}.model.1.weight"])
        expected = expected + weighted.mean((1, 2, 3))
    assert number == 4
    np.testing.assert_allclose(apply(network(name), lambda m, a, b: m(a, b), a, b), expected, rtol=1e-5)


def test_inception_on_recorded_pictures(network, apply, golden):
    """The 2048 features, and those of the first block that FID of 64 dimensions averages."""

    def features(model, frames):
        return model(frames), model.first_block(frames).mean((1, 2))

    found, _ = apply(network("fid_inception"), features, inception_frames(golden("inputs.npz")["fid_gt"]))
    close(found, golden("outputs.npz")["fid_features_gt"])
    small = golden("inputs.npz")["fid64_gt"][:6]
    _, found = apply(network("fid_inception"), features, inception_frames(small))
    close(found, golden("outputs.npz")["fid64_activations_gt"][:6])


def test_i3d_on_recorded_clips(network, apply, golden):
    frames = i3d_frames(golden("inputs.npz")["net_clips"][0].transpose(0, 2, 3, 1))[None]
    outputs = golden("outputs.npz")
    probe = np.asarray(frames)[:, ::5, ::16, ::16].transpose(0, 4, 1, 2, 3)
    np.testing.assert_allclose(probe, outputs["i3d_input_probe"][:1], atol=1e-5)
    pooled, logits = apply(network("i3d"), lambda model, x: (model.pooled(x), model(x)), frames)
    close(pooled.transpose(0, 4, 1, 2, 3), outputs["i3d_pool"][:1])
    close(logits, outputs["i3d_logits"][:1])


@pytest.mark.slow
def test_i3d_on_whole_videos_of_other_lengths(network, apply, golden):
    """20 and 10 frames, whose time axis pads differently."""
    for row, video in ((1, "gen_g2"), (2, "gen_g3")):
        frames = i3d_frames(golden("inputs.npz")[video])[None]
        expected = golden("outputs.npz")["fvd_videos_gen"]
        error = np.abs(apply(network("i3d"), lambda model, x: model(x), frames)[0] - expected[row]).max()
        assert error < SPREAD * expected.std()


def torch_resnet3d(x):
    tensors = {key: torch.from_numpy(value) for key, value in published("resnet3d").items()}

    def norm(x, name):
        parts = [tensors[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias")]
        return F.batch_norm(x, *parts, eps=1e-5)

    x = F.relu(norm(F.conv3d(x, tensors["conv1.weight"], stride=(1, 2, 2), padding=3), "bn1"))
    x = F.max_pool3d(x, 3, 2, 1)
    for layer, blocks in enumerate((3, 4, 6, 3), start=1):
        for block in range(blocks):
            name, stride = f"layer{layer}.{block}", 2 if block == 0 and layer > 1 else 1
            y = F.relu(norm(F.conv3d(x, tensors[f"{name}.conv1.weight"]), f"{name}.bn1"))
            y = F.relu(norm(F.conv3d(y, tensors[f"{name}.conv2.weight"], stride=stride, padding=1), f"{name}.bn2"))
            y = norm(F.conv3d(y, tensors[f"{name}.conv3.weight"]), f"{name}.bn3")
            if block == 0:
                shortcut = F.conv3d(x, tensors[f"{name}.downsample.0.weight"], stride=stride)
                x = norm(shortcut, f"{name}.downsample.1")
            x = F.relu(x + y)
    return F.avg_pool3d(x, (1, 4, 4)).flatten(1)


def test_resnet3d_windows_against_torch(network, apply, golden):
    """Each window of the shared stem is what PyTorch makes of the clip alone; so is the network on clips."""
    frames = np.asarray(resnet3d_frames(golden("inputs.npz")["gen_v1"][:17]))
    found = apply(network("resnet3d"), lambda model, x: model.of_windows(x), frames)
    assert found.shape == (2, 2048)
    clips = np.stack([frames[k : k + 16] for k in range(2)])
    with torch.inference_mode():
        expected = torch_resnet3d(first(clips)).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())
    stems = apply(network("resnet3d"), lambda model, f, c: (model.stem_of_windows(f), model.stem(c)), frames, clips)
    np.testing.assert_allclose(stems[0], stems[1], atol=1e-5)
    assert np.abs(np.diff(stems[1], axis=0)).max() > 0.1  # the windows differ


def test_frames_of_video_networks(golden):
    """Bicubic without clipping, then the networks' own scaling."""
    frames = golden("inputs.npz")["gen_g3"]
    probe = np.asarray(i3d_frames(frames))[None, ::5, ::16, ::16].transpose(0, 4, 1, 2, 3)
    np.testing.assert_allclose(probe, golden("outputs.npz")["probe_fvd_video_g3"], atol=1e-5)
    gray = np.full((1, 40, 30, 3), 100, np.uint8)
    expected = 100 - np.array([114.7748, 107.7354, 99.4750])
    np.testing.assert_allclose(np.asarray(resnet3d_frames(gray))[0, 50, 50], expected, atol=1e-4)


def test_highest_precision_is_asked_for(network):
    """Accelerators would round float32 products otherwise."""
    text = str(jax.make_jaxpr(lambda x: network("lpips_alex").backbone(x))(np.zeros((1, 64, 64, 3), np.float32)))
    assert text.count("conv_general_dilated") == 5
    assert text.count("Precision.HIGHEST") >= 5
