"""VQ-VAE-2 against brute force over all codes; which level depends on which; bits of both; bad arguments."""

import math

import pyro
import pytest
import torch
from pyro import poutine
from scipy.stats import chisquare

from pplvm.commands.building.parameter_limits import limit_parameters_to
from pplvm.evaluation.evidence import log_evidence
from pplvm.evaluation.rate_distortion import rate_distortion
from pplvm.evaluation.samples import prior_samples
from pplvm.graphs.compiled import compiled
from pplvm.objectives.biased import BiasedPathwise
from pplvm.objectives.exact import Exact
from pplvm.objectives.objective import Loss
from pplvm.objectives.penalized import Penalized
from pplvm.objectives.presets import rloo
from pplvm.particles.draw import draw_particles
from pplvm.programs.vq_vae_2 import VQVAE2, vq_vae_2
from tests.programs.continuous import scattered

SHAPE, K, B = (1, 4, 4), 3, 4
TINY = {"data_shape": SHAPE, "grid": (2, 2), "top_grid": (1, 1), "num_codes": K, "code_size": 2, "channels": 4}
PRIOR = {"prior_width": 4, "prior_layers": 2}
PRIORS = ["pixelcnn", "transformer"]


def tiny(prior="pixelcnn", num_classes=None, **settings):
    """Of 3^5 states, off its start, where priors are uniform."""
    torch.manual_seed(0)
    return scattered(vq_vae_2(**TINY | PRIOR | settings, prior=prior, num_classes=num_classes)).eval()


def data(count=B):
    return torch.bernoulli(torch.full((count, *SHAPE), 0.5, dtype=torch.float64))


def all_codes():
    """Each top code with each map of bottom codes: (243, 1, 3) and (243, 4, 3)."""
    index = torch.cartesian_prod(*[torch.arange(K)] * 5)
    states = torch.eye(K, dtype=torch.float64)[index]
    return states[:, :1], states[:, 1:]


def log_prior(program, top, bottom, *y):
    """log p(top), log p(bottom | top), of codes (S, N, K), given labels (S,)."""
    return program.prior.top(*y).log_prob(top), program.prior.bottom(top, *y).log_prob(bottom)


@pytest.mark.parametrize("prior", PRIORS)
def test_the_prior_of_each_class_sums_to_one(prior):
    program, (top, bottom) = tiny(prior, num_classes=3), all_codes()
    each = []
    for y in range(3):
        labels = torch.full((len(top),), y)
        of_top, of_bottom = log_prior(program, top, bottom, labels)
        sums = (of_top + of_bottom).logsumexp(0, keepdim=True), of_bottom.reshape(K, -1).logsumexp(1)
        torch.testing.assert_close(torch.cat(sums), torch.zeros(1 + K), atol=1e-6, rtol=0)
        each.append(of_top + of_bottom)
    assert not torch.allclose(each[0], each[1])


@pytest.mark.parametrize("prior", ["uniform", *PRIORS])
@pytest.mark.parametrize("classes", [None, 3])
def test_exact_log_p_is_brute_force(prior, classes):
    if prior == "uniform" and classes:
        pytest.skip("a uniform prior takes no labels")
    program, x, (top, bottom) = tiny(prior, classes), data(), all_codes()
    y = () if classes is None else (torch.arange(B) % classes,)
    e_top, e_bottom = program.top_codebook.embed(top), program.bottom_codebook.embed(bottom)
    p_x = program.likelihood(program.decoder(e_top, e_bottom).unsqueeze(1))  # (243, 1)
    log_px = p_x.log_prob(x.flatten(1))  # (243, B)
    of_classes = [torch.full((len(top),), int(label)) for label in y[0]] if y else None
    each = [log_prior(program, top, bottom, *([] if of_classes is None else [of_classes[b]])) for b in range(B)]
    joint = torch.stack([of_top + of_bottom for of_top, of_bottom in each], 1) + log_px
    brute = joint.logsumexp(0)
    batch = (x, *y) if y else x
    torch.testing.assert_close(log_evidence(program, batch).log_p, brute, atol=1e-9, rtol=0)
    torch.testing.assert_close(-Loss(Exact(), program)(x, *y), brute.mean(), atol=1e-9, rtol=0)
    bound = draw_particles(program.model, program.guide, x, *y, num_particles=1).log_weights[0]
    assert (bound < brute).all()  # at the nearest codes, one state of all


