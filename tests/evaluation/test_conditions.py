"""Data with conditions: every evaluator finds the known log p(x | y), log p(x, y) and log p(x), under these names."""

import math
from dataclasses import replace

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

from pplvm.data.image_data import ImageData
from pplvm.evaluation.active_units import active_units
from pplvm.evaluation.annealing.annealed import annealed
from pplvm.evaluation.annealing.bidirectional import bidirectional
from pplvm.evaluation.evaluate import evaluate
from pplvm.evaluation.evidence import log_evidence
from pplvm.evaluation.information import aggregate_posterior
from pplvm.evaluation.information_bounds import barber_agakov, info_nce, info_nce_of_dreams
from pplvm.evaluation.likelihood import importance_sampled
from pplvm.evaluation.likelihood_names import LikelihoodNames
from pplvm.evaluation.per_datum import datum_seed, datum_seeds
from pplvm.evaluation.rate_distortion import rate_distortion
from pplvm.evaluation.samples import interpolations, prior_samples, reconstructions
from pplvm.evaluation.training_metrics import TrainingMetrics
from pplvm.evaluation.traversals import traversals
from pplvm.particles.contract import ProgramError
from tests.evaluation.conditional import (
    PRIOR,
    SHIFTS,
    Conditional,
    Ignoring,
    Masked,
    S,
    SemiSupervised,
    W,
    X,
    Y,
    log_px,
    log_px_given_y,
)

SOME = torch.tensor([0, -1, 1, -1])
NONE = torch.full((4,), -1)


def with_evidence(program):
    program.log_evidence = log_px_given_y if isinstance(program, Conditional) else None
    if isinstance(program, Ignoring):
        program.log_evidence = lambda x, y: log_px_given_y(x, 0 * y)
    return program


LIKELIHOODS = {
    "importance sampled": lambda program: importance_sampled(program, (X, Y), ks=(1, 5)).log_p[:, -1],
    "the elbo": lambda program: rate_distortion(program, (X, Y), num_particles=2).elbo,
    "exact": lambda program: log_evidence(with_evidence(program), (X, Y)).log_p,
    "annealed": lambda program: annealed(program, (X, Y), chains=2, steps=3).log_px,
    "annealed from the prior": lambda program: annealed(program, (X, Y), chains=30, steps=12, start="prior").log_px,
    "in training": lambda program: torch.tensor(TrainingMetrics(program, (X, Y))((X, Y))["elbo"]).expand(4),
}


def truth_of(how: str) -> torch.Tensor:
    truth = log_px_given_y(X, Y)
    return truth.mean().expand(4) if how == "in training" else truth


@pytest.mark.parametrize(
    "how", [pytest.param(how, marks=[pytest.mark.slow] if how.endswith("prior") else []) for how in LIKELIHOODS]
)
def test_every_estimate_is_log_p_of_data_given_their_labels(how):
    """The guide is the posterior, so that they are exact; but for chains from the prior."""
    loose = 0.3 if how.endswith("prior") else 1e-9
    found = [LIKELIHOODS[how](program) for program in (Conditional(), Ignoring())]
    assert (found[0] - truth_of(how)).abs().max() < loose
    assert (found[1] - truth_of(how)).abs().max() > 4 * loose, "a program that ignores labels has another density"


@pytest.mark.slow
def test_one_graph_is_given_the_conditions_of_each_datum():
    by_graph, by_handlers = (
        importance_sampled(Conditional(2.0), (X, Y), ks=(1, 5), compile=tier).log_p for tier in ("graph", "off")
    )
    assert torch.allclose(by_graph, by_handlers, atol=1e-9) and by_graph.std(0).min() > 0.5
    rates = [rate_distortion(SemiSupervised(), (X, SOME), num_particles=6, compile=tier) for tier in ("graph", "off")]
    assert torch.allclose(rates[0].elbo, rates[1].elbo, atol=1e-9)


def test_conditions_go_with_their_data():
    """Each datum alone gives what it gives among others, whatever its place and its noise."""
    together = importance_sampled(Conditional(2.0), (X, Y), ks=(3,)).log_p
    for row in range(4):
        alone = importance_sampled(Conditional(2.0), (X[row : row + 1], Y[row : row + 1]), ks=(3,)).log_p
        assert torch.equal(alone[0], together[row])


