"""The library's programs written in NumPyro, as pairs of model and guide, and its SVI on them.

Parameters come by their names in torch, so that all start from the same.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import jax
import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
import torch
from numpyro.infer import SVI
from torch import Tensor, nn

from benchmarks.contestants import LEARNING_RATE
from benchmarks.peers.problems import Problem, Toy
from pplvm.programs.vae import VAE

__all__ = ["NumPyroContestant", "Parameters", "initial_of", "mlp", "pair_of", "to_jax"]

Parameters = dict[str, jax.Array]
Pair = tuple[Callable[[jax.Array], None], Callable[[jax.Array], None]]
ACTIVATIONS = {nn.Softplus: jax.nn.softplus, nn.Tanh: jnp.tanh}


@dataclass
class NumPyroContestant:
    """A NumPyro program that starts from the parameters of the problem's own; step and gradient compiled by jax."""

    problem: Problem
    objective: numpyro.infer.elbo.ELBO
    names: list[str] = field(init=False)

    def __post_init__(self) -> None:
        program = self.problem.build()
        self.x, self.initial = to_jax(self.problem.x), initial_of(program)
        self.names = list(self.initial)
        model, guide = pair_of(program, self.initial)
        self.svi = SVI(model, guide, numpyro.optim.Adam(LEARNING_RATE), self.objective)
        self.key, self.state = jax.random.key(0), jax.jit(self.svi.init)(jax.random.key(1), self.x)
        self.update = jax.jit(self.svi.update)
        loss = lambda parameters, key: self.objective.loss(key, parameters, model, guide, self.x) / len(self.x)
        self.loss = loss
        self.differentiate = jax.jit(jax.grad(loss))

    def step(self) -> jax.Array:
        """Returns before its work is done."""
        self.state, loss = self.update(self.state, self.x)
        return loss

    def gradient(self) -> Tensor:
        """At the initial parameters."""
        self.key, key = jax.random.split(self.key)
        return self.flat(self.differentiate(self.initial, key))

    def parameters(self) -> Tensor:
        return self.flat(self.svi.get_params(self.state))

    def settle(self) -> None:
        """It has no baseline."""

    def flat(self, found: Parameters) -> Tensor:
        return torch.cat([torch.tensor(jax.device_get(found[name])).flatten() for name in self.names])


def initial_of(program: nn.Module) -> Parameters:
    return {name: to_jax(p) for name, p in program.named_parameters()}


def to_jax(value: Tensor) -> jax.Array:
    """On the device of the same kind.

    Raises:
        RuntimeError: jax has no such device.
    """
    return jax.device_put(value.detach().cpu().numpy(), jax.devices(value.device.type)[0])


def pair_of(program: nn.Module, initial: Parameters) -> Pair:
    """Model and guide of one of the library's programs (or the toy)."""
    if isinstance(program, Toy):
        return _toy(initial, program.t)
    return (_vae if isinstance(program, VAE) else _belief_net)(program, initial)


def _vae(program: VAE, initial: Parameters) -> Pair:
    Z = len(program.zeros)

    def model(x: jax.Array) -> None:
        with numpyro.plate("batch", len(x)):
            z = numpyro.sample("z", dist.Normal(jnp.zeros(Z), 1.0).to_event(1))  # (B, Z)
            logits = mlp("decoder", program.decoder, initial, z)
            numpyro.sample("x", dist.Bernoulli(logits=logits).to_event(1), obs=x)

    def guide(x: jax.Array) -> None:
        loc, log_scale = jnp.split(mlp("encoder", program.encoder, initial, x), 2, axis=-1)
        with numpyro.plate("batch", len(x)):
            numpyro.sample("z", dist.Normal(loc, jnp.exp(log_scale)).to_event(1))

    return model, guide


def _belief_net(program: nn.Module, initial: Parameters) -> Pair:
    layers = len(program.decoders)
    decode, encode = (
        [partial(mlp, f"{half}.{i}", network, initial) for i, network in enumerate(getattr(program, half))]
        for half in ("decoders", "encoders")
    )

    def model(x: jax.Array) -> None:
        with numpyro.plate("batch", len(x)):
            logits = numpyro.param("prior_logits", initial["prior_logits"])
            for i in range(layers):
                z = numpyro.sample(f"z_{i + 1}", dist.Bernoulli(logits=logits).to_event(1))  # (B, Z)
                logits = decode[i](2.0 * z - 1)
            numpyro.sample("x", dist.Bernoulli(logits=logits).to_event(1), obs=x)

    def guide(x: jax.Array) -> None:
        with numpyro.plate("batch", len(x)):
            below = x - 0.5
            for i in reversed(range(layers)):
                below = 2.0 * numpyro.sample(f"z_{i + 1}", dist.Bernoulli(logits=encode[i](below)).to_event(1)) - 1

    return model, guide


def mlp(name: str, network: nn.Module, initial: Parameters, value: jax.Array) -> jax.Array:
    """A `pplvm.networks.dense.MLP` with every weight and bias a parameter."""
    for number, layer in enumerate(network.layers):
        if isinstance(layer, nn.Linear):
            names = (f"{name}.layers.{number}.{part}" for part in ("weight", "bias"))
            weight, bias = (numpyro.param(each, initial[each]) for each in names)
            value = value @ weight.T + bias
        else:
            value = ACTIVATIONS[type(layer)](value)
    return value


def _toy(initial: Parameters, t: float) -> Pair:
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
