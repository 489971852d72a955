"""Synthetic people: procedural looks, scenes and motions, drawn by the project's rasterizer with exact conditions."""
