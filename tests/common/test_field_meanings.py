"""Help of fields comes from the comments and docstrings they are written with."""

import dataclasses

import ml_collections

from champ_jax.common.field_meanings import attributes_of, comments_of


def get_config():
    config = ml_collections.ConfigDict()
    config.steps = 20  # denoising steps # of all
    # the weights,
    # in two lines
    config.weights = ""
    config.bare = 1

    config.data = ml_collections.ConfigDict()  # a group
    config.data.size = (
        1,
        2,
    )  # width, height
    config.text = "# not a comment"
    other = ml_collections.ConfigDict()
    other.steps = 3  # of something else
    return config


@dataclasses.dataclass
class Settings:
    """Some settings.

    Attributes:
      width, height: size in pixels; None
        follows the picture.
      steps: number of steps.

    Raises:
      ValueError: never.
    """

    width: int = 1
    height: int = 1
    steps: int = 1


def test_comments_behind_a_value_or_above_it():
    assert comments_of(get_config) == {
        "steps": "denoising steps # of all",
        "weights": "the weights, in two lines",
        "data": "a group",
        "data.size": "width, height",
    }


def test_without_sources_nothing_is_known():
    assert comments_of(eval("lambda: None")) == {}
    assert comments_of(len) == {}


def test_attributes_of_a_docstring():
    size = "size in pixels; None follows the picture"
    assert attributes_of(Settings, "clip.") == {
        "clip.width": size,
        "clip.height": size,
        "clip.steps": "number of steps",
    }
    assert attributes_of(int) == {}
