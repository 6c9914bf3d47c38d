"""Beta, free bits and warm-up: the tempered gradient exactly, the plain bound in the report."""

import itertools

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import SVI, Trace_ELBO

from pplvm.bounds import elbo, iwae, renyi
from pplvm.estimators.references.target import target_of
from pplvm.objectives import path_gradients
from pplvm.objectives.antithetic import DisARM
from pplvm.objectives.baselines import LearnedBaseline, MovingAverage
from pplvm.objectives.control_variates import MuProp
from pplvm.objectives.exact import Exact, PriorSampling
from pplvm.objectives.generalized_dreg import GeneralizedDoublyReparameterized
from pplvm.objectives.local_expectation import LocalExpectation
from pplvm.objectives.measure_valued import MeasureValued
from pplvm.objectives.objective import Estimate, Loss, Objective, ObjectiveError
from pplvm.objectives.path_gradients import DoublyReparameterized, StickTheLanding
from pplvm.objectives.pathwise import AnalyticKL, Pathwise
from pplvm.objectives.per_site import PerSite
from pplvm.objectives.score_function import LeaveOneOut, ScoreFunction
from pplvm.objectives.tempered import Beta, FreeBits, Warmup
from pplvm.objectives.tempered_bound import TemperedBound
from pplvm.objectives.thermodynamic import Thermodynamic
from pplvm.objectives.wake_sleep import ReweightedWakeSleep
from pplvm.particles.pair import draw_from_pair, pair_up
from pplvm.programs.vae import VAE
from tests.objectives.test_contract import NoHostRead
from tests.problems import (
    Forced,
    exact_moments,
    linear_gaussian,
    per_row_gradients,
    sampled_gradients,
    small_net,
    states_of,
    two_data,
)


def term_tables(net, x):
    """Of every state: log q, and by site log p(x | z) or log p(z_l) - log q(z_l), each (S,)."""
    pair = pair_up(net.model, net.guide, (x,), {})
    values, _, log_q = states_of(pair, x)
    with Forced(values):
        drawn = draw_from_pair(pair, 1, (x.expand(len(log_q), -1),), {})
    terms = {n: (p - drawn.log_q_sites[n] if n in drawn.log_q_sites else p)[0] for n, p in drawn.log_p_sites.items()}
    return log_q[:, 0], terms


def tempered_gradient(net, x, bound, K, betas):
    """The gradient (P,) of E[bound(log p(x | z) + sum_l beta_l (log p(z_l) - log q(z_l)))] over all S^K draws."""
    log_q, terms = term_tables(net, x)
    log_w = sum(betas.get(name, 1.0) * term for name, term in terms.items())
    tuples = torch.tensor(list(itertools.product(range(len(log_q)), repeat=K))).T  # (K, T)
    value = (log_q[tuples].sum(0).exp() * bound(log_w[tuples])).sum()
    return per_row_gradients(value.reshape(1), list(net.parameters()))[0]


def plain_value(net, x, bound, K):
    log_q, terms = term_tables(net, x)
    tuples = torch.tensor(list(itertools.product(range(len(log_q)), repeat=K))).T
    return float((log_q[tuples].sum(0).exp() * bound(sum(terms.values())[tuples])).sum().detach())


def settled(baseline):
    baseline.observe(torch.tensor([[-3.0]]))
    return baseline.eval()


