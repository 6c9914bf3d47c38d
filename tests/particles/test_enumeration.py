"""Tables of all states against loops over them in plain Python."""

import itertools

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from torch.distributions import Bernoulli, Categorical, Normal

from pplvm.particles.contract import ProgramError
from pplvm.particles.enumeration import enumerate_guide, enumerate_model, latent_states
from pplvm.particles.pair import draw_from_pair, pair_up
from pplvm.programs.mixture import MixtureOfGaussians
from tests.problems import Forced, small_net, two_data

B, M = 2, 2
BITS = (0.0, 1.0)


def paired(model, guide, x, summed_out=()):
    return pair_up(model, guide, (x,), {}, frozenset(summed_out))


def by_loops(pair, x, states):
    """Log p and log q (S, B), one state at a time through the waist; the guide's last site varies slowest."""
    rows = []
    for values in itertools.product(*reversed(states.values())):
        forced = dict(zip(reversed(states), values, strict=True))
        with Forced(forced):
            drawn = draw_from_pair(pair, 1, (x,), {})
        rows.append((drawn.log_p[0], drawn.log_q[0]))
    return tuple(torch.stack(column) for column in zip(*rows, strict=True))


def bits(n):
    return [torch.tensor(state).expand(B, n) for state in itertools.product(BITS, repeat=n)]


def assert_tables(pair, x, states):
    tables = enumerate_guide(pair, (x,), {})
    torch.testing.assert_close(tables, by_loops(pair, x, states))
    torch.testing.assert_close(tables[1].exp().sum(0), torch.ones(len(x)))


def test_two_bits_by_hand():
    net, x = small_net((2,)), two_data()
    log_p, log_q = enumerate_guide(paired(net.model, net.guide, x), (x,), {})
    assert log_p.shape == log_q.shape == (4, 2)
    for s, state in enumerate(itertools.product(BITS, repeat=2)):
        z = torch.tensor(state)
        logits = net.decoders[0](2 * z - 1)
        p = Bernoulli(logits=net.prior_logits).log_prob(z).sum() + Bernoulli(logits=logits).log_prob(x).sum(-1)
        torch.testing.assert_close(log_p[s], p)
        torch.testing.assert_close(log_q[s], Bernoulli(logits=net.encoders[0](x - 0.5)).log_prob(z).sum(-1))


def test_two_layers():
    net, x = small_net((2, 3)), two_data()
    pair = paired(net.model, net.guide, x)
    assert_tables(pair, x, {"z_2": bits(3), "z_1": bits(2)})
    log_p, _ = enumerate_guide(pair, (x,), {})
    assert log_p.shape == (32, 2)
    torch.testing.assert_close(enumerate_model(pair, None, 1, (x,), {})[0], log_p.logsumexp(0, keepdim=True))


def test_gradients_of_the_tables():
    net, x = small_net((2, 3)), two_data()
    pair, parameters = paired(net.model, net.guide, x), list(net.parameters())
    found = [
        torch.autograd.grad((log_q.exp() * (log_p - log_q)).sum(), parameters)
        for log_p, log_q in (
            enumerate_guide(pair, (x,), {}),
            by_loops(pair, x, {"z_2": bits(3), "z_1": bits(2)}),
        )
    ]
    torch.testing.assert_close(*found)


def test_categories():
    program, x = MixtureOfGaussians(2, 3), torch.randn(B, 2)
    pair = paired(program.model, program.guide, x)
    assert_tables(pair, x, {"z": [torch.tensor([s, s]) for s in range(3)]})


@pytest.mark.parametrize("n", [1, 2])
def test_one_hot_vectors(n):
    probs = torch.tensor([[0.2, 0.5, 0.3], [0.6, 0.3, 0.1]])

    def model(x):
        with pyro.plate("batch", B):
            z = pyro.sample("z", dist.OneHotCategorical(probs[:n]).to_event(1))
            pyro.sample("x", dist.Normal((z @ torch.arange(3.0)).sum(-1), 1.0), obs=x)

    def guide(x):
        with pyro.plate("batch", B):
            pyro.sample("z", dist.OneHotCategorical(probs[:n].flip(-1)).to_event(1))

    x, hot = torch.randn(B), torch.eye(3)
    states = [torch.stack(s).expand(B, n, 3) for s in itertools.product(hot, repeat=n)]
    assert_tables(paired(model, guide, x), x, {"z": states})


