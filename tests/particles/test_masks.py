"""Masks that hide a latent on one side: refused, and where the same on both sides, right by enumeration."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from torch import nn

from pplvm.objectives.exact import Exact
from pplvm.objectives.objective import Loss
from pplvm.objectives.path_gradients import StickTheLanding
from pplvm.objectives.pathwise import AnalyticKL
from pplvm.particles.contract import ProgramError
from pplvm.particles.draw import draw_particles
from pplvm.particles.enumeration import enumerate_guide
from pplvm.particles.masks import is_masked, same_mask
from pplvm.particles.pair import draw_from_pair, pair_up

X = torch.tensor([0.5, -1.0, 2.0])
SOME = torch.tensor([True, False, True])


class OneBit(nn.Module):
    """z ~ Bernoulli(0.3), x ~ N(2 z, 1); masks in model and guide as they come."""

    def __init__(self, in_model=None, in_guide=None) -> None:
        super().__init__()
        self.logit, self.masks = nn.Parameter(torch.tensor(0.2)), {"model": in_model, "guide": in_guide}

    def draw(self, role, fn):
        mask = self.masks[role]
        if callable(mask):  # within the distribution
            return pyro.sample("z", mask(fn))
        with poutine.mask(mask=True if mask is None else mask):
            return pyro.sample("z", fn)

    def model(self, x):
        with pyro.plate("batch", len(x)):
            z = self.draw("model", dist.Bernoulli(torch.tensor(0.3)).expand([len(x)]))
            pyro.sample("x", dist.Normal(2 * z, 1.0), obs=x)

    def guide(self, x):
        with pyro.plate("batch", len(x)):
            self.draw("guide", dist.Bernoulli(logits=self.logit).expand([len(x)]))


@pytest.mark.parametrize(
    "masks, words",
    [
        ((SOME, None), "'z' is masked in the model and not in the guide"),
        ((None, SOME), "'z' is masked in the guide and not in the model"),
        ((False, True), "'z' is masked in the model and not in the guide"),
        ((lambda fn: fn.mask(SOME), None), "'z' is masked in the model and not in the guide"),
        ((SOME, ~SOME), r"by masks that differ, first at \(0,\)"),
        ((SOME, lambda fn: fn.mask(torch.tensor([True, False, False]))), r"by masks that differ, first at \(2,\)"),
    ],
)
def test_a_density_that_would_count_alone_is_refused(masks, words):
    program = OneBit(*masks)
    with pytest.raises(ProgramError, match=words):
        draw_particles(program.model, program.guide, X)


def test_what_was_accepted_rose_above_the_evidence():
    """What the refusal is for: without log p(z) beside log q(z) the value exceeds log p(x)."""
    program = OneBit()
    log_p, log_q = enumerate_guide(pair_up(program.model, program.guide, (X,), {}), (X,), {})
    truth = log_p.logsumexp(0)
    prior = dist.Bernoulli(0.3).log_prob(torch.tensor([[0.0], [1.0]]))
    one_sided = (log_q.exp() * (log_p - prior - log_q)).sum(0)
    assert (one_sided > truth).any() and ((log_q.exp() * (log_p - log_q)).sum(0) < truth).all()


@pytest.mark.parametrize("right", [SOME.clone(), lambda fn: fn.mask(SOME), lambda fn: fn.mask(SOME).mask(True)])
def test_one_mask_on_both_sides_hides_both_densities(right):
    program = OneBit(SOME, right)
    found = draw_particles(program.model, program.guide, X, num_particles=5)
    z = found.guide_trace.nodes["z"]["value"]
    p, q = dist.Bernoulli(0.3).log_prob(z), dist.Bernoulli(logits=program.logit).log_prob(z)
    truth = dist.Normal(2 * z, 1.0).log_prob(X) + (p - q) * SOME
    torch.testing.assert_close(found.log_weights, truth)


def test_masks_that_come_to_differ_hide_a_draw_on_both_sides():
    """The check saw a batch on which they agree; no later density counts alone, under any way to weigh the draws."""
    program = OneBit(SOME, SOME.clone())
    pair = pair_up(program.model, program.guide, (X,), {})
    program.masks["guide"] = torch.tensor([True, True, False])
    drawn = draw_from_pair(pair, 5, (X,), {})
    z = drawn.guide_trace.nodes["z"]["value"]
    p, q = dist.Bernoulli(0.3).log_prob(z), dist.Bernoulli(logits=program.logit).log_prob(z)
    both = torch.tensor([True, False, False])
    torch.testing.assert_close(drawn.log_weights, dist.Normal(2 * z, 1.0).log_prob(X) + (p - q) * both)


class HalfLabelled(nn.Module):
    """y ~ Categorical(3), z ~ N(0, 1), x ~ N(y + z, 1), y known of some rows (-1 elsewhere), in one batch."""

    def __init__(self, both=True) -> None:
        super().__init__()
        self.logits, self.both = nn.Parameter(torch.tensor([0.1, -0.3, 0.2])), both
        self.slope, self.loc, self.log_scale = (nn.Parameter(torch.tensor(v)) for v in (0.5, 0.4, -0.3))

    def model(self, x, y):
        known = y >= 0
        with pyro.plate("batch", len(x)):
            fn = dist.Categorical(logits=self.logits.expand(len(x), 3))
            label = pyro.sample("y", fn, obs=y.clamp(min=0), obs_mask=known)
            z = pyro.sample("z", dist.Normal(torch.zeros(len(x)), 1.0))
            pyro.sample("x", dist.Normal(label + z, 1.0), obs=x)

    def guide(self, x, y):
        with pyro.plate("batch", len(x)):
            fn = dist.Categorical(logits=self.slope * x.unsqueeze(-1) * torch.arange(3.0))
            with poutine.mask(mask=True if not self.both else y < 0):
                pyro.sample("y_unobserved", fn)
            pyro.sample("z", dist.Normal(self.loc, self.log_scale.exp()).expand([len(x)]))


def half_labelled_elbo(program, x, y):
    """By enumeration of y and closed forms in z, row by row."""
    states = torch.arange(3.0)
    log_p = program.logits.log_softmax(0)
    s2 = (2 * program.log_scale).exp()
    # E log N(x; y + z, 1), z ~ N(loc, s2)
    data = -0.5 * ((x[:, None] - states - program.loc).square() + s2 + math.log(2 * math.pi))  # (B, 3)
    rate = dist.kl.kl_divergence(dist.Normal(program.loc, program.log_scale.exp()), dist.Normal(0.0, 1.0))
    q = (program.slope * x[:, None] * states).log_softmax(1)
    drawn = (q.exp() * (data + log_p - q)).sum(1)
    seen = (data + log_p).gather(1, y.clamp(min=0)[:, None])[:, 0]
    return torch.where(y >= 0, seen, drawn) - rate


def test_labels_of_some_rows_are_a_mask_on_both_sides_whatever_the_batch():
    program, x = HalfLabelled(), torch.tensor([0.5, 1.5, -0.3, 2.0])
    pair = pair_up(program.model, program.guide, (x, torch.tensor([-1, -1, -1, -1])), {})
    for y in ([-1, -1, -1, -1], [2, -1, 0, -1], [2, 1, 0, 1]):
        y = torch.tensor(y)
        with torch.no_grad():
            found = draw_from_pair(pair, 40_000, (x, y), {}).log_weights
            truth = half_labelled_elbo(program, x, y)
        assert ((found.mean(0) - truth) / (found.std(0) / 200)).abs().max() < 4.5


def test_labels_that_the_guide_does_not_mask_are_refused():
    program = HalfLabelled(both=False)
    with pytest.raises(ProgramError, match="'y_unobserved' is masked in the model and not in the guide.*poutine.mask"):
        draw_particles(program.model, program.guide, torch.zeros(2), torch.tensor([-1, -1]))


class Gaussian(nn.Module):
    def __init__(self, mask) -> None:
        super().__init__()
        self.loc, self.mask = nn.Parameter(torch.tensor(0.4)), mask

    def model(self, x):
        with pyro.plate("batch", len(x)), poutine.mask(mask=True):
            z = pyro.sample("z", dist.Normal(torch.zeros(len(x)), 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    def guide(self, x):
        fn = dist.Normal(self.loc.expand(len(x)), 0.5)
        with pyro.plate("batch", len(x)):
            pyro.sample("z", fn if self.mask is None else fn.mask(self.mask))


def test_true_is_no_mask():
    plain, told = Gaussian(None), Gaussian(True)
    found = draw_particles(told.model, told.guide, X)
    p, q = found.model_trace.nodes["z"], found.guide_trace.nodes["z"]
    assert p["mask"] is True and not is_masked(p) and not is_masked(q) and same_mask(p, q)
    for make in (AnalyticKL, StickTheLanding):
        values = []
        for program in (plain, told):
            torch.manual_seed(0)
            values.append(torch.autograd.grad(Loss(make(), program)(X), program.loc)[0])
        assert torch.equal(*values)


def test_summing_out_beside_masked_draws_of_the_guide():
    """`Exact` draws the rest, whose masks it holds against the model's as all else does."""

    class Mixed(nn.Module):
        def model(self, x):
            with pyro.plate("batch", len(x)):
                with poutine.mask(mask=SOME):
                    z = pyro.sample("z", dist.Normal(torch.zeros(len(x)), 1.0))
                d = pyro.sample("d", dist.Bernoulli(0.5 * torch.ones(len(x))))
                pyro.sample("x", dist.Normal(d + torch.where(SOME, z, torch.zeros(())), 1.0), obs=x)

        def guide(self, x):
            with pyro.plate("batch", len(x)), poutine.mask(mask=SOME):
                pyro.sample("z", dist.Normal(torch.zeros(len(x)), 0.8))

    loss = Loss(Exact(4000), Mixed())
    with torch.no_grad():
        found = -loss(X)
    truth = []
    for x, seen in zip(X, SOME, strict=True):  # over a grid of z, d summed out
        z = torch.linspace(-6, 6, 4001)
        q = dist.Normal(0.0, 0.8).log_prob(z)
        data = torch.stack([dist.Normal(d + (z if seen else 0 * z), 1.0).log_prob(x) for d in (0.0, 1.0)])
        inside = data.logsumexp(0) - math.log(2) + (dist.Normal(0.0, 1.0).log_prob(z) - q if seen else 0)
        truth.append((q.exp() * inside).sum() * (z[1] - z[0]))
    assert float(found) == pytest.approx(float(torch.stack(truth).mean()), abs=0.05)


