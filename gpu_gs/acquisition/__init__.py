"""Acquisition functions with value and gradient. Nothing here knows Ax."""
