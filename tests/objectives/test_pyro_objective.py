"""Pyro's own ELBOs through the adapter: what they compute, with their faults pinned, so that a fix upstream shows."""

import math

import pyro
import pytest
import torch
from pyro.distributions.transforms import planar
from pyro.infer import RenyiELBO, ReweightedWakeSleep, Trace_ELBO, TraceGraph_ELBO

from pplvm.bounds import elbo, iwae
from pplvm.objectives.objective import Loss, ObjectiveError
from pplvm.objectives.pathwise import Pathwise
from pplvm.objectives.pyro_objective import PyroObjective
from pplvm.objectives.score_function import ScoreFunction
from pplvm.particles.enumeration import enumerate_guide
from pplvm.particles.pair import pair_up
from tests.particles.test_dreams import Reader, Stepper, X
from tests.particles.test_flows import Flow
from tests.problems import exact_gradient, linear_gaussian, small_net, two_data

MANY = {"vectorize_particles": True, "max_plate_nesting": 1}


def gradient(loss, x, seed=0):
    torch.manual_seed(seed)
    found = torch.autograd.grad(loss(x), list(loss.program.parameters()), allow_unused=True)
    parts = [torch.zeros_like(p) if g is None else g for p, g in zip(loss.program.parameters(), found, strict=True)]
    return torch.cat([part.flatten() for part in parts])


def guide_entries(net):
    return torch.cat([torch.full((p.numel(),), "encoder" in n) for n, p in net.named_parameters()])


@pytest.mark.parametrize(
    "make, program, x",
    [
        (lambda: TraceGraph_ELBO(3, **MANY), small_net((2, 2)), two_data()),
        (lambda: RenyiELBO(0.0, 3, **MANY), linear_gaussian(), torch.randn(4, 3)),
        (lambda: RenyiELBO(0.5, 3, **MANY), linear_gaussian(), torch.randn(4, 3)),
    ],
)
def test_the_adapter_gives_pyros_value_and_gradient(make, program, x):
    x = x.double()
    program = program.double()
    loss = Loss(PyroObjective(make()), program)
    loss(x)
    program.zero_grad()
    torch.manual_seed(0)
    value = loss(x)
    ours = gradient(loss, x)
    assert all(p.grad is None for p in program.parameters()), "the adapter must leave .grad alone"

    def model(x):
        pyro.module("program", program)  # without a param site Pyro's RenyiELBO takes no gradient
        return program.model(x)

    torch.manual_seed(0)
    theirs = make().loss_and_grads(model, program.guide, x)
    pyro.clear_param_store()
    assert float(value.detach()) == pytest.approx(theirs / len(x), rel=1e-12)
    expected = torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in program.parameters()])
    assert torch.allclose(ours * len(x), expected, atol=1e-12)


def test_trace_graph_is_unbiased_on_one_layer():
    """Its gradient equals the plain score function's, draw by draw."""
    net, x = small_net(), two_data()
    theirs, ours = Loss(PyroObjective(TraceGraph_ELBO(4, **MANY)), net), Loss(ScoreFunction(elbo, 4), net)
    theirs(x), ours(x)
    assert torch.allclose(gradient(theirs, x), gradient(ours, x), atol=1e-10)


def test_renyi_gives_a_discrete_guide_no_gradient_at_all():
    """B1: exactly zero at alpha = 0, where the truth is not; the model's part and the value are right."""
    net, x = small_net(), two_data()
    with pytest.raises(ObjectiveError, match="'z_1' a wrong gradient: use LeaveOneOut"):
        Loss(PyroObjective(RenyiELBO(0.0, 3, **MANY)), net)(x)
    loss = Loss(PyroObjective(RenyiELBO(0.0, 3, **MANY), allow_biased=True), net)
    guide = guide_entries(net)
    found = torch.stack([gradient(loss, x, seed) for seed in range(200)])
    truth = -sum(exact_gradient(net, row[None], iwae, 3)[0] for row in x) / len(x)
    assert found[:, guide].abs().max() < 1e-12
    assert truth[guide].abs().max() > 0.05
    error = found[:, ~guide].std(0) / 200**0.5
    assert ((found[:, ~guide].mean(0) - truth[~guide]) / error.clamp(min=1e-9)).abs().max() < 4.5


