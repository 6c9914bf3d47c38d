"""Wake phases by enumeration of all draws, sleep phases by enumeration of all dreams."""

import itertools
import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

from pplvm.bounds import elbo, iwae
from pplvm.evaluation.information_bounds import barber_agakov
from pplvm.objectives.detached import draw_detached
from pplvm.objectives.objective import Estimate, Loss, ObjectiveError
from pplvm.objectives.targets import WAKE_SLEEP
from pplvm.objectives.wake_sleep import ReweightedWakeSleep, WakeSleep
from pplvm.particles.dreams import dream, require_dreams
from pplvm.particles.enumeration import enumerate_guide
from pplvm.particles.pair import pair_up
from pplvm.programs.vae import VAE
from tests.problems import (
    Forced,
    entries,
    exact_gradient,
    exact_moments,
    linear_gaussian,
    per_row_gradients,
    sampled_gradients,
    small_net,
    states_of,
    two_data,
)


def flat_gradient(value, net):
    return per_row_gradients(value.reshape(1), list(net.parameters()))[0]


def wake_gradient(net, x, K):
    """Of sum over all S^K draws of q(draws) sum_k stop(w~_k) (log p_k + log q_k), from the tables."""
    log_p, log_q = enumerate_guide(pair_up(net.model, net.guide, (x,), {}), (x,), {})
    draws = torch.tensor(list(itertools.product(range(len(log_p)), repeat=K))).T  # (K, T)
    probability = log_q[:, 0][draws].sum(0).exp().detach()
    weights = (log_p - log_q)[:, 0][draws].softmax(0).detach()
    return flat_gradient((probability * (weights * (log_p + log_q)[:, 0][draws]).sum(0)).sum(), net)


@pytest.mark.parametrize("latent_sizes, K", [((2,), 2), ((2,), 3), ((2, 2), 2)])
def test_wake_phases_over_all_draws(latent_sizes, K):
    net, x = small_net(latent_sizes), two_data()[:1]
    mean, variance, value = exact_moments(ReweightedWakeSleep(K), net, x)
    of_iwae, bound = exact_gradient(net, x, iwae, K)
    guide = entries(net, "encoder")
    assert (mean - wake_gradient(net, x, K)).abs().max() < 1e-10
    assert (mean - of_iwae)[~guide].abs().max() < 1e-10  # the model's part is that of iwae, exactly
    assert (mean - of_iwae)[guide].abs().max() > 1e-2  # the guide's is not
    assert abs(value - bound) < 1e-10 and variance[guide].sum() > 1e-3


def test_the_wake_phases_tend_to_their_target():
    """As 1/K: E_p(z | x) of d log p and d log q."""
    net, x = small_net((1,)), two_data()[:1]
    tables = enumerate_guide(pair_up(net.model, net.guide, (x,), {}), (x,), {})
    truth = flat_gradient(WAKE_SLEEP.of_tables(*tables), net)
    few, more, many = (float((wake_gradient(net, x, K) - truth).norm() / truth.norm()) for K in (2, 5, 12))
    assert many < 0.6 * more < 0.6 * 0.6 * few and many < 0.1


class JointWeights(ReweightedWakeSleep):
    """One weight a particle for the whole batch, as Pyro's."""

    def estimate(self, pair, *args, **kwargs):
        drawn = draw_detached(pair, self.num_particles, args, kwargs)
        weights = drawn.log_weights.detach().sum(1, keepdim=True).softmax(0)
        surrogate = (weights * (drawn.log_p + drawn.log_q)).sum(0)
        return Estimate(iwae(drawn.log_weights.detach()), surrogate, drawn.scale)


def pairs_of_draws(objective, net, x):
    """The mean gradient of a batch of two data over all 4^2 x 4^2 draws of two particles each, one batch at a time."""
    pair = pair_up(net.model, net.guide, (x,), {})
    values, _, log_q = states_of(pair, x)
    total = 0.0
    for states in itertools.product(range(4), repeat=4):
        chosen = torch.tensor(states).reshape(2, 2)  # (K, B)
        probability = log_q.detach().gather(0, chosen).sum().exp()
        with Forced({"z_1": values["z_1"][chosen]}):
            total = total + probability * objective.estimate(pair, x).surrogate.sum()
    return flat_gradient(total, net)


