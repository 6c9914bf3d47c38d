"""The waist against densities written out by hand, whatever the shape of the program."""

import itertools

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from torch import nn
from torch.distributions import Bernoulli, Normal

from pplvm.particles.draw import draw_particles
from pplvm.particles.pair import draw_from_pair, pair_up
from tests.problems import Forced

B, M = 3, 4


def in_batch(x):
    return pyro.plate("batch", len(x))


class Mixed(nn.Module):
    """d ~ Bern, z | d ~ N, x | d, z ~ N; the guide draws z first, then d given z."""

    def __init__(self):
        super().__init__()
        self.theta, self.phi = nn.Parameter(torch.tensor([0.3, -0.8])), nn.Parameter(torch.tensor([0.7, 1.4]))

    def model(self, x):
        with in_batch(x):
            d = pyro.sample("d", dist.Bernoulli(logits=self.theta[0]))
            z = pyro.sample("z", dist.Normal(d, 1.5))
            pyro.sample("x", dist.Normal((z + d * self.theta[1]).unsqueeze(-1), 2.0).to_event(1), obs=x)

    def guide(self, x):
        with in_batch(x):
            z = pyro.sample("z", dist.Normal(self.phi[0] * x.mean(-1), 0.5))
            pyro.sample("d", dist.Bernoulli(logits=self.phi[1] * z))

    def by_hand(self, x, d, z):
        """Log p and the two terms of log q."""
        log_x = Normal((z + d * self.theta[1]).unsqueeze(-1), 2.0).log_prob(x).sum(-1)
        log_p = Bernoulli(logits=self.theta[0]).log_prob(d) + Normal(d, 1.5).log_prob(z) + log_x
        log_q_z = Normal(self.phi[0] * x.mean(-1), 0.5).log_prob(z)
        return log_p, log_q_z, Bernoulli(logits=self.phi[1] * z).log_prob(d)


def simple(plate=in_batch, pick=lambda x, rows: x, mask=True, also=lambda x, z: None):
    """z ~ N(0, 1), x | z ~ N(z, 4) and q(z | x) = N(x / 2, 1 / 4)."""

    def model(x):
        with plate(x) as rows:
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            also(pick(x, rows), z)
            with poutine.mask(mask=mask):
                pyro.sample("x", dist.Normal(z, 2.0), obs=pick(x, rows))

    def guide(x):
        with plate(x) as rows:
            pyro.sample("z", dist.Normal(pick(x, rows) / 2, 0.5))

    return model, guide


simple_model, simple_guide = simple()


def values(found, *names):
    return [found.guide_trace.nodes[name]["value"] for name in names]


def weights_of(program, x, forced):
    """The log-weights of given draws (K, B)."""
    pair = pair_up(program.model, program.guide, (x,), {})
    with Forced(forced):
        return draw_from_pair(pair, len(forced["z"]), (x,), {}).log_weights


def simple_weights(x, z):
    return Normal(0.0, 1.0).log_prob(z) + Normal(z, 2.0).log_prob(x) - Normal(x / 2, 0.5).log_prob(z)


# What it computes


@pytest.mark.parametrize("K", [1, 5])
def test_mixed_hierarchical_program_by_hand(K):
    program, x = Mixed(), torch.randn(B, 2)
    found = draw_particles(program.model, program.guide, x, num_particles=K)
    log_p, log_q_z, log_q_d = (t.reshape(K, B) for t in program.by_hand(x, *values(found, "d", "z")))
    torch.testing.assert_close(found.log_p, log_p)
    torch.testing.assert_close(found.log_q, log_q_z + log_q_d)
    torch.testing.assert_close(found.log_q_score, log_q_d)
    torch.testing.assert_close(found.log_weights, log_p - log_q_z - log_q_d)
    assert found.score_sites == ("d",)
    assert list(found.log_p_sites) == ["d", "z", "x"] and list(found.log_q_sites) == ["z", "d"]
    for sites, joint in ((found.log_p_sites, found.log_p), (found.log_q_sites, found.log_q)):
        assert all(term.shape == (K, B) for term in sites.values())
        torch.testing.assert_close(sum(sites.values()), joint)


