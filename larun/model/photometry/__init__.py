"""Magnitudes on a system: stars of known magnitude, zero points, and how well frames repeat each other."""
