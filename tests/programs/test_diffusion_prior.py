"""The diffusion prior: N(0, I) at its optimum, scales, both estimates of one elbo, stages, graphs, and bad input."""

import copy

import pytest
import torch

from pplvm.bounds import elbo, iwae
from pplvm.evaluation.likelihood import importance_sampled
from pplvm.evaluation.rate_distortion import rate_distortion
from pplvm.evaluation.samples import prior_samples
from pplvm.graphs.compiled import compiled
from pplvm.networks.dense import MLP
from pplvm.objectives.estimate import ObjectiveError
from pplvm.objectives.objective import Loss
from pplvm.objectives.pathwise import AnalyticKL, Pathwise
from pplvm.particles.draw import draw_particles
from pplvm.programs.diffusion_prior import DiffusionPrior, diffusion_prior
from pplvm.programs.latent_diffusion import LatentDiffusion
from pplvm.programs.parts import bernoulli
from pplvm.programs.vae import VAE
from pplvm.training.stages import initialize, train_only

B, D, Z = 5, 6, 2


@pytest.fixture
def x():
    return (torch.rand(B, D) < 0.5).double()


def program(**words):
    torch.manual_seed(0)
    return diffusion_prior(D, Z, (5,), **{"num_steps": 4, **words})


def moved(found):
    with torch.no_grad():
        for parameter in found.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return found


def drawn(found, x, K=3):
    torch.manual_seed(1)
    return draw_particles(found.model, found.guide, x, num_particles=K)


@pytest.mark.parametrize("T", [1, 4, 30])
def test_at_its_start_it_is_the_program_under_a_normal_prior(T, x):
    """To each draw's weight, as the chain cancels: not on average alone."""
    found, plain = program(num_steps=T).eval(), VAE(D, Z, (5,))
    initialize(plain, {k: v for k, v in found.state_dict().items() if not k.startswith("prior")})
    torch.manual_seed(2)
    bound = Loss(Pathwise(), found)(x)
    torch.manual_seed(2)
    torch.testing.assert_close(bound, Loss(Pathwise(), plain)(x), rtol=0, atol=1e-6)
    for name in ("log_factors", "denoise.last.bias"):  # off the optimum it is another
        other = copy.deepcopy(found)
        with torch.no_grad():
            other.prior.get_parameter(name).add_(0.5)
        torch.manual_seed(2)
        assert (Loss(Pathwise(), other)(x) - bound).abs() > 1e-3


def test_another_scale_of_the_latents_gives_the_same_bound_and_losing_the_log_determinant_another(x):
    """The encoder's latents a z + b, undone by the location and scale of the prior and before the decoder."""
    a, b = torch.tensor([3.0, 0.5]), torch.tensor([-1.0, 2.0])
    encoder, decoder = MLP(D, 2 * Z), MLP(Z, D)
    first = moved(DiffusionPrior(encoder, decoder, bernoulli, LatentDiffusion(Z, 4), one_step=False))

    def rescaled(y):
        loc, log_scale = encoder(y).chunk(2, -1)
        return torch.cat([a * loc + b, log_scale + a.log()], -1)

    second = DiffusionPrior(rescaled, lambda z: decoder((z - b) / a), bernoulli, copy.deepcopy(first.prior), False)
    with torch.no_grad():
        second.prior.standardization.mean.copy_(b)
        second.prior.standardization.square.copy_(a**2 + b**2)
    for mode in (False, True):
        first.train(mode), second.train(mode)
        first.one_step = second.one_step = mode
        log_w = drawn(first, x).log_weights
        torch.testing.assert_close(drawn(second, x).log_weights, log_w, rtol=0, atol=1e-9)
    without = drawn(second, x).log_weights + a.log().sum()
    assert (without - log_w).abs().min() > 0.1


@torch.no_grad()
def test_one_step_and_the_chain_have_one_elbo(x):
    found = moved(program())
    found.train()
    step = draw_particles(found.model, found.guide, x, num_particles=4_000).log_weights
    found.eval()
    chain = draw_particles(found.model, found.guide, x, num_particles=4_000).log_weights
    error = (step.var(0) + chain.var(0)).sqrt() / 4_000**0.5
    assert ((step.mean(0) - chain.mean(0)).abs() < 4 * error).all()
    assert (iwae(step) > iwae(chain) + 0.5).any()  # which is why one step is refused there


def test_iwae_is_legal_with_the_chain_and_refused_for_one_step(x):
    found = program()
    with pytest.raises(ObjectiveError, match="model site 'z' .OneStepDiffusion. is itself .* or all T noisy latents"):
        Loss(Pathwise(iwae, 2), found)(x)
    Loss(AnalyticKL(2), found)(x).backward()
    Loss(Pathwise(iwae, 2), found.eval())(x).backward()
    Loss(Pathwise(iwae, 2), program(estimate="chain"))(x).backward()


def test_evaluation_has_the_chain_whatever_the_mode_and_samples_go_through_the_decoder(x):
    found = moved(program()).train()
    rates = rate_distortion(found, x, num_particles=3)
    assert list(rates.rate_sites) == ["z", "chain"] and found.training
    sampled = importance_sampled(found, x, ks=(1, 300))
    assert (sampled.log_p[:, 1] > sampled.log_p[:, 0]).all()
    assert prior_samples(found, x[:1], 7).mean.shape == (7, D)


