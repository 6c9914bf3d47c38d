"""The waist: a Pyro model and guide become log-weights, K particles by B data."""
