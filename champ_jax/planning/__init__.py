"""What a training run will need, computed before there is a device."""
