"""The names of the motion conditions, as folders, files, configs and checkpoints spell them."""

CONDITIONS = ("depth", "normal", "semantic_map", "dwpose")
"""The motion conditions that guidance encoders exist for, in the order in which their features are added."""

MASK = "mask"
"""The folder of body masks, which semantic maps are masked with. It is not a condition."""

MASKED = "semantic_map"
"""The condition that is set to zero wherever the mask is zero."""
