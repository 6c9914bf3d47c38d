"""The cost of a gradient: likelihood evaluations, milliseconds, and work-normalized variance."""