def test_conditions_are_part_of_what_decides_the_noise_of_a_datum():
    x, y = torch.zeros(3, 2), torch.tensor([0, 1, 0])
    assert datum_seeds(x, 5) == [59658512781814924, 26437916998684680, 1587343855268049], "of x alone as ever"
    with_y = datum_seeds((x, y), 5)
    assert len(set(with_y)) == 3 and not set(with_y) & set(datum_seeds(x, 5))
    assert datum_seeds((x[1:2], y[1:2]), 5) == with_y[1:2], "equal x of another label do not count as equal"
    assert datum_seed(x[:1], 5) != datum_seed((x[:1], y[:1]), 5)


def test_simulated_data_are_drawn_given_the_labels_of_data():
    """With the posterior as guide both bounds are log p(x | y) of the dream, whose labels repeat those of the data."""
    program, drawn = Conditional(), []
    posterior, likelihood = program.guide, program.prior_and_likelihood
    program.guide = lambda x, y: (drawn.append((x, y)), posterior(x, y))[1]
    program.prior_and_likelihood = lambda x, shift: likelihood(x, shift)
    found = bidirectional(program, (X, Y), data=6, chains=2, steps=2)
    assert found.gap.abs().max() < 1e-9
    seen = torch.cat([y for x, y in drawn if not any(torch.equal(x, row) for row in X.split(1))])
    assert seen.unique().tolist() == [0, 1]
    exact = {float(log_px_given_y(x, y)) for x, y in drawn if len(x) == 1}
    assert all(min(abs(value - other) for other in exact) < 1e-9 for value in found.lower.tolist())


def test_dreams_have_the_moments_that_their_label_gives_them():
    found = prior_samples(Conditional(), (X[:1].expand(2, -1), torch.tensor([0, 1])), 4000)
    covariance = W @ W.T + S**2 * torch.eye(3)
    for label in (0, 1):
        own = found.draw[label::2]
        error = (covariance.diagonal() / len(own)).sqrt()
        assert ((own.mean(0) - SHIFTS[label]) / error).abs().max() < 4.5
    ignored = prior_samples(Ignoring(), (X[:2], torch.tensor([0, 1])), 4000).draw
    assert ((ignored[::2].mean(0) - SHIFTS[0]) / (covariance.diagonal() / 2000).sqrt()).abs().max() > 20


def test_information_is_known():
    """I(x; z | y) = log det(I + W^T W / s^2) / 2 for each label."""
    program = Conditional()
    truth = float(torch.logdet(torch.eye(2) + W.T @ W / S**2)) / 2
    found = barber_agakov(program, (X, Y), draws=4000)
    value = (found.entropy + found.log_q).mean()
    error = (found.entropy + found.log_q).std() / 4000**0.5
    assert abs(value - truth) < 4 * error
    assert [figure.name for figure in found.figures] == [
        "Barber-Agakov I_p(x; z | y)",
        "H(z | y)",
        "E_p log q(z | x, y)",
    ]
    ignoring = barber_agakov(Ignoring(), (X, Y), draws=4000)
    assert abs((ignoring.entropy + ignoring.log_q).mean() - truth) < 0.2, "the shift is known to that one too"
    posterior = aggregate_posterior(program, (X, Y))
    assert (posterior.reconstruction - posterior.rate - log_px_given_y(X, Y)).abs().max() < 1e-9
    names = [figure.name for figure in posterior.figures]
    assert "I_q(x, y; z)" in names and "E_q log q(z) - log p(z | y)" in names
    places = aggregate_posterior(program, (X[:2], Y[:2]), aggregate=(X, Y)).components
    assert places.tolist() == [4, 4]
    others = aggregate_posterior(program, (X[:2], 1 - Y[:2]), aggregate=(X, Y)).components
    assert others.tolist() == [5, 5], "with another label it is another datum"
    assert info_nce(program, (X, Y), batch=2).figures[0].name == "InfoNCE I_q(x, y; z)"
    assert info_nce_of_dreams(program, (X, Y), batch=8, batches=5).figures[0].value > 0.3


