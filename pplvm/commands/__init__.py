"""Commands: the verbs of the command line, one a file; each takes parsed arguments and returns an exit code."""
