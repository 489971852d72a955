"""Optimizers against PyTorch and against their definition."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch

from champ_jax.common.errors import InputError
from champ_jax.training.config import default_config
from champ_jax.training.optimizer import decay_mask, learning_rate_schedule, make_optimizer


def settings(**fields):
    config = default_config().optimizer
    config.update(fields)
    return config


def run(optimizer, params, gradients):
    state = optimizer.init(params)
    for gradient in gradients:
        updates, state = optimizer.update(gradient, state, params)
        params = optax.apply_updates(params, updates)
    return params


def test_adamw_with_clipping_is_pytorchs():
    rng = np.random.default_rng(0)
    start = rng.standard_normal((4, 3)).astype(np.float32)
    gradients = 3 * rng.standard_normal((5, 4, 3)).astype(np.float32)
    ours = run(
        make_optimizer(settings(learning_rate=1e-2), 5),
        {"a.kernel": jnp.asarray(start)},
        [{"a.kernel": jnp.asarray(gradient)} for gradient in gradients],
    )["a.kernel"]
    theirs = torch.nn.Parameter(torch.from_numpy(start.copy()))
    adamw = torch.optim.AdamW([theirs], lr=1e-2, betas=(0.9, 0.999), eps=1e-8, weight_decay=1e-2)
    for gradient in gradients:
        theirs.grad = torch.from_numpy(gradient.copy())
        torch.nn.utils.clip_grad_norm_([theirs], 1.0)
        adamw.step()
    np.testing.assert_allclose(ours, theirs.detach().numpy(), rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["adamw", "adafactor"])
def test_decay_pulls_on_what_the_mask_says(name):
    params = {"a.kernel": jnp.ones((4, 4)), "a.bias": jnp.ones(4)}
    still = jax.tree.map(jnp.zeros_like, params)
    fields = {"name": name, "learning_rate": 0.1, "weight_decay": 0.5}
    for decayed, bias in (("all", 0.95), ("kernels", 1.0)):
        after = run(make_optimizer(settings(decayed=decayed, **fields), 5), params, [still])
        np.testing.assert_allclose(after["a.kernel"], 0.95, rtol=1e-6)
        np.testing.assert_allclose(after["a.bias"], bias, rtol=1e-6)


def test_adafactor_goes_downhill_with_factored_moments():
    target = jnp.asarray(np.random.default_rng(0).standard_normal((160, 130)), jnp.float32)
    params = {"a.kernel": jnp.zeros_like(target)}
    optimizer = make_optimizer(settings(name="adafactor", learning_rate=0.05, weight_decay=0.0, clip_norm=0.0), 60)
    state = optimizer.init(params)
    assert sum(leaf.size for leaf in jax.tree.leaves(state)) < 400
    for _ in range(60):
        updates, state = optimizer.update({"a.kernel": params["a.kernel"] - target}, state, params)
        params = optax.apply_updates(params, updates)
    assert float(jnp.abs(params["a.kernel"] - target).mean()) < 0.2


def test_schedules():
    cosine = learning_rate_schedule(settings(schedule="cosine", warmup=4, learning_rate=1.0, final_fraction=0.1), 24)
    assert [round(float(cosine(i)), 6) for i in (0, 1, 3, 4, 24)] == [0.25, 0.5, 1.0, 1.0, 0.1]
    linear = learning_rate_schedule(settings(schedule="linear", warmup=0, learning_rate=1.0), 10)
    assert [round(float(linear(i)), 6) for i in (0, 5, 10)] == [1.0, 0.5, 0.0]
    constant = learning_rate_schedule(settings(), 10)
    assert {float(constant(i)) for i in (0, 1, 9)} == {float(np.float32(1e-5))}


@pytest.mark.parametrize(
    ("field", "value"), [("name", "sgd"), ("schedule", "step"), ("decayed", "some"), ("learning_rate", -1.0)]
)
def test_bad_values_are_named(field, value):
    with pytest.raises(InputError, match=field):
        make_optimizer(settings(**{field: value}), 10)


def test_decay_mask_leaves_norms_alone():
    mask = decay_mask({"a.norm.scale": 0, "a.kernel": 0, "b.embedding": 0}, "kernels")
    assert mask == {"a.norm.scale": False, "a.kernel": True, "b.embedding": False}
