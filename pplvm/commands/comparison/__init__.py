"""What `pplvm compare` is made of: programs, checkpoints, estimators, rounds, files."""
