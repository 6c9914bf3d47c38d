"""A loss and its gradient as one graph: Pyro's handlers run once, when it is traced, and never again."""