DISCRETE = {
    "score": lambda: ScoreFunction(elbo, 1),
    "score, K=2": lambda: ScoreFunction(elbo, 2, settled(MovingAverage())),
    "score, iwae": lambda: ScoreFunction(iwae, 2),
    "RLOO": lambda: LeaveOneOut(elbo, 2),
    "VIMCO": lambda: LeaveOneOut(iwae, 2),
    "leave one out, renyi": lambda: LeaveOneOut(renyi(0.3), 2),
    "local": lambda: LocalExpectation(),
    "per site": lambda: PerSite(num_particles=2),
    "MuProp": lambda: MuProp(),
    "measure-valued": lambda: MeasureValued(),
}
WEIGHTS = {
    "0.3": (lambda o: Beta(o, 0.3), {"z_1": 0.3, "z_2": 0.3}),
    "0": (lambda o: Beta(o, 0.0), {"z_1": 0.0, "z_2": 0.0}),
    "by name": (lambda o: Beta(o, {"z_1": 2.5}), {"z_1": 2.5}),
    "nested": (lambda o: Beta(Beta(o, {"z_1": 3.0}), 0.5), {"z_1": 1.5, "z_2": 0.5}),
    "warming up": (lambda o: warmed(Warmup(Beta(o, 0.5), 10), 4), {"z_1": 0.2, "z_2": 0.2}),
}


def warmed(objective, evaluations):
    objective.control.evaluations.fill_(evaluations)
    objective.control.eval()
    return objective


@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("name", DISCRETE)
def test_mean_is_the_exact_tempered_gradient(name, weights):
    """One layer, two data; the value is the plain bound's."""
    net, x, (wrap, betas) = small_net(), two_data()[:1], WEIGHTS[weights]
    objective = wrap(DISCRETE[name]())
    mean, variance, value = exact_moments(objective, net, x)
    K = objective.num_particles if objective.bound is not elbo else 1
    assert (mean - tempered_gradient(net, x, objective.bound, K, betas)).abs().max() < 1e-10
    assert abs(value - plain_value(net, x, objective.bound, K)) < 1e-10
    assert variance.sum() > 1e-4


@pytest.mark.parametrize("name", ["score", "score, iwae", "RLOO", "VIMCO", "MuProp"])
def test_two_layers_each_with_a_weight_of_its_own(name):
    net, x, betas = small_net((2, 2)), two_data()[1:], {"z_1": 0.25, "z_2": 3.0}
    objective = Beta(DISCRETE[name](), betas)
    mean, _, value = exact_moments(objective, net, x)
    K = objective.num_particles if objective.bound is not elbo else 1
    assert (mean - tempered_gradient(net, x, objective.bound, K, betas)).abs().max() < 1e-10
    assert abs(value - plain_value(net, x, objective.bound, K)) < 1e-10


@pytest.mark.parametrize("make", [lambda: LocalExpectation(), lambda: DisARM(iwae, 2)])
def test_rules_that_draw_again_in_two_layers(make):
    net, x, betas = small_net((2, 2)), two_data()[:1], {"z_1": 0.25, "z_2": 3.0}
    objective = Beta(make(), betas)
    truth = tempered_gradient(net, x, objective.bound, objective.num_particles, betas)
    rows = sampled_gradients(objective, net, x, draws=1500)
    deviation = (rows.mean(0) - truth) / (rows.var(0) / len(rows)).sqrt().clamp(min=1e-9)
    assert deviation.abs().max() < 4.5
    plain = tempered_gradient(net, x, objective.bound, objective.num_particles, {})
    assert ((rows.mean(0) - plain) / (rows.var(0) / len(rows)).sqrt().clamp(min=1e-9)).abs().max() > 8


class ScaledScore(ScoreFunction):
    """The mutant: beta times the score as well."""

    def draw(self, pair, *args, **kwargs):
        drawn = super().draw(pair, *args, **kwargs)
        return drawn.__class__(
            **vars(drawn) | {"log_q_score_sites": {n: 0.3 * t for n, t in drawn.log_q_score_sites.items()}}
        )


class PlainSignal(ScoreFunction):
    """The mutant: credit from the bound as it is reported."""

    def draw(self, pair, *args, **kwargs):
        return super().draw(pair, *args, **kwargs).plain


