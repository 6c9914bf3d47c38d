"""Run directories: what is written into one, read from one, and whom its code is trusted by."""
