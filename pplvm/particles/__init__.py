"""The waist: runs a Pyro model and guide, and gives log-weights of K particles by B data."""
