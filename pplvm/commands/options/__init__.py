"""Options of the command line: each command's own, those that several share, and their types."""
