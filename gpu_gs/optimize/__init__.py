"""Optimization of acquisition functions. Nothing here knows Ax."""
