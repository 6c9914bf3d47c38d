"""What is written in jax rather than in NumPyro: log p(x) by importance sampling, replicate gradients in chunks."""

from collections.abc import Callable
from itertools import count

import jax
import jax.numpy as jnp
import numpyro.infer
import torch
from jax.scipy.special import logsumexp

from benchmarks.peers.moments import Moments, Replicates, moments_of
from benchmarks.peers.numpyro_programs import NumPyroContestant, Parameters, initial_of, mlp, to_jax
from benchmarks.peers.problems import Problem

__all__ = ["likelihood", "replicates"]


def likelihood(problem: Problem, chunk: int) -> Callable[[], jax.Array]:
    """One compiled loop over chunks of particles, the encoder run once; each call draws anew, (N,)."""
    vae, K, seeds = problem.build(), problem.particles, count()

    def log_p(parameters: Parameters, x: jax.Array, key: jax.Array) -> jax.Array:
        loc, log_scale = jnp.split(mlp("encoder", vae.encoder, parameters, x), 2, axis=-1)

        def add(running: jax.Array, key: jax.Array) -> tuple[jax.Array, None]:
            noise = jax.random.normal(key, (chunk, *loc.shape))
            z = loc + jnp.exp(log_scale) * noise  # (K', B, Z)
            logits = mlp("decoder", vae.decoder, parameters, z)
            error = (jax.nn.softplus(logits) - x * logits).sum(-1)
            log_ratio = (0.5 * (noise**2 - z**2) + log_scale).sum(-1)
            return jnp.logaddexp(running, logsumexp(log_ratio - error, axis=0)), None

        start = jnp.full(len(x), -jnp.inf)
        return jax.lax.scan(add, start, jax.random.split(key, K // chunk))[0] - jnp.log(K)

    compiled, parameters, x = jax.jit(log_p), initial_of(vae), to_jax(problem.x)
    return lambda: compiled(parameters, x, jax.random.key(next(seeds)))


def replicates(problem: Problem, objective: str, chunk: int) -> Replicates:
    """Sums of g and g^2 over a chunk in one compiled function, vmapped where it is of more than one."""
    contestant = NumPyroContestant(problem, getattr(numpyro.infer, objective)(num_particles=problem.particles))
    gradient = jax.grad(contestant.loss)

    def add(total: Parameters, squares: jax.Array, key: jax.Array) -> tuple[Parameters, jax.Array, jax.Array]:
        key, *keys = jax.random.split(key, chunk + 1)
        if chunk == 1:
            found = jax.tree.map(lambda g: g[None], gradient(contestant.initial, keys[0]))
        else:
            found = jax.vmap(gradient, in_axes=(None, 0))(contestant.initial, jnp.stack(keys))
        total = jax.tree.map(lambda t, g: t + g.sum(0), total, found)
        return total, squares + sum(jnp.square(g).sum() for g in jax.tree.leaves(found)), key

    compiled, seeds = jax.jit(add), count()

    def moments(n: int) -> Moments:
        total, squares = jax.tree.map(jnp.zeros_like, contestant.initial), jnp.zeros(())
        key = jax.random.key(next(seeds))
        for _ in range(n // chunk):
            total, squares, key = compiled(total, squares, key)
        parts = [torch.tensor(jax.device_get(total[name])) for name in contestant.names]
        return moments_of(parts, float(squares), n)

    return Replicates(moments, chunk)
