"""Replicate gradients of one estimator: the design of their noise, drawing and storage."""
