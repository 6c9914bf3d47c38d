"""The mixture prior beside torch's, its single component, its slopes in both precisions, and its place in programs."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn
from torch.autograd import gradcheck

from pplvm.distributions import mixture_prior
from pplvm.distributions.mixture_prior import MixturePrior
from pplvm.particles.draw import draw_particles

C, Z = 5, 3


def parameters(seed=0, *batch):
    generator = torch.Generator().manual_seed(seed)
    loc, log_scale = torch.randn(2, *batch, C, Z, generator=generator).unbind()
    return (
        loc.requires_grad_(),
        log_scale.requires_grad_(),
        torch.randn(*batch, C, generator=generator).requires_grad_(),
    )


def normals(loc, log_scale):
    return dist.Normal(loc, log_scale.exp()).to_event(1)


def torchs(loc, log_scale, logits):
    return dist.MixtureSameFamily(dist.Categorical(logits=logits), normals(loc, log_scale))


COMPONENTS = {
    "normals": normals,
    "laplaces": lambda loc, log_scale: dist.Laplace(loc, log_scale.exp()).to_event(1),
    "full": lambda loc, log_scale: dist.MultivariateNormal(loc, scale_tril=log_scale.exp().diag_embed()),
    "scalars": lambda loc, log_scale: dist.Normal(loc[..., 0], log_scale[..., 0].exp()),
    "matrices": lambda loc, log_scale: dist.Normal(loc[..., None], log_scale.exp()[..., None]).to_event(2),
}


@pytest.mark.parametrize("kind", COMPONENTS)
@pytest.mark.parametrize("batch", [(), (4,)])
@pytest.mark.parametrize("weighted", [True, False])
def test_densities_moments_and_slopes_are_torchs(monkeypatch, kind, batch, weighted):
    monkeypatch.setattr(mixture_prior, "MOST_NUMBERS", 40)  # a few rows at a time
    loc, log_scale, logits = parameters(0, *batch)
    logits = logits if weighted else torch.zeros_like(logits).requires_grad_()
    components = COMPONENTS[kind](loc, log_scale)
    ours = MixturePrior(components, logits if weighted else None)
    theirs = dist.MixtureSameFamily(dist.Categorical(logits=logits), components)
    assert (ours.batch_shape, ours.event_shape) == (theirs.batch_shape, theirs.event_shape)
    value = theirs.sample((7, 2)).requires_grad_()
    inputs = (value, loc, log_scale, logits)
    for a, b in ((ours.mean, theirs.mean), (ours.variance, theirs.variance)):
        torch.testing.assert_close(a, b)
    found = [each.log_prob(value) for each in (ours, theirs)]
    torch.testing.assert_close(*found, atol=1e-12, rtol=1e-12)
    slopes = [torch.autograd.grad(each.sum(), inputs, allow_unused=True, retain_graph=True) for each in found]
    for a, b in zip(*slopes, strict=True):
        assert (a is None and not weighted) or (a is None and b is None) or torch.allclose(a, b, atol=1e-11)


@pytest.mark.parametrize("kind", COMPONENTS)
def test_one_component_is_that_distribution(kind):
    loc, log_scale, _ = parameters()
    alone, one = COMPONENTS[kind](loc[0], log_scale[0]), COMPONENTS[kind](loc[:1], log_scale[:1])
    value = alone.sample((50,))
    for logits in (None, torch.tensor([3.0])):
        mixture = MixturePrior(one, logits)
        torch.testing.assert_close(mixture.log_prob(value), alone.log_prob(value), atol=1e-12, rtol=1e-12)
        torch.testing.assert_close(mixture.mean, alone.mean)
        torch.testing.assert_close(mixture.variance, alone.variance)


def test_second_derivatives_are_right():
    loc, log_scale, logits = parameters()
    value = torch.randn(2, Z, requires_grad=True)
    of = lambda v, m, s, w: MixturePrior(normals(m, s), w).log_prob(v)
    assert gradcheck(of, (value, loc, log_scale, logits))
    slope = lambda v, m, s, w: torch.autograd.grad(of(v, m, s, w).sum(), (v, m, s), create_graph=True)
    assert gradcheck(slope, (value, loc, log_scale, logits))


@pytest.mark.parametrize("scale", [1e-3, 0.05, 1.0, 30.0])
def test_single_precision_keeps_its_digits_however_narrow_the_components(scale):
    loc, _, logits = parameters()
    narrow = torch.full((C, Z), scale).log()
    value = loc[0].detach() + scale * torch.randn(20, Z)
    found = []
    for dtype in (torch.float32, torch.float64):
        m, s, w = (each.detach().float().to(dtype).requires_grad_() for each in (loc, narrow, logits))
        log_prob = MixturePrior(normals(m, s), w).log_prob(value.float().to(dtype))
        assert log_prob.dtype is dtype
        found.append((log_prob.double(), *(g.double() for g in torch.autograd.grad(log_prob.sum(), (m, w)))))
    for single, double in zip(*found, strict=True):
        assert ((single - double).abs() <= 1e-3 * double.abs().max()).all()


def test_draws_are_of_the_mixture_and_have_no_path():
    loc, log_scale, logits = parameters(0, 2)
    mixture = MixturePrior(normals(loc, log_scale), logits)
    assert not mixture.has_rsample
    draws = mixture.expand((3, 2)).sample((20000,))
    assert draws.shape == (20000, 3, 2, Z) and not draws.requires_grad
    error = mixture.variance.sqrt() / 20000**0.5
    assert ((draws.mean(0) - mixture.mean).abs() < 5 * error).all()
    assert not torch.allclose(draws[:, 0], draws[:, 1])
    unweighted = MixturePrior(normals(loc, log_scale))
    assert (
        (unweighted.sample((20000,)).mean(0) - loc.mean(-2)).abs() < 5 * unweighted.variance.sqrt() / 20000**0.5
    ).all()


def test_integers_may_be_mixed():
    mixture = MixturePrior(dist.Categorical(logits=torch.randn(C, 4)), torch.randn(C))
    every = torch.arange(4)
    torch.testing.assert_close(mixture.log_prob(every).logsumexp(0), torch.tensor(0.0))
    assert mixture.support.is_discrete and mixture.sample((9,)).dtype is torch.int64


def test_values_outside_the_support_are_refused():
    mixture = MixturePrior(dist.Gamma(torch.ones(C, Z), 1.0).to_event(1))
    with pytest.raises(ValueError, match="support"):
        mixture.log_prob(torch.tensor([1.0, -1.0, 1.0]))
    assert mixture.expand((2,)).support.check(torch.ones(2, Z)).all()


@pytest.mark.parametrize(
    "components, logits, words",
    [
        (dist.Normal(torch.zeros(3), 1.0).to_event(1), None, "give them batch shape \\(C,\\)"),
        (dist.Normal(torch.zeros(4, 3), 1.0).to_event(1), torch.zeros(3), "logits of shape \\(3,\\) are not of 4"),
    ],
)
def test_components_that_cannot_be_counted_are_refused(components, logits, words):
    with pytest.raises(ValueError, match=words):
        MixturePrior(components, logits)


def test_bad_weights_and_batches_are_refused():
    components = dist.Normal(torch.zeros(2, C, Z), 1.0).to_event(1)
    with pytest.raises(ValueError, match="parameter log_weights"):
        MixturePrior(components, torch.full((C,), torch.nan))
    with pytest.raises(ValueError, match=r"batch shape \(4, 2\) does not expand to \(2,\)"):
        MixturePrior(components).expand((4, 2)).expand((2,))


def test_values_may_be_mapped_over():
    loc, log_scale, logits = parameters()
    values = torch.randn(6, Z)
    of = lambda v, m: MixturePrior(normals(m, log_scale), logits, validate_args=False).log_prob(v)
    torch.testing.assert_close(torch.func.vmap(of, (0, None))(values, loc), of(values, loc))
    slopes = torch.func.vmap(torch.func.grad(of, argnums=1), (0, None))(values, loc)
    torch.testing.assert_close(slopes.sum(0), torch.autograd.grad(of(values, loc).sum(), loc)[0])


def test_no_chunk_meets_all_components_at_once(monkeypatch):
    sizes, log_prob = [], dist.Laplace.log_prob

    def watched(self, value):
        sizes.append(value.numel() * C)
        return log_prob(self, value)

    monkeypatch.setattr(dist.Laplace, "log_prob", watched)
    monkeypatch.setattr(mixture_prior, "MOST_NUMBERS", 10 * C * Z)
    loc, log_scale, logits = parameters()
    MixturePrior(COMPONENTS["laplaces"](loc, log_scale), logits).log_prob(torch.randn(4, 6, Z))
    assert sizes == [10 * C * Z, 10 * C * Z, 4 * C * Z]


class Mixed(nn.Module):
    def __init__(self):
        super().__init__()
        self.loc, self.log_scale, self.logits = map(nn.Parameter, parameters())

    def model(self, x):
        with pyro.plate("batch", len(x)):
            z = pyro.sample("z", MixturePrior(normals(self.loc, self.log_scale), self.logits))
            pyro.sample("x", dist.Normal(z, 1.0).to_event(1), obs=x)

    def guide(self, x):
        with pyro.plate("batch", len(x)):
            pyro.sample("z", dist.Normal(x, 1.0).to_event(1))


@pytest.mark.parametrize("K", [1, 4])
def test_particles_stand_left_of_the_batch(K):
    program, x = Mixed(), torch.randn(6, Z)
    found = draw_particles(program.model, program.guide, x, num_particles=K)
    z = found.guide_trace.nodes["z"]["value"].reshape(K, 6, Z)
    expected = torchs(program.loc, program.log_scale, program.logits).log_prob(z)
    torch.testing.assert_close(found.log_p_sites["z"], expected)
    assert expected.shape == (K, 6)
