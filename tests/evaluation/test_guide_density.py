"""Blocks of log q(z_i | x_j) against one replay a pair, for guides of every make."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.distributions.transforms import AffineAutoregressive, Planar
from pyro.nn import AutoRegressiveNN
from torch import nn

from pplvm.evaluation import guide_density
from pplvm.evaluation.evaluate import evaluate
from pplvm.evaluation.guide_density import FixedDraws, log_q_blocks, log_q_of_others, require_guide_density
from pplvm.evaluation.information import aggregate_posterior
from pplvm.evaluation.per_datum import evaluation_mode
from pplvm.particles.contract import ProgramError
from pplvm.particles.pair import sum_sites
from pplvm.programs.mixture import MixtureOfGaussians
from pplvm.programs.vae import VAE
from tests.problems import small_net


class TwoLayers(nn.Module):
    """z_2 ~ N(0, 1), z_1 | z_2, x | z_1; the upper guide joins x and z_1, however `joined` does it."""

    def __init__(self, upper=dist.Normal):
        super().__init__()
        self.below, self.above = nn.Linear(4, 4), nn.Linear(6, 2)
        self.upper = upper

    def joined(self, x, z):
        return torch.cat([x.expand(*z.shape[:-1], -1), z], -1)

    def model(self, x):
        with pyro.plate("batch", len(x)):
            top = pyro.sample("top", self.upper(torch.zeros(2), 1.0).to_event(1))
            z = pyro.sample("z", dist.Normal(top, 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z.repeat_interleave(2, -1), 1.0).to_event(1), obs=x)

    def guide(self, x):
        with pyro.plate("batch", len(x)):
            loc, log_scale = self.below(x).chunk(2, -1)
            z = pyro.sample("z", dist.Normal(loc, log_scale.exp()).to_event(1))
            pyro.sample("top", self.upper(self.above(self.joined(x, z)), 1.0).to_event(1))


class Added(TwoLayers):
    """Joins them so that they broadcast."""

    def joined(self, x, z):
        return torch.cat([x[..., :1] + z, (x[..., :2] * z), x[..., 2:] + 0 * z], -1)


class Reshaped(TwoLayers):
    """Takes any draws for particles of its own data, which (4, 1, Z) beside two data are not, though they fit."""

    def joined(self, x, z):
        flat = z.reshape(-1, len(x), 2) if z.dim() > 2 else z
        return torch.cat([x.expand(*flat.shape[:-1], -1), flat], -1)


class Flattened(TwoLayers):
    """Pairs rows of draws with rows of data by their number, of which four draws beside two data have enough."""

    def joined(self, x, z):
        rows = z.reshape(-1, 2)
        return torch.cat([x.repeat(len(rows) // len(x), 1), rows], -1).reshape(*z.shape[:-1], 6)


class Nested(nn.Module):
    """Two categorical latents a datum in a plate of their own, and a normal above them."""

    def __init__(self):
        super().__init__()
        self.below, self.above = nn.Linear(4, 6), nn.Linear(2, 1)

    def model(self, x):
        with pyro.plate("batch", len(x), dim=-1):
            top = pyro.sample("top", dist.Normal(0.0, 1.0))
            with pyro.plate("parts", 2, dim=-2):
                pyro.sample("z", dist.Categorical(logits=top.unsqueeze(-1) * torch.arange(3.0)))
            pyro.sample("x", dist.Normal(top.unsqueeze(-1), 1.0).expand([*top.shape, 4]).to_event(1), obs=x)

    def guide(self, x):
        with pyro.plate("batch", len(x), dim=-1):
            logits = self.below(x).unflatten(-1, (2, 3)).transpose(-2, -3)  # (parts, B, 3)
            with pyro.plate("parts", 2, dim=-2):
                z = pyro.sample("z", dist.Categorical(logits=logits))
            loc = self.above(z.transpose(-1, -2).double()).transpose(-1, -2) + x[:, 0]  # (..., 1, B)
            pyro.sample("top", dist.Normal(loc[..., 0, :] if z.dim() == 2 else loc, 0.5))


class Flow(VAE):
    """q(z | x) by an inverse autoregressive flow, which has an inverse."""

    def __init__(self, *sizes):
        super().__init__(*sizes)
        self.flow = AffineAutoregressive(AutoRegressiveNN(2, [5]))

    def guide(self, x):
        loc, log_scale = self.encoder(x).chunk(2, dim=-1)
        with pyro.plate("batch", len(x)):
            start = dist.Normal(loc, log_scale.exp()).to_event(1)
            pyro.sample("z", dist.TransformedDistribution(start, [self.flow]))


class NoInverse(Flow):
    def __init__(self, *sizes):
        super().__init__(*sizes)
        self.flow = Planar(2)


class Sharp(VAE):
    """Scales so small that a product of matrices would lose the density."""

    def guide(self, x):
        loc, log_scale = self.encoder(x).chunk(2, dim=-1)
        with pyro.plate("batch", len(x)):
            pyro.sample("z", dist.Normal(loc, (log_scale - 14).exp()).to_event(1))


GUIDES = {
    "normal": lambda: VAE(4, 2, (3,)),
    "bernoulli layers": lambda: small_net((2, 3), 4),
    "categorical": lambda: MixtureOfGaussians(4, 3),
    "joined": TwoLayers,
    "joined, Laplace": lambda: TwoLayers(dist.Laplace),
    "broadcasting": Added,
    "reshaped": Reshaped,
    "nested plates": Nested,
    "flow": lambda: Flow(4, 2, (3,)),
    "sharp": lambda: Sharp(4, 2, (3,)),
}


def drawn(program, x, num_particles=1):
    with evaluation_mode(program, x) as pair:
        return pair, FixedDraws.of(pair, [pair.run_guide(num_particles, (x,), {})])


def one_by_one(pair, held, x):
    """The truth: each pair apart, as a batch of one datum with one particle."""
    rows = []
    for i in range(len(held)):
        trace = held[i : i + 1].beside(pair, 1).trace()
        runs = [pair.run(poutine.replay(pair.guide, trace=trace), 1, (row,), {}) for row in x.split(1)]
        rows.append([float(sum_sites(pair.log_probs(run, 1))) for run in runs])
    return torch.tensor(rows)


def table(pair, held, x):
    found = torch.full((len(held), len(x)), math.nan)
    for rows, data, block in log_q_blocks(pair, held, x):
        assert found[rows, data].isnan().all() and block.dtype is torch.float64
        found[rows, data] = block
    return found


@pytest.mark.parametrize("name", GUIDES)
def test_every_pair_at_every_block_size(name, monkeypatch):
    torch.manual_seed(2)
    program, x = GUIDES[name](), (torch.rand(6, 4) < 0.5).double()
    others = (torch.rand(5, 4) < 0.5).double()
    with torch.no_grad():
        pair, held = drawn(program, x, num_particles=2)
        assert len(held) == 12
        truth = one_by_one(pair, held, others)
        assert truth.std() > 0.05
        found = table(pair, held, others)
        assert torch.allclose(found, truth, rtol=1e-11, atol=1e-11)
        for block_bytes, at_once in ((1, 1), (200, 2), (10**9, 5)):
            monkeypatch.setattr(guide_density, "BLOCK_BYTES", block_bytes)
            monkeypatch.setattr(guide_density, "DATA_AT_ONCE", at_once)
            assert torch.allclose(table(pair, held, others), found, rtol=1e-12, atol=1e-12)


def test_what_broadcasts_to_something_else_is_found_out():
    torch.manual_seed(2)
    program, x = Flattened(), torch.rand(2, 4)
    with torch.no_grad():
        pair, held = drawn(program, x, num_particles=2)
        wrong = guide_density._log_q(pair, guide_density._run(pair, held, x, True), held, 2, True)
        truth = one_by_one(pair, held, x)
        assert wrong.shape == truth.shape and (wrong - truth).abs().max() > 0.1
        assert torch.allclose(table(pair, held, x), truth)


def test_draws_belong_to_their_data_in_order():
    """Rows of K particles and B data: the draws of one datum beside each other."""
    program, x = VAE(4, 2, (3,)), torch.eye(4)
    with torch.no_grad(), evaluation_mode(program, x) as pair:
        trace = pair.run_guide(3, (x,), {})
        held = FixedDraws.of(pair, [trace])
        assert held.values["z"].shape == (12, 1, 2)
        assert torch.equal(held.values["z"][3:6, 0], trace.nodes["z"]["value"][:, 1])
        own = torch.arange(4).repeat_interleave(3)
        found = table(pair, held, x)[torch.arange(12), own].reshape(4, 3)
        assert torch.allclose(found, pair.log_probs(trace, 3)["z"].T)


def test_the_others_are_all_but_the_own():
    program, x = VAE(4, 2, (3,)), torch.eye(4)
    with torch.no_grad():
        pair, held = drawn(program, x)
        log_q = table(pair, held, x)
        own = torch.tensor([0, 1, -1, 3])
        truth = [log_q[i][[j for j in range(4) if j != own[i]]].logsumexp(0) for i in range(4)]
        assert torch.allclose(log_q_of_others(pair, held, x, own), torch.stack(truth), rtol=1e-12)
        alone = log_q_of_others(pair, held[:1], x[:1], torch.tensor([0]))
        assert alone.tolist() == [-math.inf]


def test_the_encoder_sees_each_datum_once(monkeypatch):
    """However many blocks the draws take; not so where a later layer depends on the draws."""
    monkeypatch.setattr(guide_density, "BLOCK_BYTES", 64)
    monkeypatch.setattr(guide_density, "DATA_AT_ONCE", 4)
    program, x = VAE(4, 2, (3,)), torch.rand(40, 4).round()
    with torch.no_grad():
        pair, held = drawn(program, x)
        seen = []
        program.encoder.register_forward_hook(lambda _, inputs, __: seen.append(len(inputs[0])))
        blocks = len(list(log_q_blocks(pair, held, x)))
    assert blocks == 200 and seen == [3] * 5 + [4] * 10  # the first five decide how to go about it


def test_upper_layers_that_no_datum_matters_to_run_once_a_draw():
    net, x = small_net((2, 3), 4), (torch.rand(30, 4) < 0.5).double()
    shapes = []
    with torch.no_grad():
        pair, held = drawn(net, x)
        net.encoders[0].register_forward_hook(lambda _, __, out: shapes.append(tuple(out.shape)))
        list(log_q_blocks(pair, held, x))
    assert shapes[-1] == (30, 1, 2)


class Point(VAE):
    def guide(self, x):
        with pyro.plate("batch", len(x)):
            pyro.sample("z", dist.Delta(self.encoder(x)[..., :2]).to_event(1))


class Auxiliary(VAE):
    def guide(self, x):
        loc, log_scale = self.encoder(x).chunk(2, dim=-1)
        with pyro.plate("batch", len(x)):
            pyro.sample("z", dist.Normal(loc, log_scale.exp()).to_event(1))
            pyro.sample("a", dist.Normal(x[:, 0], 1.0), infer={"is_auxiliary": True})


class Masked(VAE):
    def model(self, x):
        with poutine.mask(mask=torch.tensor(True)):
            super().model(x)

    def guide(self, x):
        with poutine.mask(mask=torch.tensor(True)):
            super().guide(x)


@pytest.mark.parametrize(
    "program, words",
    [(Point, "'z' is a Delta.*OneHotCategorical"), (Auxiliary, "auxiliary guide site 'a'"), (Masked, "'z' is masked")],
)
def test_guides_without_the_density_are_refused(program, words):
    x = torch.ones(3, 4)
    with evaluation_mode(program(4, 2, (3,)), x) as pair, pytest.raises(ValueError, match=f"here needs .*{words}"):
        require_guide_density("here", pair, x)


def test_a_guide_that_knows_its_own_draws_alone_is_refused():
    with torch.no_grad():
        pair, held = drawn(NoInverse(4, 2, (3,)), torch.rand(3, 4).round())
        with pytest.raises(ValueError, match="no density to draws that are not its own.*with an inverse"):
            list(log_q_blocks(pair, held, torch.rand(3, 4).round()))


def test_a_flow_without_an_inverse_costs_an_evaluation_its_information_alone():
    found = evaluate(NoInverse(4, 2, (3,)), torch.rand(4, 4).round(), ks=(1, 10))
    assert {"likelihood", "rate and distortion"} == found.sections.keys()
    assert all("no density to draws that are not its own" in sentence for sentence in found.left_out)


class Centred(TwoLayers):
    """Takes the particles' dimension, where there is one, for coordinates of z."""

    def joined(self, x, z):
        return super().joined(x, z - z.mean(0) if z.dim() == 3 else z)


def test_a_guide_that_mixes_particles_is_refused():
    x = torch.rand(5, 4)
    with pytest.raises(ProgramError, match="guide site 'top' gives datum 0 .* the same draw one by one"):
        aggregate_posterior(Centred(), x)
    assert aggregate_posterior(TwoLayers(), x).information.isfinite().all()
