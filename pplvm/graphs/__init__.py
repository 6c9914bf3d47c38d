"""Traces a loss and its gradient into one graph, so that Pyro's handlers run only once."""
