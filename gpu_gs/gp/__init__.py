"""Gaussian processes: covariance, marginal likelihood, fit and posterior. Nothing here knows Ax."""
