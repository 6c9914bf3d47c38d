"""Draws particles and log-weights of any model and guide, K particles by B data, in one call."""

from collections.abc import Callable
from typing import Any

import pyro

from pplvm.particles.pair import Particles, draw_from_pair, pair_up
from pplvm.particles.vectorization_check import raise_program_error, why_particles_interact

__all__ = ["draw_particles"]


def draw_particles(
    model: Callable[..., Any], guide: Callable[..., Any], *args: Any, num_particles: int = 1, **kwargs: Any
) -> Particles:
    """Run the guide, replay the model, and sum the sites' log-densities.

    Arguments:
        model, guide: Pyro programs whose sites all lie in one plate at dim -1, the batch; further plates
            may nest inside it.
        args, kwargs: what both are called with.
        num_particles: K, at least 1; the K draws are vectorized in the dimension left of all plates.

    Raises:
        ProgramError: the program breaks a rule, or mixes particles; the message names the site and the cure.
        ValueError: num_particles is no integer of at least 1.

    Example:
        >>> import torch, pyro.distributions as dist
        >>> def model(x):
        ...     with pyro.plate("batch", len(x)):
        ...         z = pyro.sample("z", dist.Normal(0.0, 1.0))
        ...         pyro.sample("x", dist.Normal(z, 1.0), obs=x)
        >>> def guide(x):
        ...     with pyro.plate("batch", len(x)):
        ...         pyro.sample("z", dist.Normal(x / 2, 0.5**0.5))
        >>> draw_particles(model, guide, torch.zeros(3), num_particles=5).log_weights.shape
        torch.Size([5, 3])
    """
    if not isinstance(num_particles, int) or num_particles < 1:
        raise ValueError(f"draw_particles: num_particles must be an integer of at least 1, got {num_particles!r}")
    with pyro.get_param_store().scope():
        pair = pair_up(model, guide, args, kwargs)
        if num_particles > 1:
            raise_program_error(why_particles_interact(pair, args, kwargs))
        return draw_from_pair(pair, num_particles, args, kwargs)
