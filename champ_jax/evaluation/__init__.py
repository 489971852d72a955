"""Metrics and the published protocol."""
