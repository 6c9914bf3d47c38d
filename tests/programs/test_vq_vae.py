"""VQVAE: its bound is the one written by hand and below log p(x), its gradient VQ's, its rate N log K."""

import itertools
import math
from functools import partial

import pyro.distributions as dist
import pytest
import torch
from pyro.infer import Trace_ELBO
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits, one_hot

from pplvm.bounds import elbo, iwae
from pplvm.distributions.nearest_code import NearestCode, rotation
from pplvm.evaluation.active_units import active_units
from pplvm.evaluation.rate_distortion import rate_distortion
from pplvm.graphs.compiled import compiled
from pplvm.networks.codebook import Codebook
from pplvm.networks.dense import MLP
from pplvm.objectives.biased import BiasedPathwise
from pplvm.objectives.exact import Exact
from pplvm.objectives.objective import Loss
from pplvm.objectives.pathwise import AnalyticKL, Pathwise
from pplvm.objectives.penalized import Penalized
from pplvm.objectives.score_function import LeaveOneOut
from pplvm.particles.draw import draw_particles
from pplvm.programs.code_posteriors import AnnealedCodes, StochasticCodes
from pplvm.programs.code_priors import UniformCodePrior
from pplvm.programs.parts import bernoulli
from pplvm.programs.vq_vae import VQVAE, vq_vae

B, D, N, K = 5, 6, 2, 4


def data(rows=B, dtype=torch.float64):
    return torch.bernoulli(torch.full((rows, D), 0.5, dtype=dtype))


def made(**options):
    return vq_vae(D, grid=(1, N), num_codes=K, code_size=3, hidden_sizes=(7,), **options)


def with_posterior(program, posterior, gradient="decoder"):
    """The same parts under another posterior."""
    other = Codebook(K, 3, gradient)
    other.load_state_dict(program.codebook.state_dict())
    return VQVAE(program.encoder, other, program.decoder, program.likelihood, program.prior, posterior)


def gradients(loss, *batch):
    loss.zero_grad()
    loss(*batch).backward()
    return {name: p.grad.clone() for name, p in loss.named_parameters() if p.grad is not None}


def every_code():
    """All K^N grids of codes, one-hots (K^N, N, K)."""
    return one_hot(torch.tensor(list(itertools.product(range(K), repeat=N))), K).double()


def test_the_bound_and_the_gradient_are_those_written_by_hand():
    """In float32; the encoder's by z + stop(e - z), the codes' by their loss alone."""
    program, x = made().float(), data(dtype=torch.float32)
    loss = Loss(Penalized(BiasedPathwise(), program.default_penalties), program)
    value, found = loss(x), gradients(loss, x)
    parts = program.encoder, program.codebook.codes, program.decoder
    program.zero_grad()
    z = parts[0](x)
    e = parts[1][torch.cdist(z, parts[1]).argmin(-1)]
    outputs = parts[2](z + (e - z).detach())
    bound = -binary_cross_entropy_with_logits(outputs, x, reduction="none").sum(-1) - N * math.log(K)
    squared = lambda d: d.square().sum(-1).mean()
    (-bound.mean() + 0.25 * N * squared(z - e.detach()) + squared(z.detach() - e)).backward()
    torch.testing.assert_close(value, -bound.mean(), rtol=1e-6, atol=1e-6)
    by_hand = {f"program.{name}": p.grad for name, p in program.named_parameters()}
    assert found.keys() == by_hand.keys()
    for name, slope in found.items():
        torch.testing.assert_close(slope, by_hand[name], rtol=1e-4, atol=1e-6)
        assert slope.abs().max() > 1e-4


@pytest.mark.parametrize("gradient", ["decoder", "loss", "both"])
def test_where_the_gradient_of_the_codes_comes_from(gradient):
    """The decoder's is that of the exact elbo at the code; the loss's that of the distance."""
    program, x = made(), data()
    program.codebook.gradient = gradient
    by_bound = gradients(Loss(BiasedPathwise(), program), x)
    both = gradients(Loss(Penalized(BiasedPathwise(), {"commitment": 0.25}), program), x)
    name = next(n for n in dict(Loss(BiasedPathwise(), program).named_parameters()) if n.endswith("codes"))
    assert (name in by_bound) == (gradient != "loss") and (name in both) == (gradient != "loss")
    assert ("codebook" in program.default_penalties) == (gradient != "decoder") == program.codebook.has_loss
    v = NearestCode(program.encoder(x), program.codebook.codes).sample()
    if gradient != "loss":
        log_p = program.likelihood(program.decoder(v @ program.codebook.codes)).log_prob(x)
        (expected,) = torch.autograd.grad(-log_p.mean(), program.codebook.codes)
        torch.testing.assert_close(by_bound[name], expected)


