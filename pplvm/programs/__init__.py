"""Programs: nn.Modules with the Pyro programs model(x) and guide(x), one family a file."""