def test_weights_are_per_datum():
    """A batch gives the sum over its data, each over its own draws; a mutant with joint weights does not."""
    net, x = small_net(), two_data()
    truth = sum(wake_gradient(net, row[None], 2) for row in x)
    assert (pairs_of_draws(ReweightedWakeSleep(2), net, x) - truth).abs().max() < 1e-10
    assert (pairs_of_draws(JointWeights(2), net, x) - truth).abs().max() > 1e-2


def every_dream(net):
    """All states of (z, x'): values and log p (S, 8), the x' as a batch of 8."""
    data = torch.tensor(list(itertools.product([0.0, 1.0], repeat=3)))
    values, log_p, log_q = states_of(pair_up(net.model, net.guide, (data,), {}), data)
    return data, values, log_p, log_q


@pytest.mark.parametrize("latent_sizes", [(2,), (1, 2)])
def test_sleep_phase_over_all_dreams(latent_sizes):
    """Every (z, x') forced in turn, 32 or 64 of them: the mean is the gradient of E_p(z, x')[log q(z | x')]."""
    net = small_net(latent_sizes)
    data, values, log_p, log_q = every_dream(net)
    assert float(log_p.detach().logsumexp((0, 1))) == pytest.approx(0.0, abs=1e-12)  # all of p(z, x')
    guide = entries(net, "encoder")
    truth = flat_gradient((log_p.exp().detach() * log_q).sum(), net)
    dreams = {name: v.repeat_interleave(len(data), 0) for name, v in values.items()}  # (S 8, Z)
    dreams["x"] = data.repeat(len(log_p), 1)
    real = two_data()[:1].expand(log_p.numel(), -1)
    with Forced(dreams):
        surrogate = WakeSleep(1).estimate(pair_up(net.model, net.guide, (real,), {}), real).surrogate
    found = flat_gradient(log_p.exp().detach().flatten() @ surrogate, net)
    assert (found - truth)[guide].abs().max() < 1e-10
    uniform = flat_gradient(every_dream(net)[3].mean(), net)
    assert (truth - uniform)[guide].abs().max() > 1e-2  # the weights of the dreams matter


def test_sleep_phase_of_many_dreams():
    """K dreams per datum, as rows of a longer batch, against all dreams: by z-tests, with their mean over K."""
    net, x = small_net((1, 2)), two_data()[:1]
    _, _, log_p, log_q = every_dream(net)
    guide = entries(net, "encoder")
    truth = flat_gradient((log_p.exp().detach() * log_q).sum(), net)[guide]
    spread = {}
    for K in (1, 4):
        rows = sampled_gradients(WakeSleep(K), net, x, 2000)[:, guide]
        assert ((rows.mean(0) - truth) / (rows.std(0) / 2000**0.5)).abs().max() < 4.5
        spread[K] = float(rows.var(0).sum())
    assert spread[1] / spread[4] == pytest.approx(4.0, rel=0.25)


def test_wake_theta_of_the_helmholtz_machine_is_the_elbos():
    net, x = small_net((2, 2)), two_data()[:1]
    truth, bound = exact_gradient(net, x, elbo, 1)
    mean, _, value = exact_moments(WakeSleep(1), net, x)
    guide = entries(net, "encoder")
    assert (mean - truth)[~guide].abs().max() < 1e-10 and abs(value - bound) < 1e-10


@pytest.mark.parametrize("program, x", [(small_net((2, 2)), two_data()), (linear_gaussian(), torch.randn(4, 3))])
def test_insomnia_mixes_the_phases(program, x):
    program, x, found = program.double(), x.double(), {}
    for insomnia in (0.0, 0.3, 1.0):
        objective = ReweightedWakeSleep(3, insomnia)
        objective.differentiable_loss(program.model, program.guide, x)  # the check of the first batch
        torch.manual_seed(4)
        found[insomnia] = flat_gradient(objective.differentiable_loss(program.model, program.guide, x), program)
    assert torch.allclose(found[0.3], 0.7 * found[0.0] + 0.3 * found[1.0], atol=1e-12)
    guide = entries(program, "encoder") | entries(program, "log_scale")
    assert (found[0.0] - found[1.0])[guide].abs().max() > 1e-2
    assert torch.allclose(found[0.0][~guide], found[1.0][~guide], atol=1e-12)  # dreams teach the guide alone