def nested(mask=True):
    """A bit per datum, and a bit per pixel in a plate inside the batch; `mask` (M, B) on the pixels."""

    def model(x):
        with pyro.plate("batch", B):
            d = pyro.sample("d", dist.Bernoulli(0.3))
            with pyro.plate("pixels", M), poutine.mask(mask=mask):
                e = pyro.sample("e", dist.Bernoulli(0.2 + 0.5 * d))
                pyro.sample("x", dist.Normal(e - d, 1.0), obs=x)

    def guide(x):
        with pyro.plate("batch", B):
            d = pyro.sample("d", dist.Bernoulli(0.6))
            with pyro.plate("pixels", M), poutine.mask(mask=mask):
                pyro.sample("e", dist.Bernoulli(0.5 - 0.3 * d))

    return model, guide


def nested_states():
    bits_of_pixels = itertools.product(BITS, repeat=M)
    return {
        "d": [torch.full((B,), bit) for bit in BITS],
        "e": [torch.tensor(state).reshape(M, 1).expand(M, B) for state in bits_of_pixels],
    }


def test_plates_nested_in_the_batch():
    x = torch.randn(M, B)
    pair = paired(*nested(), x)
    assert_tables(pair, x, nested_states())
    log_p, _ = enumerate_guide(pair, (x,), {})
    torch.testing.assert_close(enumerate_model(pair, None, 1, (x,), {})[0][0], log_p.logsumexp(0))


def test_a_mask_hides_a_latent_from_the_weights_and_not_from_its_states_probabilities():
    x, mask = torch.randn(M, B), torch.tensor([[True, False], [True, True]])
    pair, plain = paired(*nested(mask), x), paired(*nested(), x)
    log_p, log_q = enumerate_guide(pair, (x,), {})
    masked_p, masked_q = by_loops(pair, x, nested_states())
    torch.testing.assert_close(log_p - log_q, masked_p - masked_q)
    torch.testing.assert_close(log_q, by_loops(plain, x, nested_states())[1])
    assert not torch.allclose(masked_q, log_q)


@pytest.mark.parametrize("how", ["poutine.mask", "fn.mask"])
def test_a_masked_datum_has_log_evidence_zero(how):
    mask = torch.tensor([True, False])

    def model(x):
        with pyro.plate("batch", B):
            fn = dist.Bernoulli(torch.tensor([0.3, 0.8]))
            if how == "fn.mask":
                d = pyro.sample("d", fn.mask(mask.unsqueeze(-1)).to_event(1))
                pyro.sample("x", dist.Normal(d.sum(-1), 1.0).mask(mask), obs=x)
            else:
                with poutine.mask(mask=mask):
                    d = pyro.sample("d", fn.to_event(1))
                    pyro.sample("x", dist.Normal(d.sum(-1), 1.0), obs=x)

    x = torch.randn(B)
    log_evidence, _ = enumerate_model(paired(model, None, x), None, 1, (x,), {})
    terms = [
        Bernoulli(torch.tensor([0.3, 0.8])).log_prob(torch.tensor(d)).sum() + Normal(sum(d), 1.0).log_prob(x[0])
        for d in itertools.product(BITS, repeat=2)
    ]
    torch.testing.assert_close(log_evidence, torch.stack([torch.stack(terms).logsumexp(0), torch.zeros(())])[None])