@pytest.mark.parametrize("mutant", [ScaledScore, PlainSignal])
def test_enumeration_sees_a_mutant(mutant):
    net, x = small_net(), two_data()[:1]
    mean, _, _ = exact_moments(Beta(mutant(), 0.3), net, x)
    assert (mean - tempered_gradient(net, x, elbo, 1, {"z_1": 0.3})).abs().max() > 1e-2


def seeded_gradients(objective, program, x, seed=3):
    """Value and gradients of one draw."""
    loss = Loss(objective, program)
    with torch.no_grad():
        loss(x)  # the first batch is checked
    torch.manual_seed(seed)
    value = loss(x)
    found = torch.autograd.grad(value, list(program.parameters()), allow_unused=True)
    parts = [torch.zeros_like(p) if g is None else g for p, g in zip(program.parameters(), found, strict=True)]
    return value.detach(), torch.cat([part.flatten() for part in parts])


CONTINUOUS = {
    "pathwise": lambda: Pathwise(elbo, 2),
    "pathwise iwae": lambda: Pathwise(iwae, 3),
    "analytic": lambda: AnalyticKL(2),
    "STL": lambda: StickTheLanding(2),
    "DReG": lambda: DoublyReparameterized(num_particles=3),
    "DReG, renyi": lambda: DoublyReparameterized(renyi(0.4), num_particles=3),
    "score on a path": lambda: ScoreFunction(elbo, 2),
}
EVERY = [("net", name) for name in [*DISCRETE, "DisARM"]] + [("VAE", name) for name in CONTINUOUS]


def objective_and_program(kind, name):
    torch.manual_seed(1)
    if kind == "VAE":
        return CONTINUOUS[name](), VAE(3, 2, (4,))
    return (DISCRETE | {"DisARM": lambda: DisARM(elbo, 2)})[name](), small_net((2, 3))


@pytest.mark.parametrize("kind, name", EVERY)
def test_a_weight_of_one_is_the_objective_itself(kind, name):
    (objective, program), x = objective_and_program(kind, name), two_data()
    value, gradient = seeded_gradients(objective, program, x)
    for wrapped in (Beta(objective, 1.0), Beta(objective, {}), warmed(Warmup(objective, 3), 5)):
        again, same = seeded_gradients(wrapped, program, x)
        assert torch.equal(again, value) and torch.equal(same, gradient)


@pytest.mark.parametrize("kind, name", EVERY)
def test_the_value_is_the_inner_objectives_whatever_the_weights(kind, name):
    (objective, program), x = objective_and_program(kind, name), two_data()
    value, gradient = seeded_gradients(objective, program, x)
    wrappers = [Beta(objective, 0.0), Beta(objective, 7.0), Warmup(objective, 9), Warmup(Beta(objective, 2.0), 9)]
    for wrapped in wrappers + ([FreeBits(objective, 1e3)] if wrappers[0].bound is elbo else []):
        again, other = seeded_gradients(wrapped, program, x)
        assert torch.allclose(again, value, rtol=1e-12)
        assert (other - gradient).abs().max() > 1e-3


@pytest.mark.parametrize("kind, name", EVERY)
def test_no_host_read(kind, name):
    (objective, program), x = objective_and_program(kind, name), two_data()
    wrappers = [Beta(objective, 0.5), Warmup(Beta(objective, 0.5), 9)]
    for wrapped in wrappers + ([FreeBits(objective, 0.1)] if wrappers[0].bound is elbo else []):
        loss = Loss(wrapped, program)
        loss(x)
        with NoHostRead():
            loss(x).backward()


def hand_written(vae, x, K, weigh):
    """Minus recon + sum of weighed log p(z) - log q(z) per datum of K draws from the seed, as in the program."""
    loc, log_scale = vae.encoder(x).chunk(2, dim=-1)
    q = torch.distributions.Normal(loc, log_scale.exp())
    torch.manual_seed(3)
    z = loc + log_scale.exp() * torch.randn(K, *loc.shape)
    recon = torch.distributions.Bernoulli(logits=vae.decoder(z)).log_prob(x).sum(-1)
    return -(recon + weigh(q, z)).mean()


