"""PyTorch files <-> Flax state: safe readers and one name map for both directions."""
