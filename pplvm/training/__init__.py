"""Training of a module that returns a loss, whatever the loss computes."""
