"""Importance sampling where log p(x), the elbo or the whole mean at k are known; wrong variants fail the same tests."""

import copy
import dataclasses
import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn
from torch.distributions import Binomial, MultivariateNormal, kl_divergence

from pplvm.evaluation import likelihood
from pplvm.evaluation.evaluate import evaluate
from pplvm.evaluation.evidence import log_evidence
from pplvm.evaluation.likelihood import ImportanceSampled, bits_per_dim, importance_sampled
from pplvm.evaluation.per_datum import draw_in_chunks, each_datum, evaluation_mode
from pplvm.evaluation.weight_diagnostics import effective_size
from pplvm.programs.ppca import ProbabilisticPCA
from tests.evaluation.test_evidence import Indicator
from tests.problems import BernoulliToy, linear_gaussian, small_net, two_data

KS = (1, 10, 100, 1000)


def ppca(width: float = 1.0) -> ProbabilisticPCA:
    """With a guide that is so many times as wide as the exact posterior, and off its mean."""
    torch.manual_seed(1)
    program = ProbabilisticPCA(5, 2).at_posterior()
    with torch.no_grad():
        program.guide_tril += math.log(width) * torch.eye(2)
        program.encoder.bias += 0.3 * (width != 1)
    return program


def belief_net(latent_sizes=(1,)):
    """Of one latent unit, whose posterior is a logistic regression: the guide is set to it."""
    net = small_net(latent_sizes)
    with torch.no_grad():
        on, off = net.decoders[-1](torch.tensor([[1.0], [-1.0]]))
        log_odds = nn.functional.softplus(off).sum() - nn.functional.softplus(on).sum() + net.prior_logits.sum()
        net.encoders[-1].last.weight.copy_(on - off)
        net.encoders[-1].last.bias.copy_(log_odds + (on - off) @ net.centre)
    return net


def exact_elbo(program: ProbabilisticPCA, x: torch.Tensor) -> torch.Tensor:
    """log p(x) - KL(q || posterior), (N,)."""
    L = program.guide_tril.tril(-1) + program.guide_tril.diagonal().exp().diag()
    guide = MultivariateNormal(program.encoder(x), scale_tril=L)
    exact = copy.deepcopy(program).at_posterior()
    S = exact.guide_tril.tril(-1) + exact.guide_tril.diagonal().exp().diag()
    posterior = MultivariateNormal(exact.encoder(x), scale_tril=S)
    return (program.log_evidence(x) - kl_divergence(guide, posterior)).detach()


def off_by(found: torch.Tensor, truth: torch.Tensor, error: torch.Tensor) -> float:
    """How many standard errors the mean over the data is away from the truth."""
    return float((found - truth).mean() / error.square().mean().sqrt()) * len(found) ** 0.5


@pytest.mark.parametrize("program, x", [(ppca, torch.randn(6, 5).double()), (belief_net, two_data().double())])
def test_at_the_posterior_every_k_is_the_evidence(program, x):
    program = program()
    found, truth = importance_sampled(program, x, ks=(1, 7, 600)), log_evidence(program, x)
    assert truth is not None and found.log_p.dtype is torch.float64
    assert (found.log_p - truth.log_p[:, None]).abs().max() < 1e-6 and (found.elbo - truth.log_p).abs().max() < 1e-6
    assert (found.ess - 600).abs().max() < 1e-6 and found.error.max() < 1e-6
    assert found.khat.isnan().all() and found.unreliable == 0


def bernoulli_mean(toy: BernoulliToy, k: int) -> torch.Tensor:
    """E log p_k: the number of ones among k draws is binomial."""
    ones = torch.arange(k + 1.0)
    w1, w0 = math.exp((1 - toy.t) ** 2), math.exp(toy.t**2)
    log_p = ((ones * w1 + (k - ones) * w0) / k).log()
    return (Binomial(k, logits=toy.phi.detach()).log_prob(ones).exp() * log_p).sum()


def bernoulli_off_by(k: int, data: int = 80) -> tuple[float, float]:
    """How far data that differ in noise alone are from the exact mean at k, and how far their spread is from the stated
    error, both in standard errors."""
    toy = BernoulliToy(0.8, -1.5)
    found = importance_sampled(toy, torch.arange(1.0 * data)[:, None], ks=(k, 10 * k))
    z = (found.log_p[:, 0] - bernoulli_mean(toy, k)) / found.error[:, 0].square().mean().sqrt()
    return abs(float(z.mean())) * data**0.5, abs(float(z.square().mean()) - 1) * (data / 2) ** 0.5


