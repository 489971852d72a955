"""SMPL-form bodies in JAX, the motion container, importers, alignment and smoothing."""