def test_beta_of_an_analytic_divergence_is_the_beta_vae_written_out():
    vae, x, prior = VAE(3, 2, (4,)), two_data(), torch.distributions.Normal(0.0, 1.0)
    _, gradient = seeded_gradients(Beta(AnalyticKL(2), 4.0), vae, x)
    loss = hand_written(vae, x, 2, lambda q, z: -4.0 * torch.distributions.kl_divergence(q, prior).sum(-1))
    assert torch.allclose(gradient, per_row_gradients(loss.reshape(1), list(vae.parameters()))[0], atol=1e-12)


@pytest.mark.parametrize("make, is_still", [(Pathwise, False), (StickTheLanding, True)])
def test_beta_along_the_path_written_out(make, is_still):
    vae, x, prior = VAE(3, 2, (4,)), two_data(), torch.distributions.Normal(0.0, 1.0)
    _, gradient = seeded_gradients(Beta(make(num_particles=2), 0.25), vae, x)

    def weigh(q, z):
        held = torch.distributions.Normal(q.loc.detach(), q.scale.detach()) if is_still else q
        return 0.25 * (prior.log_prob(z) - held.log_prob(z)).sum(-1)

    loss = hand_written(vae, x, 2, weigh)
    assert torch.allclose(gradient, per_row_gradients(loss.reshape(1), list(vae.parameters()))[0], atol=1e-12)


def entries(program, starts):
    return torch.cat([torch.full((p.numel(),), n.startswith(starts)) for n, p in program.named_parameters()])


@pytest.mark.parametrize("beta", [0.3, 4.0])
def test_no_variance_at_the_tempered_posterior(beta):
    """Where q is p(z) p(x | z)^(1 / beta), log w does not depend on z: STL and DReG have nothing left to learn."""
    program, x = linear_gaussian(), torch.randn(4, 3)
    s = program.s
    program.s = s * beta**0.5
    program.at_posterior()
    program.s = s
    guide = entries(program, ("log_scale", "encoder"))
    for inner in (StickTheLanding(3), DoublyReparameterized(num_particles=3)):
        _, gradient = seeded_gradients(Beta(inner, beta), program, x)
        _, plain = seeded_gradients(inner, program, x)
        assert gradient[guide].abs().max() < 1e-12 < 1e-2 < plain[guide].abs().max()


def mean_over_noise(objective, program, x, nodes=40):
    """The mean gradient (P,) over the noise of two particles of one latent, by Gauss-Hermite quadrature."""
    points, weights = np.polynomial.hermite_e.hermegauss(nodes)
    grid = torch.tensor(list(itertools.product(range(nodes), repeat=2)))  # (T, 2)
    noise, probability = torch.tensor(points)[grid].T, (torch.tensor(weights / weights.sum())[grid]).prod(1)
    draws = program.encoder(x) + program.log_scale.exp() * noise.unsqueeze(-1)  # (2, T, 1)
    pair = pair_up(program.model, program.guide, (x,), {})
    with Forced({"z": draws}):
        surrogate = objective.estimate(pair, x.expand(len(grid), -1)).surrogate
    return per_row_gradients((probability @ surrogate).reshape(1), list(program.parameters()))[0]


@pytest.mark.parametrize("beta", [0.6, 1.2])
@pytest.mark.parametrize("bound", [iwae, renyi(0.4)])
def test_doubly_reparameterized_moves_beta_times_the_score(bound, beta, monkeypatch):
    """Its mean is that of the path through all of the tempered bound; the share of the plain bound fails."""
    program, x = linear_gaussian(1, 2), torch.tensor([[0.4, -0.9]])
    program.s = 1.5
    with torch.no_grad():
        program.log_scale -= 0.7
    path, moved = (
        mean_over_noise(Beta(inner, beta), program, x)
        for inner in (Pathwise(bound, 2), DoublyReparameterized(bound, 2))
    )
    assert (path - moved).abs().max() < 1e-8

    monkeypatch.setattr(path_gradients, "_left_on_path", lambda objective, tempering, share: share)
    mutant = mean_over_noise(Beta(DoublyReparameterized(bound, 2), beta), program, x)
    assert (path - mutant).abs().max() > 1e-3


