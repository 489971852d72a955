"""The tiny tree of users' files and its conversion, made once."""

import golden_weights
import pytest

from champ_jax.weights.convert import convert


@pytest.fixture(scope="session")
def tree(tmp_path_factory):
    """`pretrained_models/` as users have it."""
    return golden_weights.write_pretrained_models(tmp_path_factory.mktemp("users") / "pretrained_models")


@pytest.fixture(scope="session")
def converted(tree, tmp_path_factory):
    """The tree's checkpoint directory."""
    directory = tmp_path_factory.mktemp("converted") / "champ"
    convert(tree, directory, progress=False)
    return directory