@pytest.mark.parametrize("k", [1, 3, 40])
def test_the_mean_and_the_error_at_every_k_are_exact(k):
    assert max(bernoulli_off_by(k)) < 4.5


def wrong_sign(terms, row, number):
    return -terms(row)["log w"]


@pytest.mark.parametrize(
    "name, mutant",
    [
        ("_log_weights", wrong_sign),
        ("iwae", lambda w: w.logsumexp(0)),  # without log k
        ("iwae", lambda w: w.mean(0)),  # the elbo at every k
        ("iwae", lambda w: (w.softmax(0) * w).sum(0)),  # the value that a published library logs
    ],
)
def test_wrong_bounds_are_seen(monkeypatch, name, mutant):
    monkeypatch.setattr(likelihood, name, mutant)
    assert max(bernoulli_off_by(40)) > 10


def test_estimates_bracket_a_known_evidence():
    program, x = ppca(1.5), torch.randn(40, 5)
    found, truth = importance_sampled(program, x, ks=KS), log_evidence(program, x).log_p
    lower = exact_elbo(program, x)
    assert (truth - lower).mean() > 0.3
    assert abs(off_by(found.elbo, lower, found.error[:, 0])) < 4 and torch.allclose(found.elbo, found.log_p[:, 0])
    for i, k in enumerate(KS):
        error = found.error[:, i]
        assert off_by(found.log_p[:, i], lower, error) > -4 and off_by(found.log_p[:, i], truth, error) < 4
        gap = (1000 / found.ess - 1) / (2 * k)  # the bias of log p_k, to first order
        assert k < 100 or abs(off_by(found.log_p[:, i] + gap, truth, error)) < 4
    z = (found.log_p[:, -1] - truth) / found.error[:, -1]
    assert 0.6 < z.std() < 1.4  # the stated error of the single group is the right size


def test_estimates_bracket_an_enumerated_evidence():
    net, x = small_net((3, 2), 12), (torch.rand(40, 12) < 0.5).double()
    found, truth = importance_sampled(net, x, ks=KS), log_evidence(net, x).log_p
    assert (truth - found.elbo).mean() > 0.5
    assert off_by(found.log_p[:, 0], truth, found.error[:, 0]) < -10
    for i in range(len(KS)):
        assert off_by(found.log_p[:, i], truth, found.error[:, i]) < 4
    assert abs(off_by(found.log_p[:, -1], truth, found.error[:, -1])) < 4


def test_estimates_rise_with_k_whatever_the_draws():
    found = importance_sampled(ppca(0.4), 3 * torch.randn(5, 5), ks=KS)
    assert (found.log_p.diff(dim=1) > 0).all() and (found.log_p[:, 0] == found.elbo).all()


def test_a_guide_too_narrow_is_called_unreliable():
    x = torch.randn(20, 5)
    narrow, fitting = (importance_sampled(ppca(width), x, ks=(1, 3000)) for width in (0.3, 1.1))
    assert narrow.khat.mean() > 0.7 and narrow.unreliable > 0.5 and fitting.unreliable == 0
    assert narrow.ess.mean() < fitting.ess.mean()
    notes = {figure.name: figure.note for figure in narrow.figures}
    assert "importance weights unreliable, k-hat above 0.7 for" in notes["log p(x), k = 3000"]
    assert "unreliable" not in notes["log p(x), k = 1"] + "".join(figure.note for figure in fitting.figures)


def test_figures_name_k_and_the_draws_own_error():
    found = importance_sampled(ppca(1.3), torch.randn(20, 5), ks=KS)
    figures = {figure.name: figure for figure in found.figures}
    names = [f"log p(x), k = {k}" for k in KS]
    assert list(figures) == [*names, "effective sample size, k = 1000", "k-hat above 0.67"]
    own = float(found.error[:, 2].square().sum().sqrt() / 20)
    assert figures[names[2]].note == f"lower bound on average, +- {own:.2g} by its draws"
    assert figures[names[0]].note.startswith("the elbo, +- ")
    assert figures[names[2]].error == pytest.approx(float(found.log_p[:, 2].std() / 20**0.5))
    without = importance_sampled(ppca(), torch.randn(2, 5), ks=(2, 4)).figures
    assert [figure.name for figure in without][:2] == ["elbo", "log p(x), k = 2"] and len(without) == 4