def test_only_an_objective_called_biased_follows_the_encoders_slope():
    program, x = made(), data()
    of_encoder = lambda objective: (
        gradients(Loss(objective, program), x).keys()
        & {name for name, _ in Loss(objective, program).named_parameters() if "encoder" in name}
    )
    assert of_encoder(BiasedPathwise()) and not of_encoder(Pathwise()) and not of_encoder(AnalyticKL())
    assert not of_encoder(LeaveOneOut(elbo, 2))


def test_the_bound_is_below_log_p_of_each_datum_whatever_the_number_of_particles():
    """Exact log p(x) is the sum over all grids of codes."""
    program, x = made(), data()
    outputs = program.decoder(every_code() @ program.codebook.codes)  # (K^N, D)
    by_hand = program.likelihood(outputs[:, None]).log_prob(x).logsumexp(0) - N * math.log(K)
    exact = torch.stack([-Loss(Exact(), program)(x[i : i + 1]) for i in range(B)])
    torch.testing.assert_close(exact, by_hand, rtol=1e-12, atol=1e-12)
    bounds = draw_particles(program.model, program.guide, x, num_particles=4).log_weights
    assert torch.equal(iwae(bounds), bounds[0]) and (bounds == bounds[0]).all()
    assert (bounds[0] < exact).all()
    stochastic = with_posterior(program, StochasticCodes(0.5))
    averaged = torch.stack([-Loss(LeaveOneOut(elbo, 400), stochastic)(x[i : i + 1]) for i in range(B)])
    assert (averaged < exact).all()


def test_the_stochastic_bound_tends_to_the_point_bound():
    program, x = made(), data()
    point, differences = Loss(Pathwise(), program)(x), []
    for T in (1.0, 1e-7):
        cold = with_posterior(program, StochasticCodes(T, learned=False))
        differences.append((Loss(LeaveOneOut(elbo, 200), cold)(x) - point).detach().abs())
    assert differences[0] > 1e-2 and differences[1] < 1e-6


def test_it_is_stock_pyros_bound_and_gradient():
    """Which warns of deterministic sites, penalties, in a guide: they are no latents of the model."""
    program, x = made(), data()
    with pytest.warns(UserWarning, match="Found non-auxiliary vars in guide but not model"):
        pyros = Trace_ELBO().differentiable_loss(program.model, program.guide, x)
    loss = Loss(BiasedPathwise(), program)
    torch.testing.assert_close(pyros, B * loss(x), rtol=1e-12, atol=0)
    program.zero_grad()
    (pyros / B).backward()
    theirs = {name: p.grad.clone() for name, p in loss.named_parameters() if p.grad is not None}
    ours = gradients(loss, x)
    assert ours.keys() == theirs.keys()
    for name, slope in ours.items():
        torch.testing.assert_close(slope, theirs[name])


@pytest.mark.parametrize("posterior", ["nearest", "rotation", "stochastic"])
def test_as_one_graph(posterior):
    torch.manual_seed(0)
    program, x = made(posterior=posterior), data()
    program.train()
    objective = BiasedPathwise(num_particles=2) if posterior != "stochastic" else LeaveOneOut(elbo, 2)
    penalties = program.default_penalties
    loss = Loss(Penalized(objective, penalties) if penalties else objective, program)
    graph = compiled(loss, "graph")
    for batch in (x, data()):
        torch.manual_seed(1)
        expected = gradients(loss, batch)
        torch.manual_seed(1)
        found = gradients(graph, batch)
        assert len(found) == len(expected) > 5
        for ours, eager in zip(found.values(), expected.values(), strict=True):
            torch.testing.assert_close(ours, eager)
        torch.manual_seed(1)
        value = loss(batch)
        torch.manual_seed(1)
        torch.testing.assert_close(graph(batch), value)


