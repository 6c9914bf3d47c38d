"""Every distribution that programs and objectives use, on the accelerator: draws, densities, slopes and moments."""

import pyro.distributions as dist
import pytest
import torch
from torch.distributions import constraints, kl_divergence

from pplvm.distributions.absorbing_codes import AbsorbingCodes, AbsorbingCodesStep
from pplvm.distributions.autoregressive import Autoregressive
from pplvm.distributions.autoregressive_gaussian import AutoregressiveGaussian
from pplvm.distributions.code_categorical import CodeCategorical
from pplvm.distributions.code_prior import CodePrior
from pplvm.distributions.dequantized import Dequantized
from pplvm.distributions.diffusion_steps import datum_variance, diffusion_steps
from pplvm.distributions.discretized_logistic import DiscretizedLogistic
from pplvm.distributions.discretized_logistic_mixture import DiscretizedLogisticMixture, DiscretizedLogisticMixtureRGB
from pplvm.distributions.floor import Floor
from pplvm.distributions.full_covariance_normal import FullCovarianceNormal
from pplvm.distributions.gaussian_diffusion import ForwardDiffusion, ReverseDiffusion
from pplvm.distributions.logistic import Logistic
from pplvm.distributions.low_discrepancy_integer import LowDiscrepancyInteger
from pplvm.distributions.low_discrepancy_uniform import LowDiscrepancyUniform
from pplvm.distributions.mixture_prior import MixturePrior
from pplvm.distributions.nearest_code import NearestCode, rotation
from pplvm.distributions.one_step_diffusion import OneStepDiffusion
from pplvm.distributions.power_spherical import PowerSpherical
from pplvm.distributions.residual_normal import ResidualNormal
from pplvm.distributions.spherical_uniform import SphericalUniform
from pplvm.distributions.transforms.activation_normalization import ActivationNormalization
from pplvm.distributions.transforms.affine_autoregressive import AffineAutoregressive, sigmoid_gate
from pplvm.distributions.transforms.affine_coupling import AffineCoupling
from pplvm.distributions.transforms.mixture_coupling import MixtureCoupling
from pplvm.distributions.transforms.permutation import Permutation
from pplvm.distributions.transforms.scaled_sigmoid import ScaledSigmoid
from pplvm.distributions.uniform_code import UniformCode
from pplvm.distributions.uniform_permutation import UniformPermutation
from pplvm.distributions.von_mises_fisher import VonMisesFisher
from pplvm.objectives.discrete import softened
from pplvm.particles.enumeration import support


def chain(a):
    """Bits, each with logits of its own that the one before moves: autoregressive, a batch of two."""
    bits = lambda logits: torch.distributions.Bernoulli(logits=logits)
    logit = a.mean(-1)  # (2,)
    return Autoregressive(
        lambda v: bits(logit[:, None] + torch.cat([torch.zeros_like(v[..., :1]), v[..., :-1]], -1)),
        first=lambda shape: logit.expand(shape).reshape(-1),
        step=lambda rows, before: (bits(rows if before is None else rows + before), rows),
        event_shape=(3,),
        batch_shape=(2,),
        support=constraints.boolean,
    )


def code_chain(a):
    """Two codes of three each, of which the second leans to the first: a batch of two."""
    moved = lambda before: a + before
    return CodePrior(
        lambda v: torch.stack([a.expand(v[..., 0, :].shape), moved(v[..., 0, :])], -2),
        first=lambda shape: a.expand(*shape, 3).reshape(-1, 3),
        step=lambda rows, before: (rows if before is None else rows + before, rows),
        event_shape=(2, 3),
        batch_shape=(2,),
    )


def revealed(a, step=False):
    """Two codes of three each in two orders, each leaning to what is visible of the other."""
    order = torch.tensor([[0, 1], [1, 0]], device=a.device)

    def logits(v, visible, positions):
        each = a[:, None, None] + (v * visible.unsqueeze(-1)).flip(-2)  # (..., M, 2, 3)
        if positions is None:
            return each
        chosen = positions.unsqueeze(-1) == torch.arange(2, device=a.device)  # (..., M, 2)
        return (each * chosen.unsqueeze(-1)).sum(-2)

    return AbsorbingCodesStep(logits, order, a, 3, order[:, 0] + 1) if step else AbsorbingCodes(logits, order, a, 3)