def test_draws_that_are_left_over_serve_the_largest_k():
    program, x = ppca(1.3), torch.randn(3, 5)
    with evaluation_mode(program, x) as pair:
        draws = [torch.cat([d.log_weights for d in draw_in_chunks(pair, row, 10)]) for row in each_datum(x, 0)]
    log_weights = torch.cat(draws, 1)  # (10, 3)
    found = importance_sampled(program, x, ks=(4, 10))
    groups = torch.stack([log_weights[:4], log_weights[4:8]]).logsumexp(1) - math.log(4)
    torch.testing.assert_close(found.log_p[:, 0], groups.mean(0))
    torch.testing.assert_close(found.log_p[:, 1], log_weights.logsumexp(0) - math.log(10))
    torch.testing.assert_close(found.elbo, log_weights.mean(0))
    torch.testing.assert_close(found.ess, effective_size(log_weights))


def test_float32_weights_are_added_up_in_float64():
    program, x = ppca(1.3).float(), torch.randn(3, 5).float()
    with evaluation_mode(program, x) as pair:
        draws = [torch.cat([d.log_weights for d in draw_in_chunks(pair, row, 5000)]) for row in each_datum(x, 0)]
    log_weights = torch.cat(draws, 1)  # (5000, 3)
    assert log_weights.dtype is torch.float32
    found = importance_sampled(program, x, ks=(5000,))
    truth = log_weights.double().logsumexp(0) - math.log(5000)
    assert (found.log_p[:, 0] - truth).abs().max() < 1e-12
    assert (log_weights.logsumexp(0) - math.log(5000) - truth).abs().max() > 1e-9  # in float32 it would be seen


def test_weights_of_zero():
    x = torch.tensor([[0.0], [1.0], [2.0]])
    found = importance_sampled(Indicator(), x, ks=(1, 30, 600))
    assert torch.isneginf(found.elbo).all() and torch.isneginf(found.log_p[:, 0]).all()
    assert abs(found.log_p[:2, 2] - math.log(0.5)).max() < 5 * found.error[:2, 2].max() < 0.3
    assert torch.isneginf(found.log_p[2]).all() and found.error[2].isinf().all()
    assert found.ess[2] == 0 and abs(found.ess[0] - 300) < 80 and found.khat.isnan().all()
    assert not any(column.isnan().any() for column in (found.log_p, found.error, found.elbo, found.ess))
    assert "no draw has weight for 1 of 3 data" in found.figures[2].note


class Spoiled(nn.Module):
    """Its log-weight is the datum itself."""

    def model(self, x):
        with pyro.plate("batch", len(x)):
            pyro.sample("z", dist.Normal(torch.zeros(len(x)), 1.0))
            pyro.factor("x", x[:, 0])

    def guide(self, x):
        with pyro.plate("batch", len(x)):
            pyro.sample("z", dist.Normal(torch.zeros(len(x)), 1.0))


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_weight_that_is_no_number_names_its_datum(value):
    with pytest.raises(FloatingPointError, match="datum 2: a log-weight .* is infinite or not a number"):
        importance_sampled(Spoiled(), torch.tensor([[0.0], [-1.0], [value]]), ks=(1,))


@pytest.mark.parametrize("ks", [(), (0, 1), (1, 1), (10, 1), (1.0, 2), (True, 2), (-3,)])
def test_ks_must_be_positive_and_rise(ks):
    with pytest.raises(ValueError, match="ks must"):
        importance_sampled(linear_gaussian(), torch.zeros(1, 3), ks=ks)


def test_bits_per_dim_of_uniform_data_are_the_bits_of_their_levels():
    """Uniform over 256 levels, as probabilities and as a density on [0, 1]: 8 bits either way."""
    D = 5
    discrete = bits_per_dim(torch.full((3,), -D * math.log(256)), D, discrete=True, levels=256)
    density = bits_per_dim(torch.zeros(3), D, discrete=False, levels=256, dequantized=True)
    assert discrete.value == pytest.approx(8) and density.value == pytest.approx(8)
    assert discrete.unit == density.unit == "bits/dim" and discrete.error == pytest.approx(0)
    assert "log2(256) added" in density.note and discrete.note == "discrete likelihood, 256 levels"
    coarse = bits_per_dim(torch.zeros(3), D, discrete=False, levels=32, dequantized=True)
    assert coarse.value == pytest.approx(5) and "32 levels" in coarse.note


def test_the_density_of_real_data_is_labelled():
    log_p = torch.tensor([-1.0, -3.0])
    for levels in (None, 256):
        figure = bits_per_dim(log_p, 2, discrete=False, levels=levels)
        assert figure.note.startswith("density of real data") and figure.note.endswith("bits/dim not comparable")
        assert figure.name != "bits/dim" and figure.value == pytest.approx(1 / math.log(2))
        assert figure.error == pytest.approx(float((log_p / (2 * math.log(2))).std() / 2**0.5))