def test_the_posterior_is_what_sleep_and_wake_want():
    """At the exact posterior of a linear-Gaussian model both phases of the guide have mean zero."""
    program = linear_gaussian().at_posterior()
    guide = entries(program, "encoder") | entries(program, "log_scale")
    x = program.bias.detach()[None] + torch.tensor([[0.4, -0.2, 0.9]])
    for insomnia in (0.0, 1.0):
        rows = sampled_gradients(ReweightedWakeSleep(3, insomnia), program, x, 2000)[:, guide]
        assert (rows.mean(0) / (rows.std(0) / 2000**0.5)).abs().max() < 4.5
    with torch.no_grad():
        program.log_scale += 0.3
    rows = sampled_gradients(ReweightedWakeSleep(3, 0.0), program, x, 2000)[:, guide]
    assert (rows.mean(0) / (rows.std(0) / 2000**0.5)).abs().max() > 10  # and elsewhere it has not


def test_dreams_have_the_shape_of_the_data():
    """Images of any shape, which the model observes flattened."""
    torch.manual_seed(0)
    program, images = VAE(16, 2, (5,)), (torch.rand(5, 1, 4, 4) < 0.5).double()
    seen = []

    class Watching(torch.nn.Module):
        model = staticmethod(program.model)

        def guide(self, x):
            seen.append(x.shape)
            program.guide(x)

    watching = Watching()
    watching.program = program
    Loss(WakeSleep(3), watching)(images).backward()
    assert seen[-2:] == [(5, 1, 4, 4), (15, 1, 4, 4)]
    assert all(p.grad.abs().sum() > 0 for p in program.parameters())


def test_a_plate_that_subsamples_for_itself_dreams_of_its_minibatch():
    class Own(VAE):
        def model(self, x):
            with pyro.plate("batch", 1000, subsample_size=len(x)):
                z = pyro.sample("z", dist.Normal(self.zeros, 1.0).to_event(1))
                pyro.sample("x", dist.Bernoulli(logits=self.decoder(z)).to_event(1), obs=x)

        def guide(self, x):
            loc, log_scale = self.encoder(x).chunk(2, dim=-1)
            with pyro.plate("batch", 1000, subsample_size=len(x)):
                pyro.sample("z", dist.Normal(loc, log_scale.exp()).to_event(1))

    program, x = Own(8, 2, (5,)), (torch.rand(6, 8) < 0.5).double()
    objective = WakeSleep(3)
    loss = Loss(objective, program)(x)
    assert 0 < float(loss.detach()) < 50  # nats per datum, though the plate stands for a thousand
    loss.backward()
    assert all(p.grad.abs().sum() > 0 for p in program.parameters())


class Two(VAE):
    def model(self, x):
        with pyro.plate("batch", len(x)):
            z = pyro.sample("z", dist.Normal(self.zeros, 1.0).to_event(1))
            pyro.sample("x", dist.Bernoulli(logits=self.decoder(z)).to_event(1), obs=x)
            pyro.sample("label", dist.Bernoulli(logits=z[..., 0]), obs=x[:, 0])


class Half(VAE):
    def model(self, x):
        with pyro.plate("batch", len(x)):
            z = pyro.sample("z", dist.Normal(self.zeros, 1.0).to_event(1))
            pyro.sample("x", dist.Bernoulli(logits=self.decoder(z)[..., :4]).to_event(1), obs=x[:, :4])


class Centred(VAE):
    def model(self, x):
        with pyro.plate("batch", len(x)):
            z = pyro.sample("z", dist.Normal(self.zeros, 1.0).to_event(1))
            pyro.sample("x", dist.Normal(self.decoder(z), 1.0).to_event(1), obs=x - 0.5)


