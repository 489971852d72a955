"""Networks with the weights that tests/golden/README.md gives by rule, made once a session."""

import functools

import jax
import numpy as np
import pytest
from evaluation_weights import GOLDEN, published
from flax import nnx

from champ_jax.evaluation import network_weights


@pytest.fixture(scope="session")
def network():
    """network(name) -> the module."""
    return functools.cache(
        lambda name: network_weights.build(name, network_weights.from_published(name, published(name)))
    )


@pytest.fixture(scope="session")
def apply():
    """apply(model, method, *arrays) -> numpy, compiled."""

    def run(model, method, *arrays):
        graph, state = nnx.split(model)
        return jax.device_get(jax.jit(lambda state, *a: method(nnx.merge(graph, state), *a))(state, *arrays))

    return run


@pytest.fixture(scope="session")
def golden():
    """golden(file) -> the arrays of an .npz."""
    return functools.cache(lambda file: dict(np.load(GOLDEN / file)))