def flow(a, **options):
    """Of the coordinates before, their sum and its sine; of a context, whose batch is that of a."""

    def network(x, context):
        before = x.cumsum(-1) - x
        return torch.stack([before + context, before.sin()], -2)

    return AffineAutoregressive(network, order=(0, 1, 2), context=a, **options)


def direction(a):
    return a / a.norm(dim=-1, keepdim=True)


def colours(a):
    """Images of one pixel, a batch of two, three components."""
    of_channels = a[..., None, None, None] * a.new_tensor([1.0, 2.0, 3.0])[:, None, None]
    return DiscretizedLogisticMixtureRGB(a[..., None, None], 3 + of_channels, of_channels.exp(), of_channels.tanh(), 8)


def four_codes(a):
    return torch.linspace(-1, 1, 12, device=a.device, dtype=a.dtype).cos().reshape(4, 3)


def coupled(a):
    """All transforms of vectors, of which the couplings read the first coordinate."""
    numbers = torch.linspace(-1, 1, 16, device=a.device, dtype=a.dtype)
    chain = [
        AffineCoupling(lambda first: first * numbers[:4], 3),
        Permutation(torch.tensor([2, 0, 1], device=a.device)),
        MixtureCoupling(lambda first: first * numbers, 3, num_components=2).inv,
        ActivationNormalization(a, 0.3 * a),
        ScaledSigmoid(),
    ]
    return dist.TransformedDistribution(Logistic(a, a.exp()).to_event(1), chain)


def steps_of(a):
    """Of a diffusion with three noisy latents."""
    log_snr = 4 * a.sum() + torch.linspace(4, -4, 3, device=a.device, dtype=a.dtype)
    return diffusion_steps(log_snr, datum_variance(log_snr))


def denoise(u, log_snr):
    return log_snr.sigmoid().unsqueeze(-1) * u.sin()


