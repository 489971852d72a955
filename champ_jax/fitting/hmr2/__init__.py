"""HMR 2.0 (Goel et al. 2023, "Humans in 4D"): a crop of a person -> SMPL pose, shape and camera."""
