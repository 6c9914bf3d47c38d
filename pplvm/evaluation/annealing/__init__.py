"""Annealed importance sampling, and lower and upper bounds on log p(x) by bidirectional Monte Carlo."""