DISTRIBUTIONS = {
    "ForwardDiffusion": lambda a: ForwardDiffusion(a, steps_of(a).log_snr),
    "ReverseDiffusion": lambda a: ReverseDiffusion(denoise, steps_of(a), 2),
    "OneStepDiffusion": lambda a: OneStepDiffusion(
        denoise, steps_of(a), a[:, 0].detach().sigmoid(), a.sin(), a[0], a[0].exp()
    ),
    "LowDiscrepancyUniform": lambda a: LowDiscrepancyUniform(a, a + a.exp()),
    "Logistic": lambda a: Logistic(a, a.exp()),
    "couplings": coupled,
    "Dequantized": lambda a: Dequantized(coupled(a), a.detach().sign().clamp(min=0), levels=2),
    "Normal": lambda a: dist.Normal(a, a.exp()),
    "ResidualNormal": lambda a: ResidualNormal(a, a.exp(), a.sin(), 0.3 * a),
    "Laplace": lambda a: dist.Laplace(a, a.exp()),
    "LogNormal": lambda a: dist.LogNormal(a, a.exp()),
    "Gamma": lambda a: dist.Gamma(a.exp(), a.exp()),
    "Beta": lambda a: dist.Beta(a.exp(), 1 + a.exp()),
    "Poisson": lambda a: dist.Poisson(a.exp()),
    "Bernoulli": lambda a: dist.Bernoulli(logits=a),
    "Categorical": lambda a: dist.Categorical(logits=a),
    "OneHotCategorical": lambda a: dist.OneHotCategorical(logits=a),
    "RelaxedOneHotCategorical": lambda a: dist.RelaxedOneHotCategorical(a.new_tensor(0.5), logits=a),
    "MultivariateNormal": lambda a: dist.MultivariateNormal(a, scale_tril=torch.diag_embed(a.exp())),
    "LowRankMultivariateNormal": lambda a: dist.LowRankMultivariateNormal(a, a[..., None], a.exp()),
    "Dirichlet": lambda a: dist.Dirichlet(a.exp()),
    "Delta": lambda a: dist.Delta(a, event_dim=1),
    "independent": lambda a: dist.Normal(a, 1.0).to_event(1),
    "masked": lambda a: dist.Normal(a, 1.0).mask(a > 0),
    "expanded": lambda a: dist.Normal(a[0, 0], 1.0).expand([2, 3]),
    "mixture": lambda a: dist.MixtureSameFamily(dist.Categorical(logits=a), dist.Normal(a, 1.0)),
    "Autoregressive": chain,
    "CodePrior": code_chain,
    "AbsorbingCodes": revealed,
    "AbsorbingCodesStep": lambda a: revealed(a, step=True),
    "AffineAutoregressive": lambda a: dist.TransformedDistribution(dist.Normal(a, 1.0).to_event(1), [flow(a)]),
    "AffineAutoregressive, inverse": lambda a: dist.TransformedDistribution(
        dist.Normal(a, 1.0).to_event(1), [flow(a, affine=sigmoid_gate()).inv]
    ),
    "AutoregressiveGaussian": lambda a: AutoregressiveGaussian(a.sigmoid(), 4),
    "FullCovarianceNormal": lambda a: FullCovarianceNormal(a, scale_tril=torch.diag_embed(a.exp())),
    "MixturePrior": lambda a: MixturePrior(dist.Normal(a[..., None], a.exp()[..., None]).to_event(1), a),
    "MixturePrior, equal weights": lambda a: MixturePrior(dist.Normal(a, a.exp()).to_event(1)),
    "DiscretizedLogistic": lambda a: DiscretizedLogistic(8 + 3 * a, a.exp(), 17),
    "DiscretizedLogisticMixture": lambda a: DiscretizedLogisticMixture(a, 8 + 3 * a, a.exp(), 17),
    "DiscretizedLogisticMixtureRGB": colours,
    "PowerSpherical": lambda a: PowerSpherical(direction(a), a.exp().sum(-1)),
    "VonMisesFisher": lambda a: VonMisesFisher(direction(a), a.exp().sum(-1)),
    "NearestCode": lambda a: NearestCode(a, four_codes(a)),
    "NearestCode, rotated": lambda a: NearestCode(a, four_codes(a), rotation),
    "UniformCode": lambda a: UniformCode(logits=a.mean(-1, keepdim=True).expand(a.shape)),
    "CodeCategorical": lambda a: CodeCategorical(a, four_codes(a), a.exp().sum(-1)),
    "transformed": lambda a: dist.TransformedDistribution(
        dist.Normal(a, 1.0), [dist.transforms.AffineTransform(a, a.exp()), dist.transforms.SigmoidTransform()]
    ),
}

NO_VARIANCE = ("DiscretizedLogistic", "DiscretizedLogisticMixture", "PowerSpherical", "VonMisesFisher")
NO_MOMENTS = ("TransformedDistribution", "Dequantized", "Delta", "RelaxedOneHotCategorical", "Autoregressive")
NO_MOMENTS += ("DiscretizedLogisticMixtureRGB", "ForwardDiffusion", "ReverseDiffusion", "OneStepDiffusion")
NO_MOMENTS += ("CodePrior", "AbsorbingCodes", "AbsorbingCodesStep")


@pytest.mark.parametrize("make", DISTRIBUTIONS.values(), ids=DISTRIBUTIONS)
def test_draws_densities_and_slopes(accelerator, make):
    def on(device):
        a = torch.linspace(-1, 1, 6).reshape(2, 3).to(device).requires_grad_()
        fn, found = make(a), {}
        value = fn.rsample((4,)) if fn.has_rsample else fn.sample((4,))
        log_prob = fn.log_prob(value)
        assert value.device.type == log_prob.device.type == device.type
        (value.double().sum() + log_prob.sum()).backward()
        for name in ("mean", "variance"):
            if type(fn).__name__ not in (NO_MOMENTS if name == "mean" else NO_MOMENTS + NO_VARIANCE):
                found[name] = getattr(fn, name)
        if fn.has_enumerate_support:
            found["support"] = fn.enumerate_support()
        assert all(each.device.type == device.type for each in found.values())
        return value, log_prob, a.grad, found

    accelerator.same(on)