def sites(program, *batch, **held):
    """Log-probabilities of the model's codes at given codes."""
    trace = poutine.trace(pyro.condition(program.model, held)).get_trace(*batch)
    trace.compute_log_prob()
    return {name: trace.nodes[name]["log_prob"] for name in ("top", "bottom")}


@pytest.mark.parametrize("prior", PRIORS)
def test_bottom_depends_on_top_and_not_conversely(prior):
    program, x, (top, bottom) = tiny(prior), data(), all_codes()
    first, second = top[:B], top[-B:]
    low, high = bottom[:B], bottom[-B:]
    base = sites(program, x, top=first, bottom=low)
    other_bottom, other_top = sites(program, x, top=first, bottom=high), sites(program, x, top=second, bottom=low)
    assert torch.equal(base["top"], other_bottom["top"])
    assert (base["bottom"] - other_top["bottom"]).abs().min() > 1e-3
    codes = first.clone().requires_grad_(), low.clone().requires_grad_()
    p_bottom = program.prior.bottom(codes[0])
    slope = torch.autograd.grad(p_bottom.logits(codes[1]).square().sum(), codes)
    assert all(each.abs().sum() > 0 for each in slope)
    of_top = program.prior.top().logits(codes[0]).square().sum()  # of one position, which no code precedes
    assert not any(each is not None and each.any() for each in torch.autograd.grad(of_top, codes, allow_unused=True))
    alone = tiny("uniform")  # which must fail the same test
    assert torch.equal(*(sites(alone, x, top=each, bottom=low)["bottom"] for each in (first, second)))


def test_the_guide_reads_the_coarse_code_before_it_picks_finer_ones():
    program, x = tiny(), data()
    found = []
    for code in (0, 1):
        held = torch.eye(K, dtype=torch.float64)[code].expand(B, 1, K)
        trace = poutine.trace(pyro.condition(program.guide, {"top": held})).get_trace(x)
        found.append(trace.nodes["bottom"]["fn"].base_dist.z)
    assert not torch.allclose(*found)
    trace = poutine.trace(program.guide).get_trace(x)
    assert list(name for name in trace.nodes if name in ("top", "bottom")) == ["top", "bottom"]
    assert torch.equal(trace.nodes["top"]["fn"].base_dist.z, program.encoder(x)[1])


def test_bits_of_both_levels_apart():
    program = tiny("uniform")
    found = rate_distortion(program, data(), compile="off").rate_sites
    torch.testing.assert_close(found["top"], torch.full((B,), math.log(K)).double())
    torch.testing.assert_close(found["bottom"], torch.full((B,), 4 * math.log(K)).double())
    learned = tiny("pixelcnn")
    of_codes = rate_distortion(learned, x := data(), compile="off").rate_sites
    drawn = draw_particles(learned.model, learned.guide, x, num_particles=1).log_p_sites
    for level in ("top", "bottom"):
        torch.testing.assert_close(of_codes[level], -drawn[level][0], atol=1e-9, rtol=0)


