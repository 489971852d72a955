"""The default configuration of `python -m champ_jax.evaluate`."""

import ml_collections

from champ_jax.common import distributed
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


def get_config() -> ml_collections.ConfigDict:
    """Scores predictions against ground truth by the correct protocol."""
    config = ml_collections.ConfigDict()
    config.predictions = ml_collections.config_dict.placeholder(str)  # folder of videos, of frames, or a video file
    config.ground_truth = ml_collections.config_dict.placeholder(str)  # likewise, with the same names
    config.output = "results/evaluation/report.json"  # a Markdown file and a picture appear beside it
    config.protocol = "correct"  # or 'tiktok'
    config.metrics = ()  # names, comma-separated; empty: the protocol's own
    config.weights = ml_collections.config_dict.placeholder(str)  # folder that tools/convert_weights.py wrote
    config.missing = "refuse"  # or 'skip': videos without a prediction
    config.lengths = "strict"  # or 'shortest': compare the frames both sides have
    config.worst_frames = 8  # on the page of the worst frames; 0 for no page
    config.resamples = 1000  # resamples of the bootstrap over videos; 0 for no intervals
    config.published = ml_collections.config_dict.placeholder(str)  # others' table to print: tiktok, unseen, ...
    config.distributed = distributed.defaults()  # several hosts: each measures its share of the videos
    return config
