"""Synthetic people: procedural looks, scenes and motions, drawn by the project's rasteriser with exact conditions."""
