"""NumPyro's TraceGraph_ELBO in its SVI, step and gradient each compiled by jax."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
import torch
from numpyro.infer import SVI, TraceGraph_ELBO
from torch import Tensor

from benchmarks.contestants import LEARNING_RATE
from benchmarks.peers.problems import Problem, Toy

__all__ = ["NumPyroContestant", "contestants"]


@dataclass
class NumPyroContestant:
    """A NumPyro program that starts from the parameters of the problem's own."""

    problem: Problem
    names: list[str] = field(init=False)

    def __post_init__(self) -> None:
        program = self.problem.build()
        initial = {name: jnp.asarray(p.detach().numpy()) for name, p in program.named_parameters()}
        self.names, self.x = list(initial), jnp.asarray(self.problem.x.numpy())
        model, guide = _toy(initial, program.t) if isinstance(program, Toy) else _belief_net(initial)
        objective = TraceGraph_ELBO(num_particles=self.problem.particles)
        svi = SVI(model, guide, numpyro.optim.Adam(LEARNING_RATE), objective)
        self.key, self.state = jax.random.key(0), svi.init(jax.random.key(1), self.x)
        self.update = jax.jit(svi.update)
        loss = lambda parameters, key: objective.loss(key, parameters, model, guide, self.x) / len(self.x)
        self.differentiate = jax.jit(jax.grad(loss))
        self.initial = initial

    def step(self) -> None:
        self.state, loss = self.update(self.state, self.x)
        loss.block_until_ready()

    def gradient(self) -> Tensor:
        self.key, key = jax.random.split(self.key)
        found = self.differentiate(self.initial, key)
        return torch.cat([torch.tensor(jax.device_get(found[name])).flatten() for name in self.names])

    def settle(self) -> None:
        """It has no baseline."""


def contestants(problem: Problem) -> dict[str, Callable[[], NumPyroContestant]]:
    return {"score function": lambda: NumPyroContestant(problem)}


def _belief_net(initial: dict[str, Any]) -> tuple[Callable[..., None], Callable[..., None]]:
    """Model and guide of a `SigmoidBeliefNet` of one layer, whose parameters keep their names in torch."""

    def affine(network: str, value: jax.Array) -> jax.Array:
        weight, bias = (f"{network}.0.layers.0.{part}" for part in ("weight", "bias"))
        return value @ numpyro.param(weight, initial[weight]).T + numpyro.param(bias, initial[bias])

    def model(x: jax.Array) -> None:
        with numpyro.plate("batch", len(x)):
            prior = numpyro.param("prior_logits", initial["prior_logits"])
            z = numpyro.sample("z_1", dist.Bernoulli(logits=prior).to_event(1))  # (B, Z)
            numpyro.sample("x", dist.Bernoulli(logits=affine("decoders", 2.0 * z - 1)).to_event(1), obs=x)

    def guide(x: jax.Array) -> None:
        with numpyro.plate("batch", len(x)):
            numpyro.sample("z_1", dist.Bernoulli(logits=affine("encoders", x - 0.5)).to_event(1))

    return model, guide


def _toy(initial: dict[str, Any], t: float) -> tuple[Callable[..., None], Callable[..., None]]:
    phi = lambda: numpyro.param("phi", initial["phi"])  # (B, 1)

    def model(x: jax.Array) -> None:
        still = jax.lax.stop_gradient(phi())
        with numpyro.plate("batch", len(x)):
            b = numpyro.sample("b", dist.Bernoulli(logits=still).to_event(1))
            numpyro.factor("gain", jnp.square(b[..., 0] - t))

    def guide(x: jax.Array) -> None:
        with numpyro.plate("batch", len(x)):
            numpyro.sample("b", dist.Bernoulli(logits=phi()).to_event(1))

    return model, guide
