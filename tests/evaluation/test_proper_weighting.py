"""What may be called log p(x), elbo or bits per dimension, and what may not: terms that nothing normalises."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

from pplvm.evaluation.annealing.annealed import annealed
from pplvm.evaluation.annealing.bidirectional import bidirectional
from pplvm.evaluation.evaluate import evaluate
from pplvm.evaluation.evidence import log_evidence
from pplvm.evaluation.information import aggregate_posterior
from pplvm.evaluation.information_bounds import barber_agakov, info_nce
from pplvm.evaluation.likelihood import importance_sampled
from pplvm.evaluation.per_datum import evaluation_mode
from pplvm.evaluation.proper_weighting import why_no_bound_per_datum
from pplvm.evaluation.rate_distortion import rate_distortion
from pplvm.evaluation.training_metrics import TrainingMetrics
from pplvm.objectives.objective import Loss, ObjectiveError
from pplvm.objectives.wake_sleep import WakeSleep
from pplvm.particles.contract import ProgramError

X = torch.tensor([[0.5], [-1.0], [2.0]], dtype=torch.float64)


class Weighed(nn.Module):
    """z ~ N(0, 1) or a bit, x ~ N(z, 1), and a term that nothing normalises somewhere."""

    def __init__(self, where: str = "", discrete: bool = False) -> None:
        super().__init__()
        self.where, self.discrete = where, discrete

    def model(self, x):
        with pyro.plate("batch", len(x)):
            zeros = torch.zeros(len(x))
            if self.discrete:
                z = pyro.sample("z", dist.Bernoulli(zeros + 0.5))
            elif self.where == "improper":
                z = pyro.sample("z", dist.ImproperUniform(dist.constraints.real, x[:, 0].shape, ()))
            else:
                z = pyro.sample("z", dist.Normal(zeros, 1.0))
            pyro.sample("x", dist.Normal(z.unsqueeze(-1), 1.0).to_event(1), obs=x)
            if self.where == "model":
                pyro.factor("gain", 2.0 + z)
            if self.where == "delta":
                pyro.sample("gain", dist.Delta(zeros, log_density=zeros + 2.0), obs=zeros)

    def guide(self, x):
        with pyro.plate("batch", len(x)):
            z = pyro.sample("z", dist.Bernoulli(0.5 + 0 * x[:, 0]) if self.discrete else dist.Normal(x[:, 0] / 2, 0.8))
            if self.where == "guide":
                pyro.factor("gain", 2.0 + 0 * z, has_rsample=True)


UNNORMALISED = {
    "model": "model site 'gain' is a factor",
    "delta": "model site 'gain' is a Delta with a log_density",
    "improper": "model site 'z' is an ImproperUniform",
    "guide": "guide site 'gain' is a factor",
}


@pytest.mark.parametrize("where, words", UNNORMALISED.items())
def test_no_figure_claims_to_be_what_an_unnormalised_term_is_in(where, words):
    found = evaluate(Weighed(where), X, ks=(1, 10), annealed_data=2, chains=2, annealing_steps=2)
    figures = [figure for section in found.sections.values() for figure in section]
    names = " ".join([*(figure.name for figure in figures), *(figure.unit for figure in figures), *found.per_datum])
    assert not any(claim in names for claim in ("log p(x)", "elbo", "bits/dim", "density", "log_p"))
    told = {figure.name: figure.note for figure in found.sections["likelihood"]}
    assert words in told["log mean weight, k = 1"] and words in told["log mean weight, k = 10"]
    assert "lower bound" not in told["log mean weight, k = 10"]
    rates = found.sections["rate and distortion"]
    assert rates[0].name == "mean log-weight" and words in rates[0].note
    left_out = " ".join(found.left_out)
    assert f"bits per dimension: no bound on log p(x): {words}" in left_out
    assert f"chains lead to log p(x), which the program does not have: {words}" in left_out


def test_a_normalised_program_keeps_its_names():
    found = evaluate(Weighed(), X, ks=(2, 10))
    names = [figure.name for figure in found.sections["likelihood"]]
    assert names[:3] == ["elbo", "log p(x), k = 2", "log p(x), k = 10"] and names[-1] == "density"
    assert found.sections["rate and distortion"][0].name == "elbo" and found.left_out == ()


def test_the_numbers_are_what_their_new_names_say():
    """E log w by hand: the factor's 2 + E z on top of the elbo."""
    plain, weighed = (rate_distortion(Weighed(where), X, num_particles=20_000) for where in ("", "model"))
    torch.testing.assert_close(weighed.elbo - plain.elbo, 2 + X[:, 0] / 2, atol=0.03, rtol=0)
    found = importance_sampled(Weighed("model"), X, ks=(4000,))
    # int N(z; 0, 1) N(x; z, 1) exp(2 + z) dz
    truth = dist.Normal(0.0, 2**0.5).log_prob(X[:, 0]) + 2 + X[:, 0] / 2 + 0.25
    assert (found.log_p[:, 0] - truth).abs().max() < 4 * found.error.max()


def test_latents_are_not_summed_out_of_what_is_no_density():
    assert log_evidence(Weighed(discrete=True), X) is not None
    assert log_evidence(Weighed("model", discrete=True), X) is None
    known = Weighed("model", discrete=True)
    known.log_evidence = lambda x: -x.square().sum(1)  # its own word, who may know the normalizer
    assert log_evidence(known, X).how == "in closed form"