class Carried(nn.Module):
    """z ~ N(0, 1), x ~ N(z, 1) where seen; in the guide z = u, u ~ N(x / 2, 0.8), each masked or not."""

    def __init__(self, of_z=True, of_u=True) -> None:
        super().__init__()
        self.of_z, self.of_u = of_z, of_u

    def model(self, x):
        with pyro.plate("batch", len(x)), poutine.mask(mask=self.of_z):
            z = pyro.sample("z", dist.Normal(torch.zeros(len(x)), 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    def guide(self, x):
        with pyro.plate("batch", len(x)):
            with poutine.mask(mask=self.of_u):
                u = pyro.sample("u", dist.Normal(x / 2, 0.8), infer={"is_auxiliary": True})
            with poutine.mask(mask=self.of_z):
                pyro.sample("z", dist.Delta(u))


def test_an_auxiliary_draw_is_masked_with_what_carries_it():
    both = Carried(SOME, SOME)
    found = draw_particles(both.model, both.guide, X, num_particles=3).log_weights
    assert (found[:, 1] == 0).all() and (found[:, [0, 2]] != 0).all()
    for masks, words in (
        ((SOME, True), "'z' is masked and 'u' is not"),
        ((True, SOME), "'u' is masked and 'z' is not"),
    ):
        program = Carried(*masks)
        with pytest.raises(ProgramError, match=f"guide site {words}.*put both under one mask"):
            draw_particles(program.model, program.guide, X)
