"""Replicate gradients of one estimator: how their noise is laid out, how they are drawn, how they are held."""
