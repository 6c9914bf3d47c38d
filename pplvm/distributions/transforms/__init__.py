"""Invertible transforms of tensors, torch Transforms whose networks are passed in as callables."""