@pytest.mark.parametrize("K", [1, 3])
def test_summing_out_beside_continuous_draws(K):
    def model(x):
        with pyro.plate("batch", B):
            d = pyro.sample("d", dist.Categorical(torch.tensor([0.2, 0.5, 0.3])))
            z = pyro.sample("z", dist.Normal(d.to(x.dtype), 1.0))
            with pyro.plate("pixels", M):
                e = pyro.sample("e", dist.Bernoulli(logits=z))
                pyro.sample("x", dist.Normal(z * e, 1.0 + d), obs=x)

    def guide(x):
        with pyro.plate("batch", B):
            pyro.sample("z", dist.Normal(x.sum(0), 0.5))

    x = torch.randn(M, B)
    pair = paired(model, guide, x, ("d", "e"))
    drawn = pair.run_guide(K, (x,), {})
    z = drawn.nodes["z"]["value"].reshape(K, B)
    log_p, _ = enumerate_model(pair, drawn, K, (x,), {})
    assert log_p.shape == (K, B)
    for k, b in itertools.product(range(K), range(B)):
        terms = []
        for d, *e in itertools.product(range(3), *[BITS] * M):
            term = Categorical(torch.tensor([0.2, 0.5, 0.3])).log_prob(torch.tensor(d))
            term = term + Normal(float(d), 1.0).log_prob(z[k, b])
            for m in range(M):
                term = term + Bernoulli(logits=z[k, b]).log_prob(torch.tensor(e[m]))
                term = term + Normal(z[k, b] * e[m], 1.0 + d).log_prob(x[m, b])
            terms.append(term)
        torch.testing.assert_close(log_p[k, b], torch.stack(terms).logsumexp(0))


def single(fn):
    def model(x):
        with pyro.plate("batch", len(x)):
            pyro.sample("site_7", fn)
            pyro.sample("x", dist.Normal(0.0, 1.0), obs=x)

    def guide(x):
        with pyro.plate("batch", len(x)):
            pyro.sample("site_7", fn)

    x = torch.randn(B)
    return paired(model, guide, x), x


@pytest.mark.parametrize("n", [21, 5000])
def test_too_many_states_are_refused(n):
    pair, x = single(dist.Bernoulli(torch.full((n,), 0.5)).to_event(1))
    exponent = round(n * 0.30103)
    with pytest.raises(ProgramError, match=rf"summing out site 'site_7' takes 10\^{exponent} joint states"):
        enumerate_guide(pair, (x,), {})
    with pytest.raises(ProgramError, match="use an objective that draws it, such as LeaveOneOut"):
        enumerate_model(pair, None, 1, (x,), {})


def test_a_latent_without_end_is_refused():
    pair, x = single(dist.Poisson(2.0))
    with pytest.raises(ProgramError, match=r"site 'site_7' \(Poisson\) has no finite number of states"):
        enumerate_guide(pair, (x,), {})


@pytest.mark.parametrize(
    ("fn", "states"),
    [
        (dist.Bernoulli(torch.full((5,), 0.5)).to_event(1), 32),
        (dist.Bernoulli(torch.full((2, 3), 0.5)).to_event(2), 64),
        (dist.Categorical(torch.ones(7)), 7),
        (dist.Categorical(torch.ones(2, 7)).to_event(1), 49),
        (dist.OneHotCategorical(torch.ones(2, 4)).to_event(1), 16),
        (dist.Binomial(4, 0.5), 5),
        (dist.Bernoulli(0.5).mask(torch.tensor(True)), 2),
        (dist.Bernoulli(torch.full((2000,), 0.5)).to_event(1), 2**2000),
        (dist.Poisson(2.0), None),
        (dist.Normal(0.0, 1.0), None),
    ],
)
def test_numbers_of_states(fn, states):
    pair, x = single(fn)
    for K in (1, 3):
        assert latent_states(pair.run_guide(K, (x,), {})) == states


def test_joint_states_multiply_over_sites_and_nested_plates():
    x = torch.randn(M, B)
    pair = paired(*nested(), x)
    assert latent_states(pair.run_guide(1, (x,), {})) == 2 * 2**M
    net, x = small_net((2, 3)), two_data()
    assert latent_states(paired(net.model, net.guide, x).run_guide(1, (x,), {})) == 32
