"""Pyro distributions: randomness, without parameters or networks of their own."""
