"""Evaluators through a graph give the figures of the program's handlers, datum by datum, from the same seed."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

from pplvm.evaluation import particle_terms
from pplvm.evaluation.evidence import log_evidence
from pplvm.evaluation.likelihood import importance_sampled
from pplvm.evaluation.particle_terms import ParticleTerms
from pplvm.evaluation.per_datum import each_datum, evaluation_mode
from pplvm.evaluation.rate_distortion import rate_distortion
from pplvm.graphs import particle_graph as graphs
from pplvm.graphs.noise import Draw
from pplvm.programs.mixture import MixtureOfGaussians
from pplvm.programs.ppca import ProbabilisticPCA
from pplvm.programs.sigmoid_belief import SigmoidBeliefNet
from pplvm.programs.vae import VAE
from tests.evaluation.test_evaluators import columns
from tests.graphs.test_particle_graph import Widest

D = 6

PROGRAMS = {
    "vae": lambda: VAE(D, 2, (5,)),
    "belief net": lambda: SigmoidBeliefNet(D, (2, 3), (7,)),
    "mixture": lambda: MixtureOfGaussians(D, 4),
    "ppca": lambda: ProbabilisticPCA(D, 2),
}

EVALUATORS = {
    "importance_sampled": lambda program, x: importance_sampled(program, x, ks=(1, 10, 600)),
    "rate_distortion": lambda program, x: rate_distortion(program, x, num_particles=600),
}


@pytest.fixture
def built(monkeypatch):
    """Every run by a graph, however few the data; the graphs that there are."""
    found = []

    def kept(*args):
        found.append(graphs.particle_graph(*args))
        return found[-1]

    monkeypatch.setattr(particle_terms, "particle_graph", kept)
    monkeypatch.setattr(particle_terms, "FEW", 0)
    return found


def data(dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return (torch.rand(4, D) < 0.5).to(dtype)


def largest_gap(found, expected) -> float:
    gaps = [(a - b).abs().nan_to_num() / (1 + b.abs()) for a, b in zip(columns(found), columns(expected), strict=True)]
    return max(float(gap.max()) for gap in gaps)


@pytest.mark.parametrize("dtype, chunk", [(torch.float64, 600), (torch.float32, 37)])
@pytest.mark.parametrize("ask", EVALUATORS.values(), ids=list(EVALUATORS))
@pytest.mark.parametrize("name", PROGRAMS)
def test_the_figures_are_those_of_the_handlers(monkeypatch, built, name, ask, dtype, chunk):
    program, x = PROGRAMS[name]().to(dtype), data(dtype)
    monkeypatch.setitem(graphs.BYTES, "cpu", D * dtype.itemsize * chunk)
    found = ask(program, x)
    assert len(built) == 2 and all((graph.chunk <= 37) == (chunk == 37) for graph in built)  # of 500 and of 100
    monkeypatch.setattr(particle_terms, "FEW", 10**9)
    expected = ask(program, x)
    assert len(built) == 2
    tolerance = 1e-10 if dtype is torch.float64 else 1e-5
    assert largest_gap(found, expected) < tolerance


def test_noise_taken_for_a_constant_fails(monkeypatch, built):
    program, x = PROGRAMS["vae"](), data()
    expected = importance_sampled(program, x, ks=(600,))
    draw, kept = Draw.__call__, {}
    monkeypatch.setattr(Draw, "__call__", lambda self: kept.setdefault(self, draw(self)))
    monkeypatch.setattr(graphs, "_require_agreement", lambda *args: None)
    assert largest_gap(importance_sampled(program, x, ks=(600,)), expected) > 1e-3


@pytest.mark.parametrize("ask", EVALUATORS.values(), ids=list(EVALUATORS))
def test_order_and_company_change_no_figure(built, ask):
    program, x = PROGRAMS["vae"](), torch.tril(torch.ones(4, D))  # no two alike
    found, turned, alone = ask(program, x), ask(program, x.flip(0)), ask(program, x[2:3])
    for whole, back, one in zip(columns(found), columns(turned), columns(alone), strict=True):
        torch.testing.assert_close(back.flip(0), whole, rtol=1e-12, atol=1e-12, equal_nan=True)
        torch.testing.assert_close(one[0], whole[2], rtol=1e-12, atol=1e-12, equal_nan=True)
    assert built


def test_the_evidence_of_probabilistic_pca(built):
    program, x = ProbabilisticPCA(D, 2).at_posterior(), torch.randn(4, D)
    found = importance_sampled(program, x, ks=(1, 700))
    assert built and (found.log_p - log_evidence(program, x).log_p[:, None]).abs().max() < 1e-6


class Undecided(VAE):
    """Python decides by a draw."""

    def model(self, x):
        with pyro.plate("batch", len(x)):
            z = pyro.sample("z", dist.Normal(self.zeros, 1.0).to_event(1))
            sign = 1.0 if float(z.sum()) > 0 else -1.0
            pyro.sample("x", dist.Bernoulli(logits=sign * self.decoder(z)).to_event(1), obs=x)


class Gammas(nn.Module):
    """Draws within the graph."""

    def __init__(self) -> None:
        super().__init__()
        self.rate = nn.Parameter(torch.ones(D))

    def model(self, x):
        with pyro.plate("batch", len(x)):
            z = pyro.sample("z", dist.Gamma(2.0 * torch.ones(D), 1.0).to_event(1))
            pyro.sample("x", dist.Poisson(z * self.rate.exp()).to_event(1), obs=x)

    def guide(self, x):
        with pyro.plate("batch", len(x)):
            pyro.sample("z", dist.Gamma(2.0 + x, self.rate.exp()).to_event(1))


@pytest.mark.parametrize("make", [lambda: Undecided(D, 2), Gammas])
@pytest.mark.parametrize("ask", EVALUATORS.values(), ids=list(EVALUATORS))
def test_what_is_no_graph_goes_by_its_handlers_to_the_bit(monkeypatch, built, make, ask):
    program, x = make(), data()
    found = ask(program, x)
    assert not built
    monkeypatch.setattr(particle_terms, "FEW", 10**9)
    assert largest_gap(found, ask(program, x)) == 0


def test_few_runs_make_no_graph(monkeypatch, built):
    monkeypatch.setattr(particle_terms, "FEW", 13)
    for num_particles, graphs_made in ((1500, 0), (2000, 1)):  # 12 and 16 runs of 500
        importance_sampled(PROGRAMS["vae"](), data(), ks=(num_particles,))
        assert len(built) == graphs_made


def test_memory_does_not_grow_with_the_particles(monkeypatch, built):
    program, x = VAE(200, 2, (5,)), (torch.rand(1, 200) < 0.5).double()
    monkeypatch.setitem(graphs.BYTES, "cpu", 200 * 8 * 50)
    widest = {}
    for num_particles in (500, 5000):
        with evaluation_mode(program, x) as pair:
            asked = ParticleTerms(pair, x, num_particles, lambda drawn: {"log w": drawn.log_weights[:, 0]})
            asked(x)  # builds
            with Widest() as seen:
                (row,) = each_datum(x, 0)
                assert asked(row)["log w"].shape == (num_particles,)
        widest[num_particles] = seen
    assert built[0].chunk == 50
    assert widest[500].bytes == widest[5000].bytes == 200 * 8 * 50
    layers = 2 + 2 * torch.tensor([10, 100])  # the encoder's once, the decoder's for each chunk
    assert [widest[500].multiplied, widest[5000].multiplied] == layers.tolist()


@pytest.mark.parametrize("ask", ["importance_sampled", "rate_distortion"])
def test_a_tier_that_is_asked_for_is_taken(built, ask):
    program, x = PROGRAMS["vae"](), data()
    asked = {"importance_sampled": importance_sampled, "rate_distortion": rate_distortion}[ask]
    expected = asked(program, x, compile="off")
    assert not built
    assert largest_gap(asked(program, x, compile="graph"), expected) < 1e-10
    assert len(built) == {"importance_sampled": 1, "rate_distortion": 1}[ask]