@pytest.mark.parametrize("ask", [annealed, bidirectional])
@pytest.mark.parametrize("start", ["guide", "prior"])
def test_chains_need_a_density_to_lead_to(ask, start):
    with pytest.raises(ProgramError, match="model site 'gain' is a factor, which nothing normalises"):
        ask(Weighed("model"), X, chains=2, steps=2, start=start)


def test_dreams_are_draws_that_no_factor_weighs():
    with pytest.raises(ObjectiveError, match="the model's draws are not weighed by its factor 'gain'"):
        Loss(WakeSleep(), Weighed("model"))(X)
    with pytest.raises(ValueError, match="not weighed by its factor 'gain'"):
        barber_agakov(Weighed("model"), X, draws=10)


def test_information_asks_of_the_guide_what_it_needs():
    """A factor of the model is no part of q(z | x): what the latents tell stays, the elbo does not."""
    plain, weighed = aggregate_posterior(Weighed(), X), aggregate_posterior(Weighed("model"), X)
    assert torch.equal(plain.information, weighed.information)
    assert [f.name for f in (plain.figures[0], weighed.figures[0])] == ["elbo", "mean log-weight"]
    assert info_nce(Weighed("model"), X, batch=3).figures
    with pytest.raises(ValueError, match="guide site 'gain' is a factor, which belongs to no draw"):
        aggregate_posterior(Weighed("guide"), X)


@pytest.mark.parametrize("where, name", [("", "elbo"), ("model", "log_weight"), ("guide", "log_weight")])
def test_training_is_told_under_a_true_name(where, name):
    found = TrainingMetrics(Weighed(where), X)(X)
    assert set(found) == {name, "rate", "distortion"}
    assert found[name] == pytest.approx(-found["rate"] - found["distortion"]) and math.isfinite(found[name])


def test_a_delta_of_the_model_without_a_density_is_no_fault():
    """As `poutine.reparam` leaves one behind a transformed draw."""

    class Reparameterized(Weighed):
        def model(self, x):
            with pyro.plate("batch", len(x)):
                z = pyro.sample("z", dist.Normal(torch.zeros(len(x)), 1.0))
                pyro.sample("twice", dist.Delta(2 * z), obs=2 * z)
                pyro.sample("x", dist.Normal(z.unsqueeze(-1), 1.0).to_event(1), obs=x)

    with evaluation_mode(Reparameterized(), X) as pair:
        assert why_no_bound_per_datum(pair, X[:1]) == ""


class Hidden(nn.Module):
    """z ~ N(0, 1), masked in model and guide for data below zero; x reads it there too, or not."""

    def __init__(self, reads: bool) -> None:
        super().__init__()
        self.reads = reads

    def model(self, x):
        with pyro.plate("batch", len(x)):
            with pyro.poutine.mask(mask=x[:, 0] >= 0):
                z = pyro.sample("z", dist.Normal(torch.zeros(len(x)), 1.0))
            z = z if self.reads else torch.where(x[:, 0] >= 0, z, torch.zeros(()))
            pyro.sample("x", dist.Normal(z.unsqueeze(-1), 1.0).to_event(1), obs=x)

    def guide(self, x):
        with pyro.plate("batch", len(x)), pyro.poutine.mask(mask=x[:, 0] >= 0):
            pyro.sample("z", dist.Normal(x[:, 0] / 2, 0.1))


def test_a_hidden_draw_that_data_read_makes_no_bound():
    """Nothing is paid for it: the mean weight would exceed p(x); of the second datum, which alone hides it."""
    found = importance_sampled(Hidden(reads=True), X, ks=(2000,))
    truth = dist.Normal(0.0, 2**0.5).log_prob(X[:, 0])
    assert found.log_p[1, 0] > truth[1] + 0.1
    assert "site 'z' is masked, so that nothing is paid for its draw, but site 'x' reads it" in found.fault
    assert found.figures[1].name == "log mean weight, k = 2000"
    assert "'x' reads it" in rate_distortion(Hidden(reads=True), X).fault
    free = importance_sampled(Hidden(reads=False), X, ks=(2000,))
    assert free.fault == "" and free.log_p[1, 0] == pytest.approx(float(dist.Normal(0.0, 1.0).log_prob(X[1, 0])))


def test_a_guide_on_a_part_of_the_support_is_told_to_stay_below():
    """z ~ N(0, 1) drawn positive alone: the weights' mean is p(x, z > 0), whatever k."""

    class Halved(Weighed):
        def guide(self, x):
            with pyro.plate("batch", len(x)):
                pyro.sample("z", dist.HalfNormal(torch.ones(len(x))))

    found = importance_sampled(Halved(), X, ks=(4000,))
    posterior = dist.Normal(X[:, 0] / 2, 0.5**0.5)
    truth = dist.Normal(0.0, 2**0.5).log_prob(X[:, 0]) + (1 - posterior.cdf(torch.zeros(()))).log()
    assert ((found.log_p[:, 0] - truth).abs() < 5 * found.error[:, 0]).all()
    assert "it stays below log p(x) however large k is: guide site 'z' is drawn on" in found.figures[1].note
    assert importance_sampled(Weighed(), X, ks=(2,)).short == ""
