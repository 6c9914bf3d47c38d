"""The subcommands of `pplvm`, one a file: each takes parsed arguments and returns an exit code."""
