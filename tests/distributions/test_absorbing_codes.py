"""Absorbing diffusion over codes: continuous time is the mean over orders, and one step estimates it."""

from itertools import permutations

import numpy as np
import pyro
import pytest
import torch
from torch import nn

from pplvm.bounds import elbo, iwae
from pplvm.distributions.absorbing_codes import AbsorbingCodes, AbsorbingCodesStep
from pplvm.distributions.temperature import at_temperature
from pplvm.distributions.uniform_permutation import UniformPermutation
from pplvm.evaluation.evidence import log_evidence
from pplvm.networks.masked_transformer import MaskedTransformer
from pplvm.objectives.discrete import softened
from pplvm.objectives.pathwise import Pathwise
from pplvm.particles.pair import pair_up
from tests.problems import Forced

N, K = 4, 3
ORDERS = torch.tensor(list(permutations(range(N))))  # (24, N)


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    made = MaskedTransformer(K, N, width=8, num_layers=2, num_heads=2).double()
    for parameter in made.parameters():
        nn.init.normal_(parameter, std=0.7)
    return made.eval().requires_grad_(False)


def every_value():
    return torch.eye(K)[torch.cartesian_prod(*[torch.arange(K)] * N)]  # (81, N, K)


def given(network, order, **options):
    return AbsorbingCodes(network, order, network.mask, K, **options)


def by_hand(network, v):
    """Log p(v | order) of each order (24,), one network call a term."""
    terms = []
    for order in ORDERS:
        seen, total = torch.zeros(N, dtype=torch.bool), 0.0
        for i in order:
            total = total + network(v, seen)[i].log_softmax(-1) @ v[i]
            seen = seen.clone()
            seen[i] = True
        terms.append(total)
    return torch.stack(terms)


def continuous_time(network, v, weight=lambda r: 1 / r):
    """The integral over the mask rate r of (1/r) E[sum over masked of log p(v_i | rest)], by quadrature."""
    points, weights = np.polynomial.legendre.leggauss(8)
    r = (1 + torch.tensor(points)) / 2
    masked = torch.cartesian_prod(*[torch.tensor([False, True])] * N)  # (2^N, N)
    n = masked.sum(-1, keepdim=True)
    of_masked = (masked * (network(v, ~masked).log_softmax(-1) * v).sum(-1)).sum(-1, keepdim=True)
    return (torch.tensor(weights) / 2 * weight(r) * r**n * (1 - r) ** (N - n) * of_masked).sum()


def test_continuous_time_is_the_mean_over_all_orders(network):
    for v in every_value()[[5, 40, 77]]:
        truth = by_hand(network, v)
        torch.testing.assert_close(given(network, ORDERS).log_prob(v), truth, atol=1e-12, rtol=0)
        torch.testing.assert_close(continuous_time(network, v), truth.mean(), atol=1e-10, rtol=0)
        assert (continuous_time(network, v, lambda r: 1.0) - truth.mean()).abs() > 0.1
        times = torch.arange(1, N + 1)[:, None]
        step = AbsorbingCodesStep(network, ORDERS, network.mask, K, times)
        assert step.batch_shape == (N, 24) and step.is_random_lower_bound
        torch.testing.assert_close(step.log_prob(v).mean(), truth.mean(), atol=1e-10, rtol=0)
        assert truth.mean() < iwae(truth[:, None])[0] and step.log_prob(v).std() > 0.1
        assert iwae(step.log_prob(v).reshape(-1, 1))[0] > iwae(truth[:, None])[0], "under a logarithm it is no bound"


class Density(nn.Module):
    """Codes as data, their order a latent that model and guide draw alike."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def model(self, x):
        with pyro.plate("batch", len(x)):
            order = pyro.sample("order", UniformPermutation(N))
            pyro.sample("x", given(self.network, order), obs=x)

    def guide(self, x):
        with pyro.plate("batch", len(x)):
            pyro.sample("order", UniformPermutation(N))


def test_elbo_and_iwae_over_orders_are_the_mean_and_its_log_mean_exp(network):
    program, x = Density(network), every_value()[[5, 40]]
    truth = torch.stack([by_hand(network, v) for v in x], 1)  # (24, 2)
    pair = pair_up(program.model, program.guide, (x,), {})
    for bound in (elbo, iwae):
        with Forced({"order": ORDERS[:, None].expand(24, 2, N)}):
            found = Pathwise(bound, 24).estimate(pair, x).value
        torch.testing.assert_close(found, bound(truth), atol=1e-10, rtol=0)
    evidence = log_evidence(program, x)
    assert evidence is not None and evidence.how == "24 states summed out"
    torch.testing.assert_close(evidence.log_p, iwae(truth), atol=1e-10, rtol=0)


def test_it_sums_to_one_in_every_order_and_draws_have_it(network):
    torch.manual_seed(1)
    values, order = every_value(), ORDERS[[7, 20]]
    fn = given(network, order)
    probability = fn.log_prob(values[:, None]).exp()  # (81, 2)
    torch.testing.assert_close(probability.sum(0), torch.ones(2), atol=1e-10, rtol=0)
    index = K ** torch.arange(N - 1, -1, -1)
    for drawn in (fn, AbsorbingCodesStep(network, order, network.mask, K, torch.tensor([1, 3]))):
        draws = drawn.expand([2]).sample((3000,))
        assert draws.shape == (3000, 2, N, K)
        counts = torch.stack([torch.bincount(each, minlength=81) for each in (draws.argmax(-1) @ index).T], 1)
        error = (probability * (1 - probability) / 3000).sqrt().clamp(min=1e-3)
        assert ((counts / 3000 - probability) / error).abs().max() < 4.5
        assert ((counts.flip(1) / 3000 - probability) / error).abs().max() > 4.5, "the orders differ"


def test_particles_conditions_and_relaxed_values(network):
    torch.manual_seed(2)
    v, order = every_value()[[5, 40, 77]], UniformPermutation(N, (6, 3)).sample()
    time = torch.tensor([1, 4, 2])
    for fn in (given(network, order), AbsorbingCodesStep(network, order, network.mask, K, time)):
        assert fn.expand([6, 3]).log_prob(v).shape == (6, 3)
        moving = v.clone().requires_grad_()
        assert not fn.log_prob(moving).requires_grad
        torch.testing.assert_close(softened(fn).log_prob(v), fn.log_prob(v))
        assert torch.autograd.grad(softened(fn).log_prob(moving).sum(), moving)[0].abs().max() > 1e-3
        cold = at_temperature(fn, 0.5)
        torch.testing.assert_close(at_temperature(cold, 2.0).log_prob(v), fn.log_prob(v))
        assert (cold.log_prob(v) - fn.log_prob(v)).abs().min() > 1e-3
        with pytest.raises(ValueError, match=r"Absorbing.*: batch shape \(6, 3\) does not expand to \(3,\)"):
            fn.expand([3])
        with pytest.raises(ValueError, match="support"):
            fn.log_prob(0.5 * v)
    wide = given(network, order[0, 0], batch_shape=(3,))
    assert wide.batch_shape == (3,) and wide.log_prob(v[:1]).shape == (3,) and wide.sample((2,)).shape == (2, 3, N, K)
    plain = given(network, order, validate_args=False)
    each = torch.func.vmap(lambda row, value: given(network, row, validate_args=False).log_prob(value))
    torch.testing.assert_close(each(order.flatten(0, 1), v.repeat(6, 1, 1)), plain.log_prob(v).flatten())