def test_information_about_data_whose_labels_are_observed_is_given_these():
    """The latent's mean is its label's, so that its entropy given the label is short of H(z)."""

    class Joint(Conditional):
        def model(self, x, y):
            with pyro.plate("batch", len(x)):
                pyro.sample("y", dist.Categorical(PRIOR), obs=y)
                z = pyro.sample("z", dist.Normal(SHIFTS[y][:, :2], 1.0).to_event(1))
                pyro.sample("x", dist.Normal(z @ W.T, S).to_event(1), obs=x)

    found = barber_agakov(Joint(), (X, Y), draws=100)
    entropy = 1 + math.log(2 * math.pi)
    assert (found.entropy - entropy).abs().max() < 1e-9 and found.names.log_p == "log p(x, y)"
    assert [figure.name for figure in found.figures] == [
        "Barber-Agakov I_p(x; z | y)",
        "H(z | y)",
        "E_p log q(z | x, y)",
    ]


def test_unknown_labels_are_nothing_that_latents_tell_of():
    class Unmasked(SemiSupervised):
        def model(self, x, y):
            with pyro.plate("batch", len(x)):
                with pyro.poutine.mask(mask=y >= 0):
                    pyro.sample("y", dist.Categorical(PRIOR), obs=y.clamp(min=0))
                drawn = pyro.sample("c", dist.Categorical(PRIOR))
                self.prior_and_likelihood(x, self.shifted(torch.where(y >= 0, y, drawn)))

        def guide(self, x, y):
            with pyro.plate("batch", len(x)):
                drawn = pyro.sample("c", dist.Categorical(PRIOR))
                self.posterior(x, self.shifted(torch.where(y >= 0, y, drawn)))

    names = [figure.name for figure in aggregate_posterior(Unmasked(), (X, NONE)).figures]
    assert "I_q(x; z)" in names and "KL(q(z) || p(z))" in names
    names = [figure.name for figure in aggregate_posterior(Unmasked(), (X, Y)).figures]
    assert "I_q(x, y; z)" in names and "E_q log q(z) - log p(z | y)" in names
    assert info_nce(Unmasked(), (X, NONE), batch=2).figures[0].name == "InfoNCE I_q(x; z)"


def test_pictures_are_of_each_datums_label():
    program = Conditional(1e-6)
    plain = (X - SHIFTS[Y]) @ W @ program.covariance / S**2  # (4, 2), where the guide puts each datum
    assert torch.allclose(reconstructions(program, (X, Y)), plain @ W.T + SHIFTS[Y], atol=1e-4)
    path = interpolations(program, (X[:1], Y[:1]), (X[1:2], Y[1:2]), 5)[0]
    shares = torch.linspace(0, 1, 5, dtype=torch.float64).unsqueeze(1)
    labels = torch.tensor([0, 0, 1, 1, 1])
    assert torch.allclose(path, ((1 - shares) * plain[0] + shares * plain[1]) @ W.T + SHIFTS[labels], atol=1e-4)
    moved = traversals(program, (X[:1], Y[:1]), "z", [0], values=[1.0])
    expected = torch.tensor([1.0, float(plain[0, 1])]) @ W.T + SHIFTS[0]
    assert torch.allclose(moved.images[0, 0], expected, atol=1e-4)
    means = active_units(program, (X, Y), num_particles=2).means["z"]
    assert torch.allclose(means, plain, atol=1e-4)
    with pytest.raises(ValueError, match="give as many data to go to as to come from"):
        interpolations(program, (X[:1], Y[:1]), X[1:2], 5)


def figures_of(program, batch, **options):
    found = evaluate(program, batch, ks=(1, 4), **options)
    return found, {figure.name: figure for section in found.sections.values() for figure in section}


@pytest.mark.slow
def test_a_conditional_programs_figures_say_what_they_are_given():
    """In the words of the data set; a program's own are told where data have none."""

    class Single(Conditional):
        def model(self, x, y):
            super().model(x.double(), y)

        def guide(self, x, y):
            super().guide(x.double(), y)

    data = ImageData(X.float(), "toy", None, labels=Y).conditioned("labels")
    found, figures = figures_of(Single(), data, annealed_data=2, chains=2, annealing_steps=2)
    assert found.names == LikelihoodNames(given=("labels",)) and found.left_out == ()
    truth = float(log_px_given_y(X.float().double(), Y).mean())
    assert figures["log p(x | labels), k = 4"].value == pytest.approx(truth)
    assert {"density given labels", "log p(x | labels), annealed", "I_q(x, labels; z)"} <= set(figures)
    assert not any("log p(x)" in name or name in ("bits/dim", "density") for name in figures)
    assert figures["elbo"].note.endswith("bounds log p(x | labels)")
    assert importance_sampled(Conditional(), (X, Y), ks=(1,)).figures[0].name == "log p(x | y), k = 1"


