"""Commitment and codebook penalties of quantized programs: never in a value, of the same weight for any batch."""

import pytest
import torch

from pplvm.graphs.compiled import compiled
from pplvm.objectives.biased import BiasedPathwise
from pplvm.objectives.objective import Loss, ObjectiveError
from pplvm.objectives.pathwise import AnalyticKL, Pathwise
from pplvm.objectives.penalized import Penalized
from pplvm.objectives.score_function import LeaveOneOut
from pplvm.objectives.tempered import Beta, FreeBits, Warmup
from pplvm.programs.vq_vae import vq_vae


def program(codebook="gradient"):
    torch.manual_seed(2)
    return vq_vae(6, grid=(1, 3), num_codes=5, code_size=2, hidden_sizes=(7,), codebook=codebook)


def data(n=4):
    return (torch.rand(n, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64) < 0.5).double()


def gradients(loss, x):
    named = dict(loss.program.named_parameters())
    found = torch.autograd.grad(loss(x), list(named.values()), allow_unused=True)
    return {name: torch.zeros_like(p) if g is None else g for (name, p), g in zip(named.items(), found, strict=True)}


def penalty(program, x):
    """The closed form: mean over data and positions of .25 |z - stop(e)|^2 + |stop(z) - e|^2."""
    z, codes = program.encoder(x), program.codebook.codes
    e = codes[torch.cdist(z, codes).argmin(-1)]
    return (0.25 * (z - e.detach()).square().sum(-1) + (z.detach() - e).square().sum(-1)).mean()


WEIGHTS = {"commitment": 0.25, "codebook": 1.0}
WRAPPED = {
    "alone": lambda o, w: Penalized(o, w),
    "in Beta": lambda o, w: Beta(Penalized(o, w), 0.5),
    "around Beta": lambda o, w: Penalized(Beta(o, 0.5), w),
    "around FreeBits": lambda o, w: Penalized(FreeBits(o, 0.1), w),
    "in FreeBits": lambda o, w: FreeBits(Penalized(o, w), 0.1),
    "in Warmup": lambda o, w: Warmup(Penalized(Beta(o, 2.0), w), 10),
    "around Warmup": lambda o, w: Penalized(Warmup(o, 10), w),
}
PLAIN = {
    "in Beta": lambda o: Beta(o, 0.5),
    "around Beta": lambda o: Beta(o, 0.5),
    "around FreeBits": lambda o: FreeBits(o, 0.1),
    "in FreeBits": lambda o: FreeBits(o, 0.1),
    "in Warmup": lambda o: Warmup(Beta(o, 2.0), 10),
    "around Warmup": lambda o: Warmup(o, 10),
}


@pytest.mark.parametrize("wrapped", WRAPPED)
def test_no_weight_moves_the_value_and_the_gradient_is_the_closed_form(wrapped):
    """However it nests, eager and as a graph; the value is equal to the bit."""
    own, x, values = program(), data(), {}
    for weight in (0.0, 0.25, 100.0):
        loss = Loss(WRAPPED[wrapped](BiasedPathwise(), {"commitment": weight, "codebook": weight}), own)
        values[weight] = loss(x).detach()
        if weight == 100.0:
            graph = compiled(loss, "graph")
            values["graph"] = graph(x).detach()
            assert graph.tier_now == "graph"
    plain = Loss(PLAIN.get(wrapped, lambda o: o)(BiasedPathwise()), own)
    assert len({float(value) for value in values.values()}) == 1 and float(plain(x).detach()) == float(values[0.0])
    without, found = gradients(plain, x), gradients(Loss(WRAPPED[wrapped](BiasedPathwise(), WEIGHTS), own), x)
    closed = torch.autograd.grad(penalty(own, x), list(own.parameters()), allow_unused=True)
    for name, c in zip(without, closed, strict=True):
        assert torch.allclose(
            found[name] - without[name], torch.zeros_like(found[name]) if c is None else c, atol=1e-10
        )
    assert found["codebook.codes"].abs().max() > 0.01


@pytest.mark.parametrize("codebook", ["gradient", "moving-average"])
def test_a_batch_repeated_has_the_same_gradient(codebook):
    """The mutant sums over the batch, as pythae's commitment does."""
    own, x = program(codebook), data()
    loss = Loss(Penalized(BiasedPathwise(), {"commitment": 0.25}), own)
    once, twice = gradients(loss, x), gradients(loss, x.repeat(2, 1))
    assert all(torch.allclose(g, twice[name], atol=1e-12) for name, g in once.items())

    class Summed(Penalized):
        def _values(self, pair, guide_trace, num_data):
            found = super()._values(pair, guide_trace, num_data)
            return {name: len(value) * value for name, value in found.items()}

    wrong = Loss(Summed(BiasedPathwise(), {"commitment": 0.25}), own)
    once, twice = gradients(wrong, x), gradients(wrong, x.repeat(2, 1))
    assert max(float((g - twice[name]).abs().max()) for name, g in once.items()) > 0.01


@pytest.mark.parametrize("K", [1, 3])
def test_particles_of_a_nearest_code_are_one(K):
    own, x = program(), data()
    found = [gradients(Loss(Penalized(BiasedPathwise(num_particles=k), WEIGHTS), own), x) for k in (1, K)]
    assert all(torch.allclose(g, found[1][name], atol=1e-12) for name, g in found[0].items())


@pytest.mark.parametrize("make", [Pathwise, AnalyticKL, lambda: LeaveOneOut(num_particles=2)])
def test_other_rules_take_the_penalties_of_a_point_guide_too(make):
    """Its draw has no score that a penalty could miss: log q is 0 whatever the parameters."""
    own, x = program(), data()
    without = gradients(Loss(make(), own), x)
    found = gradients(Loss(Penalized(make(), WEIGHTS), own), x)
    closed = torch.autograd.grad(penalty(own, x), list(own.parameters()), allow_unused=True)
    for name, c in zip(without, closed, strict=True):
        assert torch.allclose(
            found[name] - without[name], torch.zeros_like(found[name]) if c is None else c, atol=1e-10
        )


def test_reported_and_refused():
    own, x = program(), data()
    loss = Loss(Penalized(BiasedPathwise(), WEIGHTS), own)
    loss(x)
    assert loss.reported().keys() == WEIGHTS.keys()
    assert float(0.25 * loss.reported()["commitment"] + loss.reported()["codebook"]) == pytest.approx(
        float(penalty(own, x).detach())
    )
    with pytest.raises(ObjectiveError, match="names 'codebook', but the guide's deterministic sites are 'commitment'"):
        Loss(Penalized(BiasedPathwise(), WEIGHTS), program("moving-average"))(x)
