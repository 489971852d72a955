"""The default configuration of `python -m champ_jax.evaluate`."""

import ml_collections

from champ_jax.common import distributed
from champ_jax.common.configs import Guide
from champ_jax.common.field_meanings import comments_of
from champ_jax.common.ranges import Choice, Integer, Items
from champ_jax.evaluation.protocol import METRICS, PROTOCOLS
from champ_jax.evaluation.published import TABLES

RULES = {
    "protocol": Choice(*PROTOCOLS),
    "metrics": Items(Choice(*METRICS), distinct=True),
    "missing": Choice("refuse", "skip"),
    "lengths": Choice("strict", "shortest"),
    "worst_frames": Integer(minimum=0, maximum=256),
    "resamples": Integer(minimum=0, maximum=100_000),
    "published": Choice(*TABLES, optional=True),
    **distributed.RULES,
}


GROUPS = {
    "Inputs": ("predictions", "ground_truth", "weights", "missing", "lengths"),
    "Measures": ("protocol", "metrics", "resamples", "published"),
    "Outputs": ("output", "worst_frames"),
    "Several processes": ("distributed.",),
}
"""{heading in --help: its fields}."""


def get_config() -> ml_collections.ConfigDict:
    """Scores predictions against ground truth by the correct protocol. --help prints the comments."""
    config = ml_collections.ConfigDict()
    # a folder of videos, a folder of frames, or a video file
    config.predictions = ml_collections.config_dict.placeholder(str)
    # a folder of videos, a folder of frames, or a video file; names as in the predictions
    config.ground_truth = ml_collections.config_dict.placeholder(str)
    config.output = "results/evaluation/report.json"  # the report; a Markdown file and a picture appear beside it
    config.protocol = "correct"  # how frames are compared and averaged (docs/evaluation.md)
    config.metrics = ()  # the metrics to measure; empty: the protocol's own
    # the folder of networks that `champ convert` wrote; None: no metric that needs one
    config.weights = ml_collections.config_dict.placeholder(str)
    config.missing = "refuse"  # what to do with videos that have no prediction
    config.lengths = "strict"  # strict refuses videos of other lengths; shortest compares the frames both sides have
    config.worst_frames = 8  # how many of the worst frames the picture shows; 0: no picture
    config.resamples = 1000  # resamples of the bootstrap over videos; 0: no intervals
    config.published = ml_collections.config_dict.placeholder(str)  # others' table to print beside the results
    config.distributed = distributed.defaults()  # several hosts: each measures its share of the videos
    return config


def guide() -> Guide:
    """What --help says of the fields."""
    return Guide(RULES, comments_of(get_config) | distributed.meanings(), GROUPS)
