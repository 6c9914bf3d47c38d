"""Proof on tiny programs whose gradients are known exactly."""
