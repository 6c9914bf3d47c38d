"""Annealed importance sampling, and bounds on both sides of log p(x) by bidirectional Monte Carlo."""
