"""Laws that hold between bounds (notes D7), by summing over all draws."""

import math
from itertools import pairwise

import pytest
import torch

from pplvm.bounds import elbo, iwae, jackknife, renyi, tvo
from pplvm.objectives.score_function import LeaveOneOut, ScoreFunction
from pplvm.objectives.targets import thermodynamic
from pplvm.particles.enumeration import enumerate_guide
from pplvm.particles.pair import pair_up
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
    from pplvm.particles.pair import draw_from_pair

    drawn = draw_from_pair(pair, 2000, (x.expand(2000, -1),), {})
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


@pytest.mark.parametrize("betas", [(0, 1), (0, 0.5, 1), (0, 0.05, 0.2, 0.6, 1)])
def test_left_and_right_thermodynamic_sums_bracket_log_p(betas):
    """Exactly: sums over all states of E[log p - log q] under p^beta q^(1 - beta), which rises with beta."""
    net, x = small_net(), two_data()[:1]
    log_p, log_q = (table.detach() for table in enumerate_guide(pair_up(net.model, net.guide, (x,), {}), (x,), {}))
    means = [((b * log_p + (1 - b) * log_q).softmax(0) * (log_p - log_q)).sum(0) for b in betas]
    left = sum((b - a) * m for (a, b), m in zip(pairwise(betas), means[:-1], strict=True))
    right = sum((b - a) * m for (a, b), m in zip(pairwise(betas), means[1:], strict=True))
    assert float(left) < log_evidence(net, x) < float(right)
    torch.testing.assert_close(thermodynamic(betas).of_tables(log_p, log_q), left)


def test_thermodynamic_sums_rise_as_the_partition_is_refined():
    net, x = small_net(), two_data()[:1]
    tables = enumerate_guide(pair_up(net.model, net.guide, (x,), {}), (x,), {})
    exact = [float(thermodynamic(J).of_tables(*tables).detach()) for J in (1, 2, 4, 8, 64)]
    drawn = [exact_gradient(net, x, tvo(J), 3)[1] for J in (1, 2, 4, 8, 64)]
    assert exact[0] == pytest.approx(exact_gradient(net, x, elbo, 1)[1])
    for values, top in ((exact, log_evidence(net, x)), (drawn, exact_gradient(net, x, iwae, 3)[1])):
        assert all(a < b for a, b in pairwise(values)) and 0 < top - values[-1] < 0.05 * (top - values[0])


def test_the_jackknife_is_nearer_to_log_p_than_iwae():
    """At the same K, and its bias falls faster: that of iwae as 1/K."""
    net, x = small_net((1,)), two_data()[:1]
    truth = log_evidence(net, x)
    bias = {
        bound: [abs(exact_gradient(net, x, bound, K)[1] - truth) for K in (3, 6, 12)]
        for bound in (iwae, jackknife(1), jackknife(2))
    }
    for less, more in pairwise([jackknife(2), jackknife(1), iwae]):
        assert all(a < b for a, b in zip(bias[less][1:], bias[more][1:], strict=True))
    plain, first = (math.log2(bias[bound][1] / bias[bound][2]) for bound in (iwae, jackknife(1)))
    assert 0.8 < plain < 1.2 and first > 1.6


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