def test_penalties_are_those_of_both_levels_and_learn_what_they_should():
    program, x = tiny("uniform").train(), data()
    trace = poutine.trace(program.guide).get_trace(x)
    features, z_top = program.encoder(x)
    e_top = program.top_codebook.codes[(z_top[..., None, :] - program.top_codebook.codes).square().sum(-1).argmin(-1)]
    z_bottom = program.refinement(features, e_top)
    of_bottom = program.bottom_codebook.codes
    e_bottom = of_bottom[(z_bottom[..., None, :] - of_bottom).square().sum(-1).argmin(-1)]
    by_hand = (z_top - e_top).square().sum((1, 2)) + (z_bottom - e_bottom).square().sum((1, 2))
    for name in ("commitment", "codebook"):
        torch.testing.assert_close(trace.nodes[name]["value"], by_hand)
    assert program.default_penalties == {"commitment": 0.25, "codebook": 1.0}
    assert program.default_objective == "biased-pathwise"
    values = {}
    for weight in (0.0, 100.0):
        program.zero_grad()
        loss = Loss(Penalized(BiasedPathwise(), {"commitment": weight, "codebook": weight}), program)
        (value := loss(x)).backward()
        values[weight] = float(value.detach())
        learns = {name for name, p in program.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
        assert ("top_codebook.codes" in learns) == ("bottom_codebook.codes" in learns) == (weight > 0)
    assert values[0.0] == values[100.0]


@pytest.mark.parametrize("prior", PRIORS)
@pytest.mark.parametrize("tier", ["graph", pytest.param("inductor", marks=pytest.mark.slow)])
def test_one_graph_gives_the_eager_values(prior, tier):
    found = []
    for each in ("off", tier):
        program, y = tiny(prior, num_classes=3).train(), torch.arange(B) % 3
        step = compiled(Loss(Penalized(BiasedPathwise(), program.default_penalties), program), each)
        torch.manual_seed(1)
        value = step(data(), y)
        value.backward()
        found.append([value.detach(), *(p.grad for p in program.parameters())])
    for eager, graph in zip(*found, strict=True):
        torch.testing.assert_close(eager, graph, atol=1e-10, rtol=1e-10)


def test_a_stochastic_posterior_takes_particles_and_score_functions():
    program, x = tiny("uniform", posterior="stochastic", temperature=5.0), data(2)
    assert program.default_objective == "rloo" and program.default_penalties == {}
    exact = log_evidence(program, x).log_p
    drawn = draw_particles(program.model, program.guide, x, num_particles=4000)
    assert drawn.log_weights.shape == (4000, 2)
    weights = (drawn.log_weights - exact).exp().detach()
    assert ((weights.mean(0) - 1) / (weights.std(0) / 4000**0.5)).abs().max() < 4.5
    Loss(rloo(num_particles=4), program)(x).backward()
    assert program.top_codebook.codes.grad.abs().sum() > 0


@torch.no_grad()
@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_samples_have_the_priors_codes_at_a_temperature(temperature):
    program, (top, bottom), count = tiny(num_classes=2), all_codes(), 1200
    drawn = {}

    def remember(msg):
        if msg["name"] in ("top", "bottom") and len(msg["value"].reshape(-1, K)) >= count:
            drawn[msg["name"]] = msg["value"].reshape(count, -1, K)

    labels = torch.ones(count, dtype=torch.long)
    with _After(remember):
        prior_samples(program, (data(1).expand(count, *SHAPE), labels), count, temperature=temperature)
    codes = torch.cat([drawn["top"], drawn["bottom"]], 1).argmax(-1)
    number = (codes * K ** torch.arange(4, -1, -1)).sum(1)
    levels = program.prior.top(labels[: len(top)]), program.prior.bottom(top, labels[: len(top)])
    cooled = [each.at_temperature(temperature) for each in levels]
    expected = count * (cooled[0].log_prob(top) + cooled[1].log_prob(bottom)).exp()
    observed = torch.bincount(number, minlength=len(top)).double()
    assert p_value(observed, expected) > 1e-3
    other = [each.at_temperature(0.7) for each in levels]
    assert p_value(observed, count * (other[0].log_prob(top) + other[1].log_prob(bottom)).exp()) < 1e-6


def p_value(observed, expected):
    """By chi-square, of states that are expected more than five times, and all others together."""
    often = expected > 5
    observed, expected = (torch.cat([each[often], each[~often].sum()[None]]) for each in (observed, expected))
    assert often.sum() > 10
    return chisquare(observed, expected / expected.sum() * observed.sum()).pvalue


class _After(poutine.messenger.Messenger):
    """Calls a function after each sample statement."""

    def __init__(self, called):
        super().__init__()
        self.called = called

    def _pyro_post_sample(self, msg):
        self.called(msg)


def test_colours_have_their_own_likelihood_and_start_at_the_mean():
    mean = torch.linspace(0.2, 0.8, 3 * 16)
    program = vq_vae_2(
        (3, 4, 4), grid=(2, 2), channels=4, likelihood="discretized-logistic", levels=256, data_mean=mean
    )
    last = program.decoder.both.layers[-1].layer
    torch.nn.init.zeros_(last.weight), torch.nn.init.zeros_(last.bias)
    e = torch.zeros(1, 1, 8), torch.zeros(1, 4, 8)
    p_x = program.likelihood(program.decoder(*e))
    assert p_x.event_shape == (3, 4, 4)
    draws = p_x.sample((4000,)).mean((0, 1)).flatten()
    assert (draws - mean).abs().max() < 0.06  # of a wide mixture that ends at 0 and 1
    x = torch.randint(256, (2, 3, 4, 4)) / 255
    assert Loss(BiasedPathwise(), program)(x).isfinite()


def test_labels_that_are_missing_or_not_taken_are_told():
    with pytest.raises(ValueError, match=r"VQVAE2: a part, .*, needs 1 of the data's conditions, and there are none"):
        tiny(num_classes=3).model(data())
    with pytest.raises(ValueError, match="VQVAE2: the data have conditions, and no part takes them"):
        tiny().model(data(), torch.zeros(B).long())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"num_codes": 1}, "num_codes must be an integer of at least 2, got 1"),
        ({"code_size": 0}, "code_size must be an integer of at least 1, got 0"),
        ({"grid": (3, 3)}, "grid: an image of 4x4 is halved to one of the grids 2x2, 1x1, and 3x3 is not among them"),
        ({"top_grid": (2, 2)}, "top_grid: the grid of 2x2 is halved to one of the grids 1x1, and 2x2 is not"),
        ({"grid": 2}, "grid is .height, width. of the codes, such as 2,2, got 2"),
        (
            {"prior": "uniform", "num_classes": 3},
            "takes no labels: leave them out, or let prior be 'pixelcnn' or 'transformer'$",
        ),
        ({"grid": (2,)}, "grid is .height, width. of the codes, such as 2,2, got"),
        ({"data_shape": (16,)}, "data_shape must be that of images"),
        ({"channels": 0}, "channels must be an integer of at least 1, got 0"),
        ({"prior": "absorbing"}, "prior must be 'uniform' or 'pixelcnn' or 'transformer', got 'absorbing'"),
        ({"posterior": "soft"}, "posterior must be"),
        ({"likelihood": "poisson"}, "likelihood must be"),
        ({"likelihood": "discretized-logistic"}, "levels is not known"),
        ({"data_mean": torch.zeros(5)}, "data_mean has 5 values, and an image of 1x4x4 has 16"),
    ],
)
def test_bad_arguments_are_told_before_training(arguments, words):
    with pytest.raises(ValueError, match=words):
        vq_vae_2(**TINY | arguments)


@pytest.mark.parametrize("prior", ["uniform", *PRIORS])
def test_no_more_parameters_are_made_than_it_has(prior):
    """A run's program is not built where its settings ask for more than its weights hold."""
    weights = tiny(prior).state_dict()
    with torch.device("meta"), limit_parameters_to(weights):
        vq_vae_2(**TINY | PRIOR, prior=prior)


def test_parts_are_callable():
    program = tiny()
    parts = {name: getattr(program, name) for name in ("encoder", "refinement", "decoder", "likelihood", "prior")}
    parts |= {"top_codebook": program.top_codebook, "bottom_codebook": program.bottom_codebook}
    with pytest.raises(TypeError, match="refinement must be a module or a function"):
        VQVAE2(**parts | {"refinement": 3})
    with pytest.raises(TypeError, match="prior must have parts top and bottom"):
        VQVAE2(**parts | {"prior": program.prior.top})