@pytest.mark.parametrize(
    "dims, told", [(0, {"discrete": True}), (1, {"discrete": True, "dequantized": True, "levels": 2}),
                   (1, {"discrete": False, "dequantized": True})]
)  # fmt: skip
def test_bits_per_dim_refuses_what_makes_no_sense(dims, told):
    with pytest.raises(ValueError, match="bits_per_dim: "):
        bits_per_dim(torch.zeros(1), dims, **told)


def test_equal_data_have_draws_of_their_own():
    """The mean over nine equal data has a third of the error of one."""
    x = torch.randn(1, 5)
    one, nine = (importance_sampled(ppca(1.3), x.repeat(n, 1), ks=(10, 2000)) for n in (1, 9))
    assert len(nine.log_p[:, 0].unique()) == 9 and torch.equal(nine.log_p[0], one.log_p[0])
    assert nine._draws_error(0) / one._draws_error(0) == pytest.approx(1 / 3, rel=0.2)


def spread_and_stated(share: float, data: int = 4000, k: int = 1000) -> tuple[float, float]:
    """Of log (1/k) sum w with weights 0.5 / share in that share of the draws: the variance, and the mean stated one."""
    rare = torch.rand(data, k) < share
    log_w = torch.where(rare, math.log(0.5 / share), math.log(0.5 / (1 - share)))
    found = [likelihood._of_one(each, (k,)) for each in log_w]
    log_p, error = (torch.stack([columns[i] for columns in found])[:, 0] for i in range(2))
    return float(log_p.var()), float(error.square().mean())


def test_the_error_of_a_single_group_is_not_too_small_where_few_draws_count():
    """Two or a fifth of a draw in a thousand hold half of the weight; the delta method states 0.85 and 0.3 of it."""
    for draws in (2.0, 0.2):
        true, stated = spread_and_stated(draws / 1000, 1500)
        assert 0.9 < stated / true < 1.35


def test_a_few_data_behind_the_error_of_all_are_named():
    error = torch.full((40, 1), 1e-3)
    error[:3] = 0.5
    log_p = torch.zeros(40, 1)
    found = ImportanceSampled((9,), log_p, error, log_p[:, 0], log_p[:, 0] + 9, log_p[:, 0])
    assert "which 3 of 40 data make: itself uncertain" in found.figures[1].note
    assert "uncertain" not in dataclasses.replace(found, error=torch.ones(40, 1)).figures[1].note


class Guided(nn.Module):
    """z ~ N(0, I), x ~ N(z, 1), under guides whose weights are proper or not."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how

    def model(self, x):
        with pyro.plate("batch", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(x.shape), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z, 1.0).to_event(1), obs=x)

    def guide(self, x):
        auxiliary = {"is_auxiliary": True}
        with pyro.plate("batch", len(x)):
            if self.how == "point":
                pyro.sample("z", dist.Delta(x / 2).to_event(1))
            else:
                a = pyro.sample("a", dist.Normal(x / 2, 0.6).to_event(1), infer=auxiliary)
            if self.how == "carried":  # as AutoGuides do
                pyro.sample("z", dist.Delta(a, event_dim=1))
            if self.how == "auxiliary":
                pyro.sample("z", dist.Normal(a, 0.6).to_event(1))


@pytest.mark.parametrize("how, told", [("point", "is a Delta"), ("auxiliary", "'a' counts in q alone")])
def test_weights_that_are_no_bound_are_called_so(how, told):
    x = torch.zeros(3, 4)
    found = evaluate(Guided(how), x, ks=(1, 10))
    likelihood, rates = found.sections["likelihood"], found.sections["rate and distortion"]
    labelled = [*likelihood[:2], rates[0]]
    assert all("no bound on log p(x)" in figure.note and told in figure.note for figure in labelled)
    assert [f.name for f in labelled] == ["log mean weight, k = 1", "log mean weight, k = 10", "mean log-weight"]
    assert any("bits per dimension: no bound on log p(x)" in sentence for sentence in found.left_out)
    assert "log_p" not in found.per_datum and "bits/dim" not in {figure.unit for figure in likelihood}


def test_an_auxiliary_site_that_a_delta_carries_bounds_as_any():
    x = torch.randn(3, 4)
    found = importance_sampled(Guided("carried"), x, ks=(1, 4000))
    truth = torch.distributions.Normal(0.0, 2**0.5).log_prob(x).sum(1)
    assert found.fault == "" and (found.log_p[:, 1] - truth).abs().max() < 4 * found.error[:, 1].max()