def test_orders_and_times(accelerator):
    def on(device):
        found = []
        for fn in (UniformPermutation(4, (2, 3), device=device), LowDiscrepancyInteger(5, (2, 3), device=device)):
            value = fn.sample((6,))
            found += [value, fn.log_prob(value), fn.entropy(), fn.enumerate_support(), kl_divergence(fn, fn)]
            assert value.device.type == device.type
        return found

    accelerator.same(on)


def test_soft_codes_and_their_states(accelerator):
    def on(device):
        a = torch.linspace(-1, 1, 6).reshape(2, 3).to(device).requires_grad_()
        between = a.softmax(-1).unsqueeze(-2).expand(2, 2, 3)
        log_prob = torch.stack([softened(make(a)).log_prob(between) for make in (code_chain, revealed)])
        log_prob.sum().backward()
        return log_prob, a.grad, *(support(make(a)) for make in (code_chain, revealed))

    accelerator.same(on)


@pytest.mark.parametrize(
    "name", ["Normal", "ResidualNormal", "Laplace", "Gamma", "Bernoulli", "Categorical", "MultivariateNormal"]
)
def test_divergences(accelerator, name):
    def on(device):
        a = torch.linspace(-1, 1, 6).reshape(2, 3).to(device)
        return kl_divergence(DISTRIBUTIONS[name](a), DISTRIBUTIONS[name](2 * a))

    accelerator.same(on)


@pytest.mark.parametrize("name", ["AutoregressiveGaussian", "FullCovarianceNormal"])
def test_divergences_of_ours(accelerator, name):
    def on(device):
        a = torch.linspace(-1, 1, 6).reshape(2, 3).to(device)
        fn = DISTRIBUTIONS[name](a)
        other = dist.Normal(torch.ones_like(fn.mean), 0.7).to_event(len(fn.event_shape))
        return kl_divergence(other, fn) if name == "AutoregressiveGaussian" else kl_divergence(fn, other)

    accelerator.same(on)


@pytest.mark.parametrize("name", ["NearestCode", "CodeCategorical"])
def test_divergences_of_codes(accelerator, name):
    def on(device):
        a = torch.linspace(-1, 1, 6).reshape(2, 3).to(device).requires_grad_()
        fn = DISTRIBUTIONS[name](a)
        of_codes = fn.index if name == "NearestCode" else fn.temperature
        other = dist.OneHotCategorical(logits=torch.ones(4, device=device, requires_grad=True))
        divergence = kl_divergence(fn, other)
        divergence.sum().backward()
        return divergence, of_codes, fn.codes, a.grad

    accelerator.same(on)


def test_point_masses_at_levels(accelerator):
    def on(device):
        fn = Floor(torch.linspace(0, 4.9, 6).reshape(2, 3).to(device), levels=5)
        value = fn.sample((4,))
        return value, fn.log_prob(value), fn.log_prob(1 - value), fn.mean, fn.variance, fn.support.check(value / 2)

    accelerator.same(on)


@pytest.mark.parametrize("name", ["PowerSpherical", "VonMisesFisher"])
def test_directions_beside_the_uniform_one(accelerator, name):
    def on(device):
        a = torch.linspace(-1, 1, 6).reshape(2, 3).to(device).requires_grad_()
        uniform = SphericalUniform(3, (2,), dtype=a.dtype, device=a.device)
        z = uniform.rsample((4,))
        divergence = kl_divergence(DISTRIBUTIONS[name](a), uniform)
        divergence.sum().backward()
        return z, uniform.log_prob(z), uniform.mean, uniform.entropy(), divergence, a.grad

    accelerator.same(on)