@pytest.mark.slow
def test_under_inductor():
    program, x = made(), data()
    loss = Loss(Penalized(BiasedPathwise(), program.default_penalties), program)
    expected = gradients(loss, x)
    graph = compiled(loss, "inductor")
    for ours, eager in zip(gradients(graph, x).values(), expected.values(), strict=True):
        torch.testing.assert_close(ours, eager, rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(graph(x), loss(x))


def test_the_gradient_does_not_depend_on_the_size_of_the_batch():
    program, x = made().float(), data(dtype=torch.float32)
    loss = Loss(Penalized(BiasedPathwise(), program.default_penalties), program)
    once = gradients(loss, x)
    for name, slope in gradients(loss, torch.cat([x, x])).items():
        torch.testing.assert_close(slope, once[name], rtol=1e-5, atol=1e-6)


def test_a_weight_of_the_commitment_moves_no_value():
    program, x = made(), data()
    values = {w: Loss(Penalized(BiasedPathwise(), {"commitment": w, "codebook": w}), program)(x) for w in (0.0, 100.0)}
    assert torch.equal(*values.values())


def test_the_rate_is_n_log_k():
    program, x = made(), data()
    drawn = draw_particles(program.model, program.guide, x, num_particles=3)
    torch.testing.assert_close(drawn.log_q, torch.zeros(3, B), rtol=0, atol=0)
    torch.testing.assert_close(drawn.log_p_sites["codes"], torch.full((3, B), -N * math.log(K)), rtol=0, atol=1e-12)


def test_penalties_are_one_value_a_datum_and_reported():
    program, x = made(), data()
    loss = Loss(Penalized(BiasedPathwise(num_particles=3), program.default_penalties), program)
    loss(x).backward()
    z = program.encoder(x)
    expected = torch.cdist(z, program.codebook.codes).amin(-1).square().mean()
    for value in loss.reported().values():
        torch.testing.assert_close(value, expected)


class OneOfTwo(nn.Module):
    """A prior with a latent of its own: which of two tables the codes are drawn from."""

    def __init__(self):
        super().__init__()
        self.tables = nn.Parameter(torch.randn(2, N, K))

    def auxiliary(self):
        return {"table": dist.Bernoulli(torch.tensor(0.5))}

    def forward(self, table):
        return dist.OneHotCategorical(logits=self.tables[table.long()]).to_event(1)


def test_a_prior_draws_what_it_needs_beside_the_codes_in_both_roles():
    program, x = made(), data()
    program.prior = OneOfTwo()
    found = draw_particles(program.model, program.guide, x, num_particles=2)
    assert torch.equal(found.log_p_sites["table"], found.log_q_sites["table"])
    assert list(found.guide_trace.nodes).index("table") < list(found.guide_trace.nodes).index("codes")
    two = [VQVAE(*_parts(program), lambda i=i: OneOf(program.prior.tables[i])) for i in (0, 1)]
    each = torch.stack([-Loss(Exact(), one)(x) for one in two])
    assert torch.isfinite(each).all()
    bound = -Loss(Exact(), program)(x[:1])
    apart = torch.stack([-Loss(Exact(), one)(x[:1]) for one in two])
    torch.testing.assert_close(bound, apart.logsumexp(0) - math.log(2))


def OneOf(logits):
    return dist.OneHotCategorical(logits=logits).to_event(1)


def _parts(program):
    return program.encoder, program.codebook, program.decoder, program.likelihood


class Labelled(nn.Module):
    """Logits of the codes for each class."""

    def __init__(self, num_classes=3):
        super().__init__()
        self.tables = nn.Parameter(torch.randn(num_classes, N, K))

    def forward(self, y):
        return OneOf(self.tables[y])


class LabelledDecoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = MLP(N * 3 + 3, D)

    def forward(self, e, y):
        flat = e.flatten(-2)
        return self.layer(torch.cat([flat, one_hot(y, 3).double().expand(*flat.shape[:-1], 3)], -1))


@pytest.mark.parametrize("taker", ["prior", "decoder"])
def test_labels_reach_the_part_that_takes_them(taker):
    program, x, y = made(), data(), torch.arange(B) % 3
    setattr(program, taker, Labelled() if taker == "prior" else LabelledDecoder())
    loss = Loss(Penalized(BiasedPathwise(num_particles=2), program.default_penalties), program)
    loss(x, y).backward()
    assert next(getattr(program, taker).parameters()).grad.abs().sum() > 0
    found = draw_particles(program.model, program.guide, x, y, num_particles=2)
    if taker == "prior":
        v = found.guide_trace.nodes["codes"]["value"][0]
        expected = (program.prior.tables.log_softmax(-1)[y] * v).sum((-1, -2))
        torch.testing.assert_close(found.log_p_sites["codes"][0], expected)
    with pytest.raises(ValueError, match="VQVAE: a part, Labelled.*, needs 1 of the data's conditions"):
        Loss(BiasedPathwise(), program)(x)
    with pytest.raises(ValueError, match="VQVAE: the data have conditions, and no part takes them"):
        Loss(BiasedPathwise(), made())(x, y)


def test_what_fit_takes_unless_told():
    program = made()
    assert program.default_objective == "biased-pathwise"
    assert program.default_penalties == {"commitment": 0.25 * N, "codebook": 1.0}
    assert made(posterior="rotation").default_objective == "biased-pathwise"
    stochastic = made(posterior="stochastic")
    assert stochastic.default_objective == "rloo" and stochastic.default_penalties == {}
    assert stochastic.codebook.gradient == "decoder"


def test_the_rotation_is_another_gradient_of_the_encoder_alone():
    torch.manual_seed(0)
    program, x = made(), data()
    turned = VQVAE(*_parts(program), program.prior, lambda z, codes: NearestCode(z, codes, rotation))
    one, two = (gradients(Loss(BiasedPathwise(), p), x) for p in (program, turned))
    for name, slope in one.items():
        assert torch.allclose(slope, two[name]) == ("encoder" not in name)


class Told(Codebook):
    calls: torch.Tensor

    def __init__(self):
        super().__init__(K, 3)
        self.register_buffer("calls", torch.zeros(()))

    def observe(self, z, index):
        assert z.shape == (B, N, 3) and index.shape == (B, N) and not z.requires_grad
        self.calls += 1


def test_the_codebook_sees_each_training_run_of_the_guide_once():
    program, x = made(), data()
    program.codebook = Told()
    loss = Loss(Penalized(BiasedPathwise(num_particles=3), program.default_penalties), program)
    loss(x)
    loss(x)
    assert program.codebook.calls == 2
    loss.eval()(x)
    with torch.no_grad():
        loss.train()(x)
    assert program.codebook.calls == 2


def test_images():
    program = vq_vae(64, channels=(4, 6), data_shape=(1, 8, 8), num_codes=4, code_size=3, data_mean=torch.rand(64))
    x = torch.bernoulli(torch.full((3, 1, 8, 8), 0.5))
    assert program.prior().event_shape == (4, 4)  # 8x8 halved twice
    found = draw_particles(program.model, program.guide, x, num_particles=2)
    assert found.log_p.shape == (2, 3)
    torch.testing.assert_close(found.log_p_sites["codes"], torch.full((2, 3), -4 * math.log(4)))
    Loss(Penalized(BiasedPathwise(), program.default_penalties), program)(x).backward()
    assert all(p.grad is not None for p in program.parameters())
    grey = vq_vae(64, channels=4, data_shape=(1, 8, 8), likelihood="discretized-logistic", levels=17)
    assert grey.prior().event_shape == (16, 16)
    draw_particles(grey.model, grey.guide, torch.randint(17, (3, 1, 8, 8)) / 16)


def test_an_annealed_posterior_cools_once_a_step():
    posterior = AnnealedCodes(1.0, 0.01, steps=4)
    program = with_posterior(made(), posterior)
    temperatures = []
    for _ in range(6):
        temperatures.append(float(posterior.temperature))
        Loss(LeaveOneOut(elbo, 2), program)(data()).backward()
        posterior.after_step(lambda rows: rows)
    torch.testing.assert_close(torch.tensor(temperatures[:5]).log10(), torch.tensor([0.0, -0.5, -1.0, -1.5, -2.0]))
    assert temperatures[5] == temperatures[4]


@pytest.mark.parametrize(
    "options, fault",
    [
        ({"num_codes": 1}, "num_codes must be an integer of at least 2, got 1"),
        ({"code_size": 0}, "code_size must be an integer of at least 1, got 0"),
        ({"grid": (0, 2)}, r"grid must name height and width of the grid of codes, .* got \(0, 2\)"),
        ({"grid": 2}, "grid .* such as 2,2, got 2"),
        ({"grid": (2, 2, 2)}, r"grid .* such as 2,2, got \(2, 2, 2\)"),
        ({"posterior": "gumbel"}, "posterior must be 'nearest' or 'rotation' or 'stochastic', got 'gumbel'"),
        ({"posterior": "stochastic", "temperature": 0.0}, "temperature must be a number above 0, got 0.0"),
        ({"prior": "normal"}, "prior must be .*'uniform'.*, got 'normal'"),
        ({"likelihood": "poisson"}, "likelihood must be"),
        ({"activation": "relu"}, "activation must be"),
        ({"hidden_sizes": (0,)}, "hidden_sizes must name"),
        ({"channels": (4,)}, "channels are of convolutions, and the data are no images"),
        ({"channels": (4, 4, 4, 4), "data_shape": (1, 8, 8)}, "can be halved 3 times"),
        (
            {"channels": (4, 4), "data_shape": (1, 8, 8), "grid": (4, 4)},
            "images of 8x8 halved 2 times, .* have a grid of 2x2, and grid is 4x4",
        ),
    ],
)
def test_bad_input_is_told_before_training(options, fault):
    with pytest.raises(ValueError, match=fault):
        vq_vae(**{"data_size": 64, "hidden_sizes": (5,)} | options)


def test_parts_that_do_not_fit():
    program, x = made(), data()
    with pytest.raises(TypeError, match="VQVAE: decoder must be a module or a function"):
        VQVAE(program.encoder, program.codebook, None, bernoulli, program.prior)
    other = VQVAE(*_parts(program), UniformCodePrior(K, (1, 3)))
    with pytest.raises(
        Exception, match=r"site 'codes' has event shape \(2, 4\) in the guide and \(3, 4\) in the model"
    ):
        draw_particles(other.model, other.guide, x)
    with pytest.raises(ValueError, match=r"VQVAE: the likelihood is one of data of shape \(6,\)"):
        program.model(torch.zeros(3, 7))


def test_where_codes_start():
    """At data where the nearest is taken; apart from each other where a temperature must tell them from each other."""
    x = (torch.rand(60, 16) > 0.5).to(torch.get_default_dtype())
    preset = partial(vq_vae, 16, hidden_sizes=(12,), code_size=3, num_codes=6, data_examples=x)
    for posterior in ("nearest", "rotation"):
        program = preset(posterior=posterior)
        assert torch.cdist(program.codebook.codes, program.encoder(x).reshape(-1, 3)).min(-1).values.max() < 1e-6
    program = preset(posterior="stochastic")
    assert torch.pdist(program.codebook.codes).mean() > 1
    told = preset(posterior="stochastic", initial_codes="data")
    assert torch.cdist(told.codebook.codes, told.encoder(x).reshape(-1, 3)).min(-1).values.max() < 1e-6


def test_an_order_that_both_roles_draw_alike_has_no_figure_of_its_own():
    x = (torch.rand(8, 16) > 0.5).to(torch.get_default_dtype())
    program = vq_vae(16, hidden_sizes=(12,), code_size=3, num_codes=3, prior="absorbing-exact")
    names = [figure.name for figure in rate_distortion(program, x, num_particles=2).figures]
    assert "rate" in names and not any("order" in name for name in names)
    found = active_units(program, x, num_particles=2)
    assert found.first.keys() == {"codes"}
    assert [figure.name for figure in found.figures] == ["active units of codes"]


def test_a_posterior_that_is_a_module_has_a_proposal_too():
    class Nearest(nn.Module):
        def forward(self, z, codes):
            return NearestCode(z, codes)

    named = made()
    parts = named.encoder, named.codebook, named.decoder, named.likelihood, named.prior
    program = VQVAE(*parts, Nearest())
    other = program.proposal(0.5)
    drawn = draw_particles(other.model, other.guide, data(), num_particles=3)
    assert drawn.log_weights.shape == (3, B)
    assert isinstance(program.posterior, Nearest) and not isinstance(other.posterior, Nearest)
