"""Noise schedules, samplers, temporal windows and the training loss."""
