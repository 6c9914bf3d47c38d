"""Neural networks: nn.Modules with parameters and buffers, without randomness or Pyro."""
