"""Pyro distributions: randomness, no parameters of their own and no networks."""
