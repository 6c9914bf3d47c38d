"""What `pplvm evaluate` does beside evaluating one run: scores against known factors, runs side by side, seeds."""
