"""Laws that hold between bounds (notes D7), by summing over all draws."""

import math

import torch

from pplvm.bounds import elbo, iwae, renyi
from pplvm.enumeration import enumerate_guide
from pplvm.objectives.score_function import LeaveOneOut, ScoreFunction
from pplvm.particles import pair_up
from tests.problems import exact_gradient, exact_moments, small_net, two_data


def log_evidence(net, x):
    pair = pair_up(net.model, net.guide, (x,), {})
    return float(enumerate_guide(pair, (x,), {})[0].detach().logsumexp(0))


def test_iwae_grows_from_the_elbo_to_log_p():
    net, x = small_net(), two_data()[:1]
    values = [exact_gradient(net, x, iwae, K)[1] for K in range(1, 7)]
    assert values[0] == exact_gradient(net, x, elbo, 1)[1]
    assert all(a < b for a, b in zip(values[:-1], values[1:], strict=True))
    assert values[-1] < log_evidence(net, x)
    pair = pair_up(net.model, net.guide, (x.expand(2000, -1),), {})
    from pplvm.particles import gather

    drawn = gather(pair, 2000, (x.expand(2000, -1),), {})
    many = iwae(drawn.log_weights.detach())
    assert abs(float(many.mean()) - log_evidence(net, x)) < 5 * float(many.std()) / math.sqrt(2000) + 0.01


def test_elbo_does_not_depend_on_particles():
    net, x = small_net(), two_data()[:1]
    values = [exact_gradient(net, x, elbo, K)[1] for K in (1, 2, 3)]
    assert max(values) - min(values) < 1e-12


def test_renyi_falls_with_alpha():
    net, x = small_net(), two_data()[:1]
    values = [exact_gradient(net, x, renyi(a), 3)[1] for a in (-2.0, -0.5, 0.0, 0.5, 0.999999, 1.0, 1.5, 3.0)]
    assert all(a > b for a, b in zip(values[:-1], values[1:], strict=True))
    assert abs(values[4] - values[5]) < 1e-5  # continuous at the elbo


def test_leave_one_out_never_has_more_variance_than_its_plain_score():
    net = small_net()
    for x in two_data().unsqueeze(1):
        for bound in (elbo, iwae, renyi(0.5)):
            plain, less = (exact_moments(rule(bound, 3), net, x)[1].sum() for rule in (ScoreFunction, LeaveOneOut))
            assert less < plain


def test_gradient_of_log_p_is_zero_bias_limit_of_iwae():
    """The model's part of the iwae gradient tends to that of log p(x) as K grows."""
    net, x = small_net((1,)), two_data()[:1]
    pair = pair_up(net.model, net.guide, (x,), {})
    log_p, _ = enumerate_guide(pair, (x,), {})
    truth = torch.autograd.grad(log_p.logsumexp(0).sum(), list(net.decoders.parameters()))
    truth = torch.cat([t.flatten() for t in truth])
    names = [n for n, p in net.named_parameters() for _ in range(p.numel())]
    inside = torch.tensor(["decoder" in n for n in names])
    gaps = [float((exact_gradient(net, x, iwae, K)[0][inside] - truth).norm()) for K in (1, 4, 10)]
    assert gaps[2] < gaps[1] < gaps[0] and gaps[2] < 0.25 * gaps[0]