def test_doubly_reparameterized_takes_one_weight_only():
    program, x = VAE(3, 2, (4,)), two_data()
    Loss(Beta(DoublyReparameterized(num_particles=2), {"z": 0.5}), program)(x)
    net = TwoLatents()
    Loss(Beta(DoublyReparameterized(num_particles=2), 0.5), net)(x)
    with pytest.raises(ObjectiveError, match="as one, so they cannot be weighed one by one"):
        Loss(Beta(DoublyReparameterized(num_particles=2), {"z": 0.5}), net)(x)


class TwoLatents(VAE):
    """A second latent beside the first."""

    def __init__(self):
        super().__init__(3, 2, (4,))
        self.slope = torch.nn.Parameter(torch.tensor(0.3))

    def model(self, x):
        with pyro.plate("batch", len(x)):
            z, u = (pyro.sample(name, dist.Normal(self.zeros, 1.0).to_event(1)) for name in ("z", "u"))
            pyro.sample("x", dist.Bernoulli(logits=self.decoder(z) + u[..., :1]).to_event(1), obs=x)

    def guide(self, x):
        loc, log_scale = self.encoder(x).chunk(2, dim=-1)
        with pyro.plate("batch", len(x)):
            pyro.sample("z", dist.Normal(loc, log_scale.exp()).to_event(1))
            pyro.sample("u", dist.Normal(self.slope * x[:, :2], 0.7).to_event(1))


def drawn_divergences(objective, program, x):
    """Log q - log p of each latent, averaged over the draw that `seeded_gradients` sees."""
    pair = pair_up(program.model, program.guide, (x,), {})
    torch.manual_seed(3)
    return {n: -float(t.detach().mean()) for n, t in objective.draw(pair, x).latent_terms.items()}


@pytest.mark.parametrize("name", ["score, K=2", "RLOO", "local", "per site", "MuProp", "measure-valued", "DisARM"])
def test_free_bits_of_a_two_layer_net(name):
    """A floor between the two layers' terms takes the lower one's gradient, whatever is drawn anew later."""
    (objective, net), x = objective_and_program("net", name), two_data()
    (low, least), (high, most) = sorted(drawn_divergences(objective, net, x).items(), key=lambda item: item[1])
    for nats, betas in ((least - 0.1, {}), ((least + most) / 2, {low: 0.0}), (most + 0.1, {low: 0.0, high: 0.0})):
        if nats >= 0:
            _, gradient = seeded_gradients(FreeBits(objective, nats), net, x)
            assert torch.equal(gradient, seeded_gradients(Beta(objective, betas), net, x)[1])
    _, gradient = seeded_gradients(FreeBits(objective, {high: 1e3}), net, x)
    assert torch.equal(gradient, seeded_gradients(Beta(objective, {high: 0.0}), net, x)[1])


@pytest.mark.parametrize("name", ["pathwise", "STL", "analytic"])
def test_free_bits_along_paths(name):
    (objective, vae), x = objective_and_program("VAE", name), two_data()
    plain, none = (seeded_gradients(Beta(objective, beta), vae, x)[1] for beta in (1.0, 0.0))
    assert torch.equal(seeded_gradients(FreeBits(objective, 0.0), vae, x)[1], plain)
    assert torch.equal(seeded_gradients(FreeBits(objective, 1e3), vae, x)[1], none)