class Auxiliary(VAE):
    def guide(self, x):
        with pyro.plate("batch", len(x)):
            pyro.sample("z", dist.Normal(self.encoder(x)[..., :2], 1.0).to_event(1))
            pyro.sample("a", dist.Normal(self.encoder(x)[..., 0], 1.0), infer={"is_auxiliary": True})


class Point(VAE):
    def guide(self, x):
        with pyro.plate("batch", len(x)):
            pyro.sample("z", dist.Delta(self.encoder(x)[..., :2]).to_event(1))


@pytest.mark.parametrize("make", [lambda: WakeSleep(2), lambda: ReweightedWakeSleep(2, 0.5)])
@pytest.mark.parametrize(
    "program, words",
    [
        (Two, "observes 'x' and 'label'.*insomnia=1"),
        (Half, r"site 'x' observes \(3, 4\) that are not the data \(3, 8\)"),
        (Centred, r"site 'x' observes \(3, 8\) that are not the data \(3, 8\)"),
        (Auxiliary, "draws 'a', which no dream"),
        (Point, "'z' is a Delta"),
    ],
)
def test_what_cannot_be_dreamt_is_refused(make, program, words):
    x = torch.ones(3, 8)
    with pytest.raises(ObjectiveError, match=words):
        Loss(make(), program(8, 2, (5,)))(x)
    if program in (Two, Half, Centred):
        Loss(ReweightedWakeSleep(2), program(8, 2, (5,)))(x).backward()  # which never dreams


def test_numbers_out_of_range_are_refused():
    for insomnia in (-0.1, 1.1, float("nan")):
        with pytest.raises(ObjectiveError, match=r"insomnia must be in \[0, 1\]"):
            ReweightedWakeSleep(2, insomnia)
    with pytest.raises(ObjectiveError, match="at least 2, got 1"):
        ReweightedWakeSleep(1)
    assert ReweightedWakeSleep(2).target == WAKE_SLEEP
    assert WakeSleep().target.of_tables is None and ReweightedWakeSleep(2, 0.5).target.of_tables is None


def test_what_is_given_by_name_is_dreamt_with_too():
    class Given(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.a = torch.nn.Parameter(torch.ones(2))

        def model(self, x, y=None):
            with pyro.plate("batch", len(x)):
                z = pyro.sample("z", dist.Bernoulli(logits=self.a[0] + y))
                pyro.sample("x", dist.Normal(z, 1.0), obs=x)

        def guide(self, x, y=None):
            with pyro.plate("batch", len(x)):
                pyro.sample("z", dist.Bernoulli(logits=self.a[1] * x + y))

    program, x, y = Given(), torch.randn(5), torch.randn(5)
    found = []
    for args, kwargs in (((x, y), {}), ((x,), {"y": y})):
        torch.manual_seed(0)
        loss = WakeSleep(3).differentiable_loss(program.model, program.guide, *args, **kwargs)
        found.append(torch.autograd.grad(loss, program.a)[0])
    assert torch.equal(*found)


class Plated(nn.Module):
    """Two features that differ, x_f ~ N(z + 10 f, 1), in a plate of their own left of the batch."""

    def model(self, x):
        with pyro.plate("batch", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(len(x)), 1.0))
            with pyro.plate("feature", 2, dim=-2):
                pyro.sample("x", dist.Normal(z + torch.tensor([[0.0], [10.0]]), 1.0), obs=x.T)

    def guide(self, x):
        with pyro.plate("batch", len(x)):
            pyro.sample("z", dist.Normal((x.sum(1) - 10) / 3, 3**-0.5))  # the posterior


def test_dreams_of_nested_plates_are_rows_of_data():
    """Else the guide would be shown the features of several dreams as those of one."""
    like = torch.randn(3, 2) + torch.tensor([0.0, 10.0])
    program = Plated()
    pair = pair_up(program.model, program.guide, (like,), {})
    require_dreams(pair, (like,), {})
    trace, data = dream(pair, (like.expand(3, 2),), {})
    assert torch.equal(data, trace.nodes["x"]["value"].T)
    bound = barber_agakov(program, like, draws=2000).figures[0]
    assert abs(bound.value - math.log(3) / 2) < 4 * bound.error  # log det(I + W^T W) / 2
