"""What one gradient costs: likelihood evaluations, milliseconds, and variance times time."""
