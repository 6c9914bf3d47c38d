"""SQ-VAE: a bound on log p(x) of the same codes, tight in its limit, with closed divergences where they are legal."""

import math

import pytest
import torch
from torch import nn

from pplvm.bounds import iwae
from pplvm.graphs.compiled import compiled
from pplvm.networks.codebook import Codebook
from pplvm.objectives.exact import Exact
from pplvm.objectives.objective import Loss
from pplvm.objectives.pathwise import closed_forms
from pplvm.objectives.score_function import LeaveOneOut
from pplvm.particles.draw import draw_particles
from pplvm.particles.pair import draw_from_pair, pair_up
from pplvm.programs.code_priors import UniformCodePrior
from pplvm.programs.parts import bernoulli, gaussian
from pplvm.programs.sq_vae import SQVAE, sq_vae
from pplvm.programs.vq_vae import VQVAE

B, D, N, K = 4, 6, 2, 3


def made(**options):
    return sq_vae(D, grid=(1, N), num_codes=K, code_size=2, hidden_sizes=(5,), **options)


def data():
    return torch.bernoulli(torch.full((B, D), 0.5))


def exact(program, x):
    """Log p(x) of each datum, of the codes alone: the noisy vectors integrate out."""
    parts = program.encoder, program.codebook, program.decoder, program.likelihood, program.prior
    return torch.stack([-Loss(Exact(), VQVAE(*parts))(x[i : i + 1]) for i in range(len(x))]).detach()


def test_its_bound_is_one_of_log_p():
    """With more particles it comes as near as draws tell: all that the guide draws is in the weights."""
    torch.manual_seed(3)
    program, x = made(), data()
    with torch.no_grad():
        log_w = draw_particles(program.model, program.guide, x, num_particles=40_000).log_weights
    truth = exact(program, x)
    scaled = (log_w - truth).exp()
    assert (log_w.mean(0) < truth).all()
    assert ((scaled.mean(0) - 1).abs() < 4 * scaled.std(0) / 200).all()
    assert (iwae(log_w) - truth).abs().max() < 0.2 < (log_w.mean(0) - truth).abs().max()


def test_without_the_entropy_of_the_codes_or_log_k_it_is_none():
    """What the official code leaves out: sum_n log K. The same figure would exceed log p(x)."""
    program, x = made(), data()
    with torch.no_grad():
        log_w = draw_particles(program.model, program.guide, x, num_particles=4000).log_weights
    assert (log_w.mean(0) + N * math.log(K) > exact(program, x)).any()


class Linear(nn.Module):
    """Of data that name their codes: x (B, N K) one-hots, which an encoder maps to their vectors."""

    def __init__(self, codebook):
        super().__init__()
        self.codebook = codebook

    def forward(self, x):
        return x.unflatten(-1, (N, K)) @ self.codebook.codes.detach()


def test_it_is_tight_where_data_tell_their_codes_and_the_variance_is_small():
    """x is normal around one-hots, a linear map of the vectors: three codes in general position are a basis."""
    codebook = Codebook(K, K, "decoder")
    with torch.no_grad():
        codebook.codes.copy_(torch.linalg.qr(torch.randn(K, K)).Q)
    decoder = lambda e: (e @ torch.linalg.inv(codebook.codes)).flatten(-2)
    likelihood = lambda mean: gaussian(mean, torch.tensor(math.log(0.05)))
    x = torch.eye(K)[torch.randint(K, (B, N))].flatten(1)
    gaps = []
    for variance in (1.0, 0.01):
        program = SQVAE(Linear(codebook), codebook, decoder, likelihood, UniformCodePrior(K, (1, N)), variance)
        with torch.no_grad():
            bound = draw_particles(program.model, program.guide, x, num_particles=50).log_weights
        gaps.append((exact(program, x) - bound.mean(0)).abs().max())
    assert gaps[0] > 1.0 and gaps[1] < 1e-9


def test_the_codes_divergence_is_closed_and_that_of_the_vectors_is_drawn():
    """The prior of the noisy vectors hangs on codes that the guide draws later."""
    program, x = made(), data()
    drawn = draw_from_pair(pair_up(program.model, program.guide, (x,), {}), 3, (x,), {})
    closed = closed_forms(drawn)
    assert list(closed) == ["codes"]
    q = drawn.guide_trace.nodes["codes"]["fn"].base_dist
    expected = N * math.log(K) + (q.probs * q.logits).sum((-1, -2))
    torch.testing.assert_close(closed["codes"], expected)


def test_as_one_graph():
    program, x = made(), data()
    loss = Loss(LeaveOneOut(num_particles=3), program)
    graph, found = compiled(loss, "graph"), []
    for each in (loss, graph):
        for batch in (x, x.flip(0)):
            loss.zero_grad()
            torch.manual_seed(0)
            each(batch).backward()
        found.append([p.grad.clone() for p in loss.parameters()])
    for eager, ours in zip(*found, strict=True):
        torch.testing.assert_close(ours, eager)
        assert eager.abs().max() > 0


def test_the_variance_is_one_of_both_roles():
    program, x = made(variance=0.3), data()
    drawn = draw_particles(program.model, program.guide, x, num_particles=2)
    p, q = drawn.model_trace.nodes["vectors"]["fn"], drawn.guide_trace.nodes["vectors"]["fn"]
    torch.testing.assert_close(p.base_dist.variance, torch.full_like(p.base_dist.loc, 0.3))
    torch.testing.assert_close(q.base_dist.variance, torch.full_like(q.base_dist.loc, 0.3))
    assert program.default_objective == "rloo" and not hasattr(program, "default_penalties")


@pytest.mark.parametrize("variance", [0.0, -1.0, True, math.inf])
def test_a_variance_is_above_zero(variance):
    with pytest.raises(ValueError, match="SQVAE: variance must be a number above 0"):
        made(variance=variance)


def test_bad_input():
    with pytest.raises(ValueError, match="num_codes must be an integer of at least 2"):
        sq_vae(D, num_codes=1)
    with pytest.raises(TypeError, match="SQVAE: prior must be a module or a function"):
        SQVAE(nn.Identity(), Codebook(3, 2, "decoder"), nn.Identity(), bernoulli, None)
    with pytest.raises(ValueError, match="SQVAE: the data have conditions, and no part takes them"):
        made().model(data(), torch.arange(B))


def test_images():
    program = sq_vae(64, channels=(4, 6), data_shape=(1, 8, 8), num_codes=4, code_size=3)
    x = torch.bernoulli(torch.full((3, 1, 8, 8), 0.5))
    Loss(LeaveOneOut(num_particles=2), program)(x).backward()
    assert program.prior().event_shape == (4, 4) and all(p.grad is not None for p in program.parameters())