@pytest.mark.parametrize("kind", [SemiSupervised, Masked])
def test_a_program_that_observes_labels_is_judged_on_both(kind):
    """The guide draws from the posterior of what it does not know, so that each datum's weights are all one."""
    program = kind()
    both = log_px_given_y(X, Y) + torch.tensor([0.3, 0.7]).log()[Y]
    for y, truth, name in (
        (Y, both, "log p(x, y)"),
        (SOME, torch.where(SOME >= 0, both, log_px(X)), "log p(x, y where known)"),
        (NONE, log_px(X), "log p(x)"),
    ):
        found = importance_sampled(program, (X, y), ks=(1, 3))
        assert (found.log_p - truth.unsqueeze(1)).abs().max() < 1e-9 and found.names.log_p == name
        assert found.figures[0].name == f"{name}, k = 1" and found.fault == ""
        off = (rate_distortion(program, (X, y), num_particles=400).elbo - truth).abs()
        assert off[y >= 0].tolist() == pytest.approx([0] * int((y >= 0).sum()), abs=1e-9)
        assert off.max() < 0.05, "the label's KL in closed form is not that of the draws"


@pytest.mark.parametrize("order", [[0, 1, 2, 3], [1, 0, 3, 2]])
def test_a_program_whose_sites_depend_on_what_is_known_is_refused_on_data_of_both_kinds(order):
    """Its figures would be named after the first datum; of data of one kind they are right."""

    class Branching(SemiSupervised):
        def model(self, x, y):
            with pyro.plate("batch", len(x)):
                known = y if (y >= 0).all() else None
                self.prior_and_likelihood(x, self.shifted(pyro.sample("y", dist.Categorical(PRIOR), obs=known)))

        def guide(self, x, y):
            with pyro.plate("batch", len(x)):
                joint = torch.stack([log_px_given_y(x, torch.tensor([c])) + PRIOR[c].log() for c in (0, 1)], -1)
                known = bool((y >= 0).all())
                self.posterior(x, self.shifted(y if known else pyro.sample("y", dist.Categorical(logits=joint))))

    told = "observes site 'y' of datum [01] and not of datum [01]: .* obs_mask"
    for ask in (evaluate, lambda *of, ks: importance_sampled(*of, ks=ks)):
        with pytest.raises(ProgramError, match=told):
            ask(Branching(), (X[order], SOME[order]), ks=(1,))
    assert importance_sampled(Branching(), (X, Y), ks=(1,)).names.log_p == "log p(x, y)"
    importance_sampled(SemiSupervised(), (X[order], SOME[order]), ks=(1,))  # hides by a mask


def test_labels_that_are_observed_are_told_in_no_bits_and_apart_from_the_others():
    found, figures = figures_of(SemiSupervised(), (X, SOME))
    assert "log p(x, y where known), k = 4" in figures and not any(
        "density" in name or "bits" in name for name in figures
    )
    assert any(each.startswith("bits per dimension: this is log p(x, y where known)") for each in found.left_out)
    assert figures["log p(x), of 2 data"].value == pytest.approx(float(log_px(X)[SOME < 0].mean()))
    known = (log_px_given_y(X, Y) + torch.tensor([0.3, 0.7]).log()[Y])[SOME >= 0]
    assert figures["log p(x, y), of 2 data"].value == pytest.approx(float(known.mean()))
    assert found.per_datum["conditions_observed"].tolist() == [1, 0, 1, 0]
    _, unknown = figures_of(SemiSupervised(), (X, NONE))
    assert unknown["density"].value == pytest.approx(-float(log_px(X).mean()) / 3 / math.log(2))


class Incomplete(nn.Module):
    """Pixels N(0, S^2), of which a mask shows some."""

    def model(self, x, seen):
        with pyro.plate("batch", len(x)):
            pyro.sample("x", dist.Normal(torch.zeros_like(x), S).mask(seen).to_event(1), obs=x)

    def guide(self, x, seen):
        pass