def test_the_scale_follows_the_latents_of_training_alone(x):
    found, scaled = program(), None
    loss, scaled = Loss(Pathwise(elbo, 2), found), found.prior.standardization
    with torch.no_grad():
        found.encoder.last.bias[:Z] += 3.0
    found.eval()
    loss(x).backward()
    assert scaled.batches == 0
    found.train()
    for _ in range(50):
        loss(x).backward()
        scaled.after_step()
    assert scaled.batches == 50
    torch.testing.assert_close(scaled.loc, found.encoder(x)[:, :Z].mean(0), rtol=0, atol=0.3)


def test_stage_two_starts_from_a_vae_and_trains_the_prior_alone(x):
    first, second = VAE(D, Z, (5,), "gaussian"), program(likelihood="gaussian")
    with torch.no_grad():
        first.log_scale.fill_(-1.0)
    told = initialize(second, first.state_dict())
    assert told.unused == ("zeros",) and all(name.startswith("prior.") for name in told.new)
    assert second.log_scale == -1.0
    train_only(second, "prior")
    before = copy.deepcopy(second.state_dict())
    loss = Loss(Pathwise(elbo, 2), second.train())
    optimizer = torch.optim.Adam([p for p in second.parameters() if p.requires_grad], 1e-2)
    for _ in range(3):
        optimizer.zero_grad()
        loss(x).backward()
        optimizer.step()
        second.prior.standardization.after_step()
    changed = {name for name, value in second.state_dict().items() if not torch.equal(value, before[name])}
    assert changed and all(name.startswith("prior.") for name in changed)
    assert second.prior.standardization.batches == 3
    with pytest.raises(ValueError, match="build it with the sizes of that run"):
        initialize(second, VAE(D, 3, (5,), "gaussian").state_dict())


@pytest.mark.parametrize("mode", [True, False])
def test_one_graph_gives_the_eager_values_and_moves_the_same_buffers(mode, x):
    eager = moved(program()).train(mode)
    traced = copy.deepcopy(eager)
    losses = Loss(Pathwise(elbo, 2), eager), compiled(Loss(Pathwise(elbo, 2), traced), "graph")
    for batch in (x, x.flip(0)):
        values = []
        for loss in losses:
            torch.manual_seed(3)
            values.append(loss(batch))
            values[-1].backward()
        torch.testing.assert_close(*values, rtol=0, atol=1e-12)
    for (name, p), q in zip(eager.named_parameters(), traced.parameters(), strict=True):
        assert (p.grad is None) == (q.grad is None), name
        if p.grad is not None:
            torch.testing.assert_close(p.grad, q.grad)
    for p, q in zip(eager.buffers(), traced.buffers(), strict=True):
        torch.testing.assert_close(p, q)


@pytest.mark.slow
def test_learned_on_bimodal_latents_it_beats_a_normal_prior():
    """x says on which side of 0 a latent lies: the aggregate posterior has two modes."""
    torch.manual_seed(0)
    side = torch.randint(2, (400, 1)) * 2.0 - 1
    encoder = lambda x: torch.cat([x, torch.full_like(x, -2.0)], -1)
    found = DiffusionPrior(encoder, lambda z: z, lambda z: bernoulli(100.0 + 0 * z), LatentDiffusion(1, 8))
    data = (1 + 0 * side, side)[0]
    program = DiffusionPrior(lambda x: encoder(side), found.decoder, found.likelihood, found.prior)
    loss, optimizer = Loss(Pathwise(), program), torch.optim.Adam(program.parameters(), 1e-2)
    for _ in range(250):
        optimizer.zero_grad()
        loss(data).backward()
        optimizer.step()
        program.prior.standardization.after_step()
    program.eval()
    rate = Loss(Pathwise(elbo, 20), program)(data).detach()
    scale = torch.tensor(-2.0).exp()
    normal = 0.5 * (scale**2 + 1 - 1) - scale.log()  # KL of N(+-1, scale^2) to N(0, 1)
    assert rate < normal - 0.3 and rate > 0.69  # the code itself is log 2


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ({"num_steps": 0}, "num_steps must be an integer of at least 1"),
        ({"denoiser_hidden_sizes": (0,)}, "denoiser_hidden_sizes"),
        ({"estimate": "two-step"}, "estimate must be"),
        ({"latent_size": 0}, "latent_size"),
        ({"likelihood": "poisson"}, "likelihood must be"),
    ],
)
def test_bad_input(words, told):
    with pytest.raises(ValueError, match=told):
        diffusion_prior(**{"data_size": D, **words})


def test_bad_parts():
    with pytest.raises(TypeError, match="decoder must be a module or a function"):
        DiffusionPrior(MLP(D, 2 * Z), None, bernoulli, LatentDiffusion(Z))
    with pytest.raises(ValueError, match="log_snr_range must fall"):
        LatentDiffusion(Z, log_snr_range=(-1.0, 1.0))
    with pytest.raises(ValueError, match="likelihood is one of data of shape"):
        Loss(Pathwise(), DiffusionPrior(MLP(D, 2 * Z), MLP(Z, 4), bernoulli, LatentDiffusion(Z)))(torch.zeros(B, D))
