"""Many processes that act as one: ranks, collectives, data parallelism, progress told once."""
