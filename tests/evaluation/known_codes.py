"""Codes whose scores are known."""

import torch


def grid(*sizes, times=1):
    """Every combination of levels, `times` times: (N, F)."""
    return torch.cartesian_prod(*map(torch.arange, sizes)).repeat(times, 1)


def rotated(size=12, times=20):
    """Two factors, and codes that are their sum and difference."""
    factors = grid(size, size, times=times)
    a, b = factors.double().T
    return torch.stack([a + b, a - b], 1) / 2**0.5, factors


def independent(count=3000, latents=6, seed=0):
    """Factors, and codes that know nothing of them."""
    generator = torch.Generator().manual_seed(seed)
    factors = torch.stack([torch.randint(size, (count,), generator=generator) for size in (3, 5, 8)], 1)
    return torch.randn(count, latents, generator=generator, dtype=torch.float64), factors
