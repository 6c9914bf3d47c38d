"""The accelerator itself: numbers, gradients, graphs and refusals; what lies on the CPU by mistake fails on it."""

from dataclasses import replace

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

from pplvm.graphs.compiled import compiled
from pplvm.objectives.objective import Loss
from pplvm.objectives.pathwise import Pathwise
from pplvm.particles.draw import draw_particles
from pplvm.programs.vae import VAE
from tests.pretend_device import PretendTensor, host_noise, pretend_device

MIXED = "all tensors .*on (the same|one) device|same device|generator"


def test_it_comes_and_goes():
    with pretend_device() as device:
        x = torch.ones(2, device=device)
        assert x.device == device and not x.is_cpu and isinstance(x, PretendTensor)
    with pytest.raises((RuntimeError, NotImplementedError)):
        torch.ones(2, device=device)
    assert torch.ones(2).is_cpu


MADE = {
    "zeros": lambda device: torch.zeros(2, 3, device=device),
    "tensor": lambda device: torch.tensor([1.0, 2.0], device=device),
    "tensor of an integer": lambda device: torch.tensor(3, device=device),
    "as_tensor": lambda device: torch.as_tensor([1.0, 2.0], device=device),
    "new_tensor": lambda device: torch.ones(2, device=device).new_tensor([1.0, 2.0]),
    "new_zeros": lambda device: torch.ones(2, device=device).new_zeros(3),
    "randn": lambda device: torch.randn(3, device=device),
    "like": lambda device: torch.rand_like(torch.ones(2, device=device)),
    "to": lambda device: torch.arange(3).to(device),
    "context": lambda device: _in(device, lambda: torch.eye(2)),
    "module": lambda device: next(nn.Linear(2, 3).to(device).parameters()),
    "buffer": lambda device: nn.BatchNorm1d(2).to(device).running_var,
    "mask": lambda device: torch.arange(3, device=device)[torch.tensor([0, 2])],
    "list": lambda device: torch.eye(3, device=device)[:, [0, 2]],
    "set": lambda device: _set(torch.eye(3, device=device)),
    "number from the CPU": lambda device: torch.arange(3, device=device) * torch.tensor(2.0),
}


def _in(device, make):
    with device:
        return make()


def _set(x):
    x[x > 0.5] = 3
    x[:, [0]] = 2.0
    return x


@pytest.mark.parametrize("make", MADE.values(), ids=MADE)
def test_tensors_are_made_there(accelerator, make):
    def on(device):
        found = make(device)
        assert found.device.type == device.type
        return found

    accelerator.same(on)


MIXES = {
    "add": lambda there, here: there + here,
    "add in place": lambda there, here: here.add_(there),
    "matmul": lambda there, here: there @ here,
    "cat": lambda there, here: torch.cat([there, here]),
    "stack of numbers": lambda there, here: torch.stack([there.sum(), here.sum()]),
    "where": lambda there, here: torch.where(there > 0, there, here),
    "index": lambda there, here: here[(there[:, 0] > 0)],
    "index_put": lambda there, here: there.index_put_((torch.tensor([0]),), here[:1]),
    "linear": lambda there, here: nn.functional.linear(there, here),
    "sample": lambda there, here: dist.Normal(there, here).rsample(),
    "log_prob": lambda there, here: dist.Normal(there, 1.0).log_prob(here),
    "generator": lambda there, here: there.normal_(generator=torch.Generator().manual_seed(0)),
    "expand": lambda there, here: torch.addmm(here, there, there),
}


@pytest.mark.parametrize("mix", MIXES.values(), ids=MIXES)
def test_what_lies_on_two_devices_is_refused(accelerator, mix):
    here = torch.ones(3, 3)
    with accelerator() as device, pytest.raises((RuntimeError, ValueError), match=MIXED):
        mix(torch.ones(3, 3, device=device), here)


