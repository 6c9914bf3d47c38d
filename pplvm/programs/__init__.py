"""Programs: model(x) and guide(x) in one nn.Module, one family a file."""