def test_a_divergence_in_closed_form_decides():
    """A floor between the closed form and what this draw says of it."""
    objective, vae, x = AnalyticKL(), VAE(3, 2, (4,)), two_data()
    loc, log_scale = vae.encoder(x).chunk(2, dim=-1)
    q, prior = torch.distributions.Normal(loc, log_scale.exp()), torch.distributions.Normal(0.0, 1.0)
    closed = float(torch.distributions.kl_divergence(q, prior).sum(-1).mean().detach())
    drawn = drawn_divergences(objective, vae, x)["z"]
    assert abs(closed - drawn) > 0.01
    for nats in (closed - 1e-6, closed + 1e-6):
        _, gradient = seeded_gradients(FreeBits(objective, nats), vae, x)
        assert torch.equal(gradient, seeded_gradients(Beta(objective, float(nats < closed)), vae, x)[1])


def test_warm_up_counts_training_evaluations_only():
    net, x = small_net(), two_data()
    loss = Loss(Warmup(LeaveOneOut(elbo, 2), 4), net)
    weights = []
    for _ in range(6):
        weights.append(float(loss.control()))
        loss(x)
    assert weights == [0.0, 0.25, 0.5, 0.75, 1.0, 1.0]
    with torch.no_grad():
        loss(x)
    loss.eval()(x)
    assert int(loss.control.evaluations) == 6
    loss.train()(x)
    assert int(loss.control.evaluations) == 7


def test_warm_up_starts_without_divergence_and_is_checkpointed():
    net, x = small_net(), two_data()
    make = lambda: Warmup(LeaveOneOut(elbo, 2), 4)
    _, first = seeded_gradients(make(), net, x)
    assert torch.equal(first, seeded_gradients(Beta(LeaveOneOut(elbo, 2), 0.0), net, x)[1])
    loss, again = Loss(make(), net), Loss(make(), net)
    loss(x), loss(x), loss(x)
    assert list(loss.state_dict())[0] == "control.evaluations" or "control.evaluations" in loss.state_dict()
    again.load_state_dict(loss.state_dict())
    assert float(again.control()) == 0.75


def test_warm_up_holds_a_learned_baseline():
    net, x = small_net(), two_data()
    baseline = LearnedBaseline(3, 4)
    loss = Loss(Warmup(Beta(ScoreFunction(elbo, 2, baseline), 0.5), 10), net)
    names = {n for n, _ in loss.named_parameters() if n.startswith("control")}
    assert names == {f"control.inner.{n}" for n, _ in baseline.named_parameters()}
    loss(x).backward()
    assert all(p.grad is not None for p in baseline.parameters())
    assert float(baseline.average.weight) == 1.0
    loss.eval()(x)
    assert float(baseline.average.weight) == 1.0


def test_one_gradient_in_loss_and_svi():
    x = two_data()
    for make in (
        lambda: Beta(LeaveOneOut(elbo, 2), 0.3),
        lambda: Warmup(Beta(ScoreFunction(), 2.0), 1),
        lambda: FreeBits(MuProp(), 0.2),
    ):
        net = small_net()
        value, gradient = seeded_gradients(make(), net, x)
        before = torch.cat([p.detach().flatten() for p in net.parameters()])
        svi = SVI(net.model, net.guide, pyro.optim.SGD({"lr": 1.0}), make())
        torch.manual_seed(3)
        assert svi.step(x) / 2 == pytest.approx(float(value), rel=1e-12)
        assert torch.allclose(before - torch.cat([p.detach().flatten() for p in net.parameters()]), 2 * gradient)
        pyro.clear_param_store()