@pytest.mark.parametrize("hides", [True, False])
def test_a_density_of_the_values_that_a_mask_shows_is_no_density_of_all_of_them(hides):
    seen = torch.ones(4, 3, dtype=torch.bool)
    seen[3, 1] = not hides
    found, figures = figures_of(Incomplete(), (X, seen))
    truth = (dist.Normal(torch.zeros_like(X), S).log_prob(X) * seen).sum(1).mean()
    name = "log p(x where seen | seen)" if hides else "log p(x | seen)"
    assert figures[f"{name}, exact"].value == pytest.approx(float(truth))
    assert any("density" in each or "bits" in each for each in figures) != hides
    assert any(each.startswith(f"bits per dimension: this is {name}") for each in found.left_out) == hides


def test_dreams_of_a_semi_supervised_program_keep_the_labels_that_are_known():
    y = torch.tensor([0, 1, -1])
    found = prior_samples(SemiSupervised(), (X[:3], y), 6000).draw
    covariance = W @ W.T + S**2 * torch.eye(3)
    for row in (0, 1):
        error = (covariance.diagonal() / 2000).sqrt()
        assert ((found[row::3].mean(0) - SHIFTS[row]) / error).abs().max() < 4.5
    mixed = 0.3 * SHIFTS[0] + 0.7 * SHIFTS[1]
    spread = covariance.diagonal() + 0.21 * (SHIFTS[0] - SHIFTS[1]).square()
    assert ((found[2::3].mean(0) - mixed) / (spread / 2000).sqrt()).abs().max() < 4.5
    gap = bidirectional(SemiSupervised(), (X, Y), data=3, chains=2, steps=2).gap
    assert gap.abs().max() < 1e-9


def test_states_of_unknown_labels_are_summed_out():
    class Discrete(SemiSupervised):
        def prior_and_likelihood(self, x, shift):
            covariance = W @ W.T + S**2 * torch.eye(3)
            pyro.sample("x", dist.MultivariateNormal(shift, covariance), obs=x)

        def posterior(self, x, shift):
            pass

    found = log_evidence(Discrete(), (X, SOME))
    both = log_px_given_y(X, Y) + torch.tensor([0.3, 0.7]).log()[Y]
    assert (found.log_p - torch.where(SOME >= 0, both, log_px(X))).abs().max() < 1e-9
    assert found.how == "2 states summed out" and found.figures[0].name == "log p(x, y where known), exact"


def test_a_program_without_latents_is_exact_and_named_after_its_conditions():
    class Shifted(nn.Module):
        def model(self, x, y):
            covariance = W @ W.T + S**2 * torch.eye(3)
            with pyro.plate("batch", len(x)):
                pyro.sample("x", dist.MultivariateNormal(SHIFTS[y], covariance), obs=x)

        def guide(self, x, y):
            pass

    found, figures = figures_of(Shifted(), (X, Y))
    assert list(figures)[:2] == ["log p(x | y), exact", "density given y"]
    assert (found.per_datum["log_p_exact"] - log_px_given_y(X, Y)).abs().max() < 1e-9
    assert found.names.log_p == "log p(x | y)" and len(found.left_out) == 1
    draws = prior_samples(Shifted(), (X[:2], torch.tensor([0, 1])), 2000).draw
    error = ((W @ W.T + S**2 * torch.eye(3)).diagonal() / 1000).sqrt()
    assert ((draws[1::2].mean(0) - SHIFTS[1]) / error).abs().max() < 4.5


def test_a_closed_form_takes_what_model_and_guide_take():
    program = Conditional()
    program.log_evidence = log_px
    with pytest.raises(ValueError, match="log_evidence does not take a datum as model and guide do, with 1 conditions"):
        log_evidence(program, (X, Y))


def test_what_is_judged_reads_as_the_densities_do():
    both = LikelihoodNames(given=("mask",), observed=("labels",))
    assert both.log_p == "log p(x, labels | mask)" and both.datum == "x, mask, labels"
    assert replace(both, every=False).log_p == "log p(x, labels where known | mask)"
    assert (
        LikelihoodNames(given=("a", "b")).log_p == "log p(x | a, b)" and not LikelihoodNames(given=("a",)).why_no_bits
    )


def test_what_is_neither_tensors_nor_a_data_set_is_refused():
    with pytest.raises(TypeError, match="x is a DataLoader: give a tensor, a tuple"):
        evaluate(Conditional(), torch.utils.data.DataLoader([(X[0], Y[0])]))  # type: ignore[arg-type]
