"""Benchmarks: the time of an ask and the quality of a run, against stock Ax and other optimizers."""