REFUSED = {
    "sums its own": lambda: Beta(Trace_ELBO(), 0.5),
    "Exact estimates .*, which has none": lambda: Beta(Exact(), 0.5),
    "PriorSampling estimates": lambda: Warmup(PriorSampling(3), 10),
    "ReweightedWakeSleep estimates wake-sleep": lambda: FreeBits(ReweightedWakeSleep(3), 0.1),
    "Thermodynamic estimates": lambda: Beta(Thermodynamic(), 0.5),
    "beta must be finite and not negative, got -1": lambda: Beta(Pathwise(), -1.0),
    "beta of 'z' must be finite and not negative, got inf": lambda: Beta(Pathwise(), {"z": float("inf")}),
    "nats must be finite and not negative": lambda: FreeBits(Pathwise(), -0.1),
    "floors KL terms, of which iwae has none": lambda: FreeBits(Beta(LeaveOneOut(iwae, 2), 0.5), 0.1),
    "steps must be an integer of at least 1, got 0": lambda: Warmup(Pathwise(), 0),
    "steps must be an integer of at least 1, got True": lambda: Warmup(Pathwise(), True),
}


@pytest.mark.parametrize("words", REFUSED)
def test_refusals_at_construction(words):
    with pytest.raises(ObjectiveError, match=words):
        REFUSED[words]()


def test_refusals_on_the_first_batch():
    net, x = small_net(), two_data()
    with pytest.raises(ObjectiveError, match="Beta names 'z_9', but the guide's latents are z_1"):
        Loss(Beta(LeaveOneOut(elbo, 2), {"z_9": 0.5}), net)(x)
    with pytest.raises(ObjectiveError, match="'z_1'.*silently biased"):
        Loss(Warmup(Beta(Pathwise(), 0.5), 3), net)(x)

    class Auxiliary(TwoLatents):
        def model(self, x):
            with pyro.plate("batch", len(x)):
                z = pyro.sample("z", dist.Normal(self.zeros, 1.0).to_event(1))
                pyro.sample("x", dist.Bernoulli(logits=self.decoder(z)).to_event(1), obs=x)

        def guide(self, x):
            with pyro.poutine.infer_config(config_fn=lambda site: {"is_auxiliary": site["name"] == "u"}):
                super().guide(x)

    with pytest.raises(ObjectiveError, match="'u' is auxiliary"):
        Loss(FreeBits(Pathwise(), 0.1), Auxiliary())(x)
    Loss(Beta(Pathwise(), 0.1), Auxiliary())(x)


def test_an_objective_that_sums_sites_by_itself_is_refused():
    class ByItself(Objective):
        target = property(lambda self: elbo)

        def estimate(self, pair, *args, **kwargs):
            trace = pair.run_guide(1, args, kwargs)
            value = elbo(sum(pair.log_probs(pair.run_model(1, trace, args, kwargs), 1).values()))
            return Estimate(value, value)

    Loss(ByItself(), small_net())(two_data())
    with pytest.raises(ObjectiveError, match="cannot weigh the terms of ByItself"):
        Loss(Beta(ByItself(), 0.5), small_net())(two_data())
    with pytest.raises(ObjectiveError, match="cannot weigh the terms of GeneralizedDoublyReparameterized"):
        Loss(Beta(GeneralizedDoublyReparameterized(2), 0.5), VAE(3, 2, (4,)))(two_data())


def test_the_target_knows_its_weights():
    beta = Beta(Beta(LeaveOneOut(iwae, 3), 0.5), {"z_1": 4.0})
    assert beta.target == TemperedBound(iwae, 0.5, (("z_1", 4.0),)) and beta.least_particles == 2
    assert Beta(beta, {"z_1": 0.25}).target == TemperedBound(iwae, 0.5)
    assert Beta(Pathwise(), 1.0).target is elbo and Warmup(Pathwise(), 2).target == TemperedBound(elbo, 0.0)
    net = small_net()
    assert target_of(Loss(Beta(LeaveOneOut(elbo, 3), 0.5), net)) == (TemperedBound(elbo, 0.5), 1)
    assert target_of(Loss(beta, net)) == (beta.target, 3)
    assert Warmup(FreeBits(Pathwise(), 0.1), 3).target == FreeBits(Pathwise(), 0.1).target
