"""Pure Flax NNX networks: arrays in, arrays out."""