DRAWN = {
    "randn": lambda like: torch.randn(3, device=like.device),
    "like": torch.rand_like,
    "in place": lambda like: like.clone().exponential_(2.0),
    "normal": lambda like: torch.normal(like, like),
    "bernoulli": lambda like: torch.bernoulli(0.5 * like),
    "gamma": torch._standard_gamma,
    "multinomial": lambda like: torch.multinomial(like, 2),
    "permutation": lambda like: torch.randperm(5, device=like.device),
    "dropout": nn.functional.dropout,
}


@pytest.mark.parametrize("draw", DRAWN.values(), ids=DRAWN)
def test_draws_are_those_of_the_cpu(accelerator, draw):
    """What makes CUDA's draws comparable is tried on the pretend device too."""

    def on(device):
        with host_noise():
            found = draw(torch.ones(3, device=device))
        assert found.device.type == device.type
        return found

    accelerator.same(on)


def test_it_is_no_array(accelerator):
    with accelerator() as device, pytest.raises(TypeError, match="can't convert .* to numpy"):
        torch.ones(3, device=device).numpy()


class Constant(VAE):
    """A model with a constant made on the CPU."""

    def model(self, x):
        with pyro.plate("batch", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.Bernoulli(logits=self.decoder(z)).to_event(1), obs=x)


class LeftBehind(VAE):
    """A program with a tensor that is no buffer, which `.to(device)` leaves where it is."""

    def __init__(self, *sizes):
        super().__init__(*sizes)
        self.shift = torch.ones(6)

    def guide(self, x):
        super().guide(x - self.shift)


class Drawing(VAE):
    """A guide that draws on the CPU."""

    def guide(self, x):
        loc, log_scale = self.encoder(x).chunk(2, dim=-1)
        with pyro.plate("batch", len(x)):
            pyro.sample("z", dist.Delta(loc + log_scale.exp() * torch.randn(loc.shape), event_dim=1))


class Careless(Pathwise):
    """An objective with a constant made on the CPU."""

    def estimate(self, pair, *args, **kwargs):
        found = super().estimate(pair, *args, **kwargs)
        return replace(found, surrogate=found.surrogate * torch.ones(len(found.surrogate)))


class Shifted(dist.Normal):
    """A distribution with a constant made on the CPU."""

    def rsample(self, *shape):
        return super().rsample(*shape) + torch.zeros(self.batch_shape)


class WithShifted(VAE):
    def guide(self, x):
        loc, log_scale = self.encoder(x).chunk(2, dim=-1)
        with pyro.plate("batch", len(x)):
            pyro.sample("z", Shifted(loc, log_scale.exp()).to_event(1))


PLANTED = {
    "in a model": (Constant, Pathwise),
    "in a buffer": (LeftBehind, Pathwise),
    "in a draw": (Drawing, Pathwise),
    "in an objective": (VAE, Careless),
    "in a distribution": (WithShifted, Pathwise),
}


@pytest.mark.parametrize("program, objective", PLANTED.values(), ids=PLANTED)
def test_a_planted_cpu_tensor_fails(accelerator, program, objective):
    x = torch.bernoulli(torch.full((5, 6), 0.5))
    assert Loss(objective(), program(6, 2, (4,)))(x).isfinite()  # on the CPU nobody sees it
    with accelerator() as device, pytest.raises((RuntimeError, ValueError), match=MIXED):
        Loss(objective(), program(6, 2, (4,)).to(device))(x.to(device)).backward()


def test_data_left_on_the_cpu_fail(accelerator):
    with accelerator() as device, pytest.raises((RuntimeError, ValueError), match=MIXED):
        draw_particles((program := VAE(6, 2, (4,)).to(device)).model, program.guide, torch.ones(5, 6))


def test_a_graph_keeps_no_cpu_tensor(accelerator):
    """The same planted constant under the compiled loss: not one graph, and not silently right either."""
    with accelerator() as device, pytest.raises((RuntimeError, ValueError), match=MIXED):
        compiled(Loss(Pathwise(), LeftBehind(6, 2, (4,)).to(device)), "graph")(torch.ones(5, 6, device=device))
