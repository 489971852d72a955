"""Training: sharding rules, train state and step, checkpoints, the loop."""
