"""Training: knows only a module that returns a loss."""
