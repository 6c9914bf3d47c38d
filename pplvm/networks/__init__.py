"""nn.Modules: parameters and buffers, no randomness, no Pyro."""