def test_gradients_are_those_of_the_densities_by_hand():
    program, x = Mixed(), torch.randn(B, 2)
    torch.manual_seed(1)
    found = draw_particles(program.model, program.guide, x, num_particles=4)
    torch.manual_seed(1)
    z = Normal(program.phi[0] * x.mean(-1), 0.5).rsample((4,))
    log_p, log_q_z, log_q_d = program.by_hand(x, values(found, "d")[0], z)
    mix, parameters = torch.randn(4, B), list(program.parameters())
    for seen, truth in ((found.log_p, log_p), (found.log_q, log_q_z + log_q_d)):
        gradients = [
            torch.autograd.grad((mix * term).sum(), parameters, retain_graph=True, materialize_grads=True)
            for term in (seen, truth)
        ]
        torch.testing.assert_close(*gradients)
        assert all(g.any() for g in gradients[0][1:])


def test_permuting_the_batch_permutes_the_log_weights():
    program, x, order = Mixed(), torch.randn(B, 2), torch.tensor([2, 0, 1])
    d, z = torch.bernoulli(torch.full((5, B), 0.5)), torch.randn(5, B)
    straight = weights_of(program, x, {"d": d, "z": z})
    permuted = weights_of(program, x[order], {"d": d[:, order], "z": z[:, order]})
    torch.testing.assert_close(permuted, straight[:, order])
    assert not torch.allclose(permuted, straight)


def test_a_datum_does_not_feel_the_rest_of_the_batch():
    program, x = Mixed(), torch.randn(B, 2)
    forced = {"d": torch.ones(5, B), "z": torch.randn(5, B)}
    among_others = weights_of(program, x, forced)
    for b in range(B):
        alone = weights_of(program, x[[b]], {name: value[:, [b]] for name, value in forced.items()})
        torch.testing.assert_close(alone, among_others[:, [b]])


def test_programs_without_latents_have_log_p_as_weights():
    def model(x):
        with in_batch(x):
            pyro.sample("x", dist.Normal(1.0, 2.0), obs=x)

    x = torch.randn(B)
    found = draw_particles(model, lambda x: None, x, num_particles=4)
    torch.testing.assert_close(found.log_weights, Normal(1.0, 2.0).log_prob(x).expand(4, B))


# Plates nested in the batch


@pytest.mark.parametrize("K", [1, 5])
@pytest.mark.parametrize("dims", [(-1, -2), (None, None)], ids=["dims given", "dims automatic"])
def test_nested_plates_are_summed(K, dims):
    def model(x):
        with pyro.plate("batch", B, dim=dims[0]):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            with pyro.plate("pixels", M, dim=dims[1]):
                w = pyro.sample("w", dist.Bernoulli(logits=z))
                pyro.sample("x", dist.Normal(w + z, 2.0), obs=x)
            pyro.sample("y", dist.Normal(z, 3.0), obs=x[0])

    def guide(x):
        with pyro.plate("batch", B, dim=dims[0]):
            pyro.sample("z", dist.Normal(0.5, 0.7))
            with pyro.plate("pixels", M, dim=dims[1]):
                pyro.sample("w", dist.Bernoulli(0.3))

    x = torch.randn(M, B)
    found = draw_particles(model, guide, x, num_particles=K)
    z, w = (v.reshape(K, -1, B) for v in values(found, "z", "w"))
    assert w.shape == (K, M, B)
    log_p, log_q, log_q_w = torch.zeros(3, K, B)
    for k, b in itertools.product(range(K), range(B)):
        top, low = z[k, 0, b], w[k, :, b]
        log_p[k, b] = Normal(0.0, 1.0).log_prob(top) + Normal(top, 3.0).log_prob(x[0, b])
        log_p[k, b] += Bernoulli(logits=top).log_prob(low).sum() + Normal(low + top, 2.0).log_prob(x[:, b]).sum()
        log_q[k, b] = Normal(0.5, 0.7).log_prob(top)
        log_q_w[k, b] = Bernoulli(0.3).log_prob(low).sum()
    torch.testing.assert_close(found.log_p, log_p)
    torch.testing.assert_close(found.log_q, log_q + log_q_w)
    torch.testing.assert_close(found.log_q_score, log_q_w)
    assert found.score_sites == ()  # nothing to learn


def test_a_loop_inside_the_batch_plate_is_several_sites():
    def program(x, obs):
        with in_batch(x):
            for m in pyro.plate("pixels", 2):
                z = pyro.sample(f"z_{m}", dist.Normal(0.0, 1.0))
                if obs:
                    pyro.sample(f"x_{m}", dist.Normal(z, 2.0), obs=x)

    x = torch.randn(B)
    found = draw_particles(lambda x: program(x, True), lambda x: program(x, False), x, num_particles=3)
    z = values(found, "z_0", "z_1")
    torch.testing.assert_close(found.log_weights, sum(Normal(v, 2.0).log_prob(x) for v in z))


