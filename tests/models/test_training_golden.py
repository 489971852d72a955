"""The assembled model against the reference implementation, forward and backward, through the training loss."""

import dataclasses
import functools
import json

import golden_models
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from golden_models import channels_last, distance, golden, relative
from golden_weights import GOLDEN

from champ_jax.common.condition_names import CONDITIONS
from champ_jax.diffusion.loss import diffusion_loss, min_snr_weights
from champ_jax.diffusion.schedules import Schedule
from champ_jax.weights.names import tensor_names

SCHEDULE = Schedule(**dataclasses.asdict(golden_models.CONFIG.training))


@functools.cache
def gradients(stage: int, bank: bool, dtype: type = jnp.float32):
    """The compiled (prediction, loss, gradients of what the stage trains) and the parameters it trains.

    The reference drops the bank of whole batches and keeps the image token (facts of its training loop, which
    inference does not share): `bank=False` is that test mode.
    """
    config = golden_models.CONFIG if stage == 2 else dataclasses.replace(golden_models.CONFIG, motion=None)
    model = golden_models.build_champ(config, dtype=dtype)
    trained = nnx.Param if stage == 1 else nnx.All(nnx.Param, nnx.PathContains("motion_modules"))
    graph, params, rest = nnx.split(model, trained, ...)

    def loss(params, batch):
        model = nnx.merge(graph, params, rest)
        conditions = dict(zip(CONDITIONS, jnp.split(batch["guidance_cond"], len(CONDITIONS), axis=-1)))
        inputs = (batch["noisy"], batch["timesteps"])
        if bank:
            prediction = model(*inputs, batch["ref_latents"], batch["clip_embeds"], conditions)
        else:
            reference = model.denoising_unet.prepare_reference(None, batch["clip_embeds"])
            prediction = model.denoising_unet(*inputs, reference, model.guide(conditions))
        weights = min_snr_weights(SCHEDULE, batch["timesteps"])
        return diffusion_loss(prediction, batch["target"], weights), prediction

    return jax.jit(jax.value_and_grad(loss, has_aux=True)), params


def batch_of(stage: int) -> dict[str, jax.Array]:
    arrays = golden(f"g_train_stage{stage}_uncond0")
    batch = {name: channels_last(arrays[name]) for name in ("noisy", "target", "ref_latents", "guidance_cond")}
    return {**batch, "timesteps": arrays["timesteps"], "clip_embeds": arrays["clip_embeds"][:, 0]}


def torch_named(grads: nnx.State) -> dict[str, np.ndarray]:
    """Gradients under the goldens' names, as PyTorch orders their axes."""
    tree = nnx.to_pure_dict(grads)
    parts = {name: tree[name] for name in ("reference_unet", "denoising_unet") if name in tree}
    encoders = tree.get("guidance", {}).get("encoders", {})
    parts |= {f"guidance_encoder_{name}": encoder for name, encoder in encoders.items()}
    named = {}
    for part, node in parts.items():
        for key, name in tensor_names(node).items():
            leaf = functools.reduce(lambda tree, step: tree[step], name.path, node)
            named[f"{part}.{key}"] = name.to_torch(np.asarray(leaf))
    return named


@pytest.mark.parity
@pytest.mark.parametrize(
    ("stage", "uncond"),
    [(1, 0), *(pytest.param(*case, marks=pytest.mark.slow) for case in [(1, 1), (2, 0), (2, 1)])],
)
def test_prediction_loss_and_gradients(stage, uncond):
    arrays = golden(f"g_train_stage{stage}_uncond{uncond}")
    norms = json.loads((GOLDEN / f"g_train_stage{stage}_uncond{uncond}_gradnorms.json").read_text())
    step, params = gradients(stage, bank=not uncond)
    (loss, prediction), grads = step(params, batch_of(stage))

    assert relative(prediction, channels_last(arrays["pred"])) < 1e-5
    assert relative(loss, arrays["loss"]) < 1e-5
    ours = torch_named(grads)
    total = float(arrays["total_grad_norm"])
    compared = 0
    for key, norm in norms.items():
        if key not in ours:  # carried, without a use: the reference has no gradient for it, or rounding noise
            assert not norm or norm < 2e-5 * total, key
            continue
        compared += 1
        assert distance(np.linalg.norm(ours[key].astype(np.float64)), norm or 0.0, total) < 2e-5, key
    assert compared > (1000 if stage == 1 else 500)
    given = {key.removeprefix("grad__"): value for key, value in arrays.items() if key.startswith("grad__")}
    for key, value in given.items():
        assert distance(ours[key], value, total) < 2e-5, key
    assert given


@pytest.mark.slow
@pytest.mark.parity
@pytest.mark.parametrize("stage", [1, 2])
def test_gradients_in_bfloat16_are_near(stage):
    """Computed in bfloat16 from float32 parameters, as trainings on accelerators do."""
    arrays = golden(f"g_train_stage{stage}_uncond0")
    step, params = gradients(stage, bank=True, dtype=jnp.bfloat16)
    (loss, prediction), grads = step(params, batch_of(stage))
    assert relative(prediction, channels_last(arrays["pred"])) < 0.05
    assert relative(loss, arrays["loss"]) < 0.05
    ours, total = torch_named(grads), float(arrays["total_grad_norm"])
    for key, value in arrays.items():
        if key.startswith("grad__"):
            assert distance(ours[key.removeprefix("grad__")], value, total) < 0.05, key


@pytest.mark.slow
@pytest.mark.parity
@pytest.mark.parametrize("stage", [1, 2])
def test_gradients_repeat_bit_for_bit(stage):
    step, params = gradients(stage, bank=True)
    first, second = (jax.tree.leaves(step(params, batch_of(stage))) for _ in range(2))
    for one, other in zip(first, second):
        np.testing.assert_array_equal(one, other)