def test_renyi_puts_the_plate_scale_inside_the_logarithm():
    """B2: under a subsampled plate its value exceeds log p(x); ours keeps N/B outside."""

    class Subsampled(torch.nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.inner = inner

        def model(self, x):
            with pyro.poutine.scale(scale=100.0):
                return self.inner.model(x)

        def guide(self, x):
            with pyro.poutine.scale(scale=100.0):
                return self.inner.guide(x)

    inner = linear_gaussian()
    program, x = Subsampled(inner), torch.randn(2, 3)
    truth = -100 * inner.log_evidence(x).mean()
    with pytest.raises(ObjectiveError, match="inside the logarithm"):
        Loss(PyroObjective(RenyiELBO(0.0, 200, **MANY)), program)(x)
    theirs = Loss(PyroObjective(RenyiELBO(0.0, 200, **MANY), allow_biased=True), program)
    ours = Loss(Pathwise(iwae, 200), program)
    with torch.no_grad():
        assert torch.stack([ours(x) for _ in range(20)]).mean() > truth - 1
        assert torch.stack([theirs(x) for _ in range(20)]).mean() < truth - 20  # a 'bound' above log p(x)


def test_reweighted_wake_sleep_weights_the_batch_jointly():
    """B4: the gradient for two data is that of one joint datum, far from the sum of per-datum gradients."""
    net, x = small_net(seed=2), two_data()
    with pytest.raises(ObjectiveError, match="batch of 2 jointly"):
        Loss(PyroObjective(ReweightedWakeSleep(3, **MANY)), net)(x)
    loss = Loss(PyroObjective(ReweightedWakeSleep(3, **MANY), allow_biased=True), net)
    found = torch.stack([gradient(loss, x, seed) for seed in range(800)]) * len(x)
    per_datum, joint = wake_phi(net, x, K=3)
    guide = guide_entries(net)
    error = (found.std(0) / 800**0.5)[guide].clamp(min=1e-9)
    assert ((found.mean(0)[guide] + joint[guide]) / error).abs().max() < 4.5
    assert ((found.mean(0)[guide] + per_datum[guide]) / error).abs().max() > 5


def test_reweighted_wake_sleep_of_single_data_is_allowed():
    net, x = small_net(), two_data()[:1]
    for insomnia in (1.0, 0.0, 0.5):
        loss = Loss(PyroObjective(ReweightedWakeSleep(3, insomnia, num_sleep_particles=1, **MANY)), net)
        assert gradient(loss, x)[guide_entries(net)].abs().max() > 0


def wake_phi(net, x, K):
    """E[sum_k w~_k d log q(z_k)] with weights per datum and with one weight for both data, by enumeration."""
    import itertools

    pair = pair_up(net.model, net.guide, (x,), {})
    log_p, log_q = enumerate_guide(pair, (x,), {})  # (S, 2)
    log_w = (log_p - log_q).detach()
    one = torch.tensor(list(itertools.product(range(len(log_w)), repeat=K))).T  # (K, T)
    per_datum = 0.0
    for b in range(2):
        probability = log_q[one, b].sum(0).exp().detach()
        per_datum = per_datum + (probability * (log_w[one, b].softmax(0) * log_q[one, b]).sum(0)).sum()
    T = one.shape[1]
    left, right = torch.cartesian_prod(torch.arange(T), torch.arange(T)).T
    first, second = one[:, left], one[:, right]  # every pair of K-tuples
    probability = (log_q[first, 0].sum(0) + log_q[second, 1].sum(0)).exp().detach()
    weights = (log_w[first, 0] + log_w[second, 1]).softmax(0)
    joint = (probability * (weights * (log_q[first, 0] + log_q[second, 1])).sum(0)).sum()
    return tuple(flat_gradient(value, net) for value in (per_datum, joint))


def flat_gradient(value, net):
    found = torch.autograd.grad(value, list(net.parameters()), allow_unused=True, retain_graph=True)
    parts = [torch.zeros_like(p) if g is None else g for p, g in zip(net.parameters(), found, strict=True)]
    return torch.cat([part.flatten() for part in parts])


def test_only_the_elbos_that_need_it_are_adapted():
    with pytest.raises(ObjectiveError, match="not Trace_ELBO"):
        PyroObjective(Trace_ELBO())
    assert PyroObjective(RenyiELBO(0.0)).target is iwae
    assert PyroObjective(TraceGraph_ELBO()).target is elbo


@pytest.mark.parametrize(
    "make, program, x",
    [
        (lambda: TraceGraph_ELBO(3, **MANY), small_net((2, 2)), two_data()),
        (lambda: RenyiELBO(0.5, 3, **MANY), linear_gaussian(), torch.randn(4, 3)),
        (lambda: ReweightedWakeSleep(3, **MANY), small_net(), two_data()[:1]),
    ],
)
def test_svi_steps_along_pyros_gradient(make, program, x):
    program, x = program.double(), x.double()
    expected = gradient(Loss(PyroObjective(make()), program), x, seed=5) * len(x)  # of the sum over the batch
    before = torch.cat([p.detach().flatten().clone() for p in program.parameters()])
    svi = pyro.infer.SVI(program.model, program.guide, pyro.optim.SGD({"lr": 1.0}), PyroObjective(make()))
    with pyro.get_param_store().scope():
        torch.manual_seed(5)
        assert math.isfinite(svi.step(x)) and math.isfinite(svi.evaluate_loss(x))
    after = torch.cat([p.detach().flatten() for p in program.parameters()])
    assert torch.allclose(before - after, expected, atol=1e-10) and expected.abs().max() > 1e-3


def test_pyros_sleep_phase_refuses_a_model_that_reads_its_data():
    x, waking = X[:1], lambda: ReweightedWakeSleep(2, insomnia=1.0, **MANY)
    sleepy = lambda: PyroObjective(ReweightedWakeSleep(2, insomnia=0.5, **MANY))
    with pytest.raises(ObjectiveError, match="Pyro's ReweightedWakeSleep: the model reads the data .* insomnia=1"):
        Loss(sleepy(), Reader())(x)
    with pytest.raises(ObjectiveError, match=r"one run, not value by value: use pplvm's, .*\(2, insomnia=0.5\)"):
        Loss(sleepy(), Stepper())(x)
    Loss(PyroObjective(waking()), Reader())(x).backward()


def test_pyros_objectives_tell_of_flows_without_inverse():
    loss = Loss(PyroObjective(ReweightedWakeSleep(2, **MANY)), Flow(planar(2)))
    with pytest.raises(ObjectiveError, match="Pyro's ReweightedWakeSleep needs the density .* with an inverse"):
        loss(torch.ones(1, 2))