# Subsampling, scales and masks


SUBSAMPLED = {
    "by size": (lambda x: pyro.plate("batch", 6, subsample_size=2), lambda x, rows: x[rows]),
    "by indices": (lambda x: pyro.plate("batch", 6, subsample=torch.tensor([4, 1])), lambda x, rows: x[rows]),
    "a batch of a larger set": (lambda x: pyro.plate("batch", 18, subsample_size=len(x)), lambda x, rows: x),
}


@pytest.mark.parametrize("K", [1, 3])
@pytest.mark.parametrize("case", SUBSAMPLED)
def test_the_scale_of_a_subsampled_plate_stays_outside_the_weights(case, K):
    plate, pick = SUBSAMPLED[case]
    x = torch.randn(6)
    found = draw_particles(*simple(plate, pick), x, num_particles=K)
    rows = found.guide_trace.nodes["batch"]["value"] if case == "by size" else torch.tensor([4, 1])
    seen = pick(x, rows)
    torch.testing.assert_close(found.log_weights, simple_weights(seen, values(found, "z")[0]).reshape(K, -1))
    assert found.scale == 3.0


def test_one_scale_on_everything_stays_outside_the_weights():
    x = torch.randn(B)
    found = draw_particles(*(poutine.scale(program, 0.25) for program in simple()), x, num_particles=4)
    torch.testing.assert_close(found.log_weights, simple_weights(x, values(found, "z")[0]))
    assert found.scale == 0.25


@pytest.mark.parametrize("mask", [torch.tensor([True, False, True]), torch.tensor([False] * B), False, True])
def test_masked_data_have_no_density(mask):
    x = torch.randn(B)
    found = draw_particles(*simple(mask=mask), x, num_particles=4)
    kept = torch.as_tensor(mask).double().expand(B)
    log_x = kept * Normal(values(found, "z")[0], 2.0).log_prob(x)
    torch.testing.assert_close(found.log_p_sites["x"], log_x)
    assert found.log_p_sites["z"].all()


# Sites of other kinds


@pytest.mark.parametrize("K", [1, 4])
def test_factors_count_and_deterministic_sites_do_not(K):
    def also(x, z):
        pyro.deterministic("twice", 2 * z)
        pyro.factor("bonus", z.square())

    x = torch.randn(B)
    found = draw_particles(*simple(also=also), x, num_particles=K)
    z = values(found, "z")[0].reshape(K, B)
    torch.testing.assert_close(found.log_weights, simple_weights(x, z) + z.square())
    assert list(found.log_p_sites) == ["z", "bonus", "x"]


def test_a_factor_of_the_guide_is_part_of_log_q_and_of_its_score_where_it_has_no_path():
    slope = nn.Parameter(torch.tensor(0.3))

    def guide(x, has_rsample):
        with in_batch(x):
            pyro.sample("z", dist.Normal(x / 2, 0.5))
            pyro.factor("bonus", slope * x, has_rsample=has_rsample)

    x = torch.randn(B)
    for has_rsample in (True, False):
        found = draw_particles(simple_model, lambda x, h=has_rsample: guide(x, h), x, num_particles=2)
        bonus = (slope * x).expand(2, B)
        torch.testing.assert_close(found.log_q, found.log_q_sites["z"] + bonus)
        torch.testing.assert_close(found.log_q_score, torch.zeros(2, B) if has_rsample else bonus)
        assert found.score_sites == (() if has_rsample else ("bonus",))


def test_auxiliary_sites_of_the_guide_are_drawn_and_counted():
    def guide(x):
        with in_batch(x):
            u = pyro.sample("u", dist.Normal(0.0, 1.0), infer={"is_auxiliary": True})
            pyro.sample("z", dist.Delta(u + x, log_density=0.5))

    x = torch.randn(B)
    found = draw_particles(simple_model, guide, x, num_particles=3)
    torch.testing.assert_close(found.log_q, Normal(0.0, 1.0).log_prob(values(found, "u")[0]) + 0.5)


def test_a_draw_whose_path_is_cut_is_a_score_site():
    def guide(x):
        with in_batch(x):
            pyro.sample("z", dist.Normal(slope * x, 0.5).has_rsample_(False))

    slope = nn.Parameter(torch.tensor(0.3))
    found = draw_particles(simple_model, guide, torch.randn(B), num_particles=3)
    assert found.score_sites == ("z",) and not found.log_p.requires_grad
    assert torch.equal(found.log_q_score, found.log_q)
