"""Codebooks: the moving average as a preconditioned gradient, restarts, counts, and what leaves no trace."""

import copy
import math

import pytest
import torch
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from pplvm.graphs.compiled import compiled
from pplvm.networks.codebook import Codebook, MovingAverageCodebook
from pplvm.networks.counted_codes import _spread
from pplvm.particles.side_effects import buffers_restored
from pplvm.training.fit import fit
from pplvm.training.stepper import Stepper

KINDS = [Codebook, MovingAverageCodebook]


def alone(rows):
    return rows


def nearest(z, codes):
    return torch.cdist(z, codes).argmin(-1)


class Quantized(torch.nn.Module):
    """An encoder whose output is quantized straight through and decoded: the least that trains with a codebook."""

    def __init__(self, codebook):
        super().__init__()
        self.codebook = codebook
        self.encoder, self.decoder = torch.nn.Linear(3, codebook.code_size), torch.nn.Linear(codebook.code_size, 3)

    def forward(self, x):
        z, codes = self.encoder(x), self.codebook.codes
        index = nearest(z.detach(), codes.detach())
        self.codebook.observe(z, index)
        e = codes[index]
        commitment, loss = (z - e.detach()).square().sum(-1), (z.detach() - e).square().sum(-1)
        x_hat = self.decoder(e.detach() + (z - z.detach()))
        return ((x_hat - x).square().sum(-1) + 0.25 * commitment + loss).mean()


def test_a_moving_average_is_a_preconditioned_gradient_step_on_the_codebook_loss():
    """e' = e - ((1-g) / N') (n e - sum z), N' = g N + (1-g) n; over three steps, and a code without use stays."""
    codebook, g = MovingAverageCodebook(6, 2, decay=0.9), 0.9
    e, N = codebook.codes.clone(), torch.full((6,), 1 / 6)
    unused = torch.tensor([50.0, 50.0])
    codebook.place(unused.expand(6, 2), torch.arange(6) == 2)
    e[2] = unused
    for _ in range(3):
        z = torch.randn(40, 2)
        index = nearest(z, codebook.codes)
        codes = codebook.codes.clone().requires_grad_()
        ((z - codes[index]).square().sum(-1).mean() / 2).backward()  # slope (n e - sum z) / 40
        codebook.observe(z, index)
        assert torch.equal(codebook.codes, codes)  # quantized first, updated after the step
        codebook.after_step(alone)
        N = g * N + (1 - g) * torch.bincount(index, minlength=6) / 40
        e = e - (1 - g) / N[:, None] * codes.grad
        assert (codebook.codes - e).abs().max() < 1e-12
        assert (codebook.codes[2] - unused).abs().max() < 1e-12


def test_counts_that_start_at_nought_would_throw_codes_about():
    """The mutant, as in ports without Sonnet's debiasing: one step sends the unused codes far away."""
    right, wrong = MovingAverageCodebook(64, 4), MovingAverageCodebook(64, 4)
    wrong.load_state_dict(right.state_dict())
    wrong.shares.fill_(1e-5)  # of sums that stand for 1 / K
    z = torch.randn(16, 4)
    for codebook in (right, wrong):
        codebook.observe(z, nearest(z, right.codes))
        codebook.after_step(alone)
    assert right.codes.norm(dim=-1).max() < 6 < 100 < wrong.codes.norm(dim=-1).max()


def test_a_code_without_use_for_very_long_stays_where_it_is_in_single_precision():
    codebook = MovingAverageCodebook(4, 2, decay=0.9).float()
    codebook.place(torch.tensor([[0.0, 0.0], [1.0, 1.0], [7.0, -3.0], [5.0, 5.0]]))
    z = torch.randn(8, 2, dtype=torch.float32) / 10
    for _ in range(3000):
        codebook.observe(z, torch.zeros(8, dtype=torch.long))
        codebook.after_step(alone)
    assert (codebook.codes[2] - torch.tensor([7.0, -3.0])).abs().max() < 1e-4
    assert codebook.shares.min() > 1e-7  # it is 0 without the floor, and the code nan
    assert (codebook.codes[0] - z.mean(0)).abs().max() < 1e-6


@pytest.mark.parametrize("kind", KINDS)
def test_a_dead_code_restarts_at_an_encoder_output_and_stays_there_without_hits(kind):
    codebook = kind(8, 2, restart_below=0.1, decay=0.5)
    codebook.place(torch.cat([torch.zeros(1, 2), 100 + torch.rand(7, 2)]))
    z = torch.randn(32, 2)
    moved = []
    for _ in range(6):
        before = codebook.codes.detach().clone()
        codebook.observe(z, torch.zeros(32, dtype=torch.long))
        codebook.after_step(alone)
        moved.append((codebook.codes - before).norm(dim=-1)[1:] > 1e-9)
    assert [bool(each.any()) for each in moved] == [False, False, False, True, False, False]  # .5^4 < .1
    assert moved[3].all()
    restarted = codebook.codes[1:].detach()
    assert torch.cdist(restarted, z).min(-1).values.max() < 1e-12
    assert len(torch.unique(restarted.round(decimals=9), dim=0)) == 7  # each at a row of its own
    assert torch.allclose(codebook.shares[1:], torch.full((7,), 1 / 8 * 0.25))  # reset, and two steps since


def test_a_restart_of_the_code_alone_would_be_undone_at_once():
    """The mutant: sums and shares stay those of the old place."""
    codebook = MovingAverageCodebook(2, 1, restart_below=0.9, decay=0.9)
    codebook.place(torch.tensor([[0.0], [100.0]]))
    codebook.shares[1], codebook.sums[1] = 1e-4, 1e-2
    z, first = torch.randn(8, 1), torch.zeros(8, dtype=torch.long)
    codebook.observe(z, first)
    codebook.after_step(alone)
    place = codebook.codes[1].clone()
    assert (z - place).abs().min() < 1e-12
    codebook.restart_below, mutant = 0.0, copy.deepcopy(codebook)
    mutant.shares[1] = 1e-4  # as if only the ratio had been set
    for each in (codebook, mutant):
        each.observe(z, first)
        each.after_step(alone)
    assert (codebook.codes[1] - place).abs().max() < 1e-12 < 1 < (mutant.codes[1] - place).abs().max()


def test_ranks_agree_on_a_restart_and_each_may_give_a_row():
    """Two ranks with rows of their own, and one process with all of them, place the codes alike."""
    whole = Codebook(4, 2, restart_below=0.5, decay=0.0)
    halves = [copy.deepcopy(whole) for _ in range(2)]
    z, index = torch.randn(2, 4, 2), torch.zeros(4, dtype=torch.long)
    chosen = set()
    for _ in range(8):
        for own, each in zip(z, halves, strict=True):
            each.observe(own, index)
        rows = torch.cat([each.rows for each in halves])
        for each in halves:
            each.after_step(lambda _, rows=rows: rows)
        assert torch.equal(halves[0].codes, halves[1].codes)
        found = torch.cdist(halves[0].codes[1:].detach(), z.flatten(0, 1))
        assert found.min(-1).values.max() == 0
        chosen |= set(found.argmin(-1).tolist())
    assert {0, 1, 2, 3} & chosen and {4, 5, 6, 7} & chosen


@pytest.mark.parametrize("n", [1, 2, 5, 16, 64, 97, 1000])
def test_rows_that_may_become_codes_are_spread_over_the_batch(n):
    places = _spread(n, 512, torch.device("cpu"))
    assert len(set(places[:n].tolist())) == min(n, 512) and int(places.max()) < n
    if n == 64:  # of 4 positions, 16 codes get all of them
        assert sorted(set((_spread(64, 16, torch.device("cpu")) % 4).tolist())) == [0, 1, 2, 3]


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_undone_or_is_no_training_leaves_no_trace(kind):
    codebook = kind(5, 2, restart_below=0.1)
    z = torch.randn(7, 2)
    index = nearest(z, codebook.codes.detach())
    before = {name: value.clone() for name, value in {**dict(codebook.named_buffers())}.items()}

    def unchanged():
        return all(torch.equal(value, before[name]) for name, value in codebook.named_buffers())

    with torch.no_grad():
        codebook.observe(z, index)
    with buffers_restored(codebook):  # a further run within one step
        codebook.observe(z, index)
    codebook.eval()
    codebook.observe(z, index)
    codebook.after_step(alone)  # frozen
    assert unchanged()
    codebook.train()
    codebook.observe(z, index)
    assert not unchanged()


@pytest.mark.parametrize("kind", KINDS)
def test_a_step_that_does_not_run_the_codebook_moves_no_average(kind):
    codebook = kind(5, 2, restart_below=1e-9)
    codebook.observe(torch.randn(7, 2), torch.zeros(7, dtype=torch.long))
    codebook.after_step(alone)
    shares, codes = codebook.shares.clone(), codebook.codes.detach().clone()
    codebook.after_step(alone)
    assert torch.equal(codebook.shares, shares) and torch.equal(codebook.codes, codes)


@pytest.mark.parametrize("kind", KINDS)
def test_several_batches_of_one_step_count_as_their_mean(kind):
    """As in accumulated gradients: 1 batch of both, or 2 of each."""
    one, two = kind(5, 2, restart_below=1e-9), None
    two = copy.deepcopy(one)
    z = torch.randn(8, 2)
    index = nearest(z, one.codes.detach())
    one.observe(z, index)
    for half in (slice(4), slice(4, 8)):
        two.observe(z[half], index[half])
    for each in (one, two):
        each.after_step(alone)
    assert torch.allclose(one.shares, two.shares, atol=1e-15) and torch.allclose(one.codes, two.codes, atol=1e-14)


def test_usage_is_that_of_all_batches_since_the_epoch_began():
    codebook = Codebook(4, 1)
    assert codebook.usage().tolist() == [0.0] * 4
    for k in range(2):  # each batch uses one code, the epoch two
        codebook.observe(torch.zeros(6, 1), torch.full((6,), k))
    assert torch.allclose(codebook.usage(), torch.tensor([0.5, 0.5, 0.0, 0.0]))
    codebook.start_epoch()
    assert codebook.usage().tolist() == [0.0] * 4


@pytest.mark.parametrize("kind", KINDS)
def test_one_graph_counts_as_the_eager_loss_does(kind):
    torch.manual_seed(3)
    eager = Quantized(kind(6, 2, restart_below=0.3, decay=0.5))
    graph = copy.deepcopy(eager)
    batches = torch.randn(12, 16, 3).unbind()
    for loss, tier in ((eager, "off"), (graph, "graph")):
        fit(loss, batches, torch.optim.Adam(loss.parameters(), lr=0.1), compile=tier).run()
    for (name, a), b in zip(eager.state_dict().items(), graph.state_dict().values(), strict=True):
        assert torch.allclose(a, b, atol=1e-9), name
    assert eager.codebook.steps == 12
    step = compiled(graph, "graph")
    step(batches[0]).backward()
    assert step.tier_now == "graph"


@pytest.mark.parametrize("kind", KINDS)
def test_training_goes_on_bit_identically_from_its_state(kind):
    torch.manual_seed(3)
    first = Quantized(kind(6, 2, restart_below=0.3, decay=0.5))
    second = copy.deepcopy(first)
    batches = torch.randn(12, 16, 3).unbind()
    steppers = [Stepper(each, torch.optim.Adam(each.parameters(), lr=0.1)) for each in (first, second)]

    def go(stepper, batches):
        for x in batches:
            stepper(x)
            stepper.end_step()

    go(steppers[0], batches[:7])
    state = copy.deepcopy(steppers[0].state_dict())
    go(steppers[0], batches[7:])
    steppers[1].load_state_dict(state)
    go(steppers[1], batches[7:])
    for (name, a), b in zip(first.state_dict().items(), second.state_dict().values(), strict=True):
        assert torch.equal(a, b), name
    assert "codebook.rows" not in first.state_dict()


def test_the_average_over_steps_of_the_buffers_is_that_of_shares_and_sums():
    """Not of codes: a code that was used more counts more."""
    loss = Quantized(MovingAverageCodebook(3, 2, decay=0.5))
    averaged = AveragedModel(loss, multi_avg_fn=get_ema_multi_avg_fn(0.5), use_buffers=True)
    held = []
    stepper = Stepper(loss, torch.optim.SGD(loss.parameters(), lr=0.1), averaged=averaged)
    for x in torch.randn(3, 16, 3):
        stepper(x)
        stepper.end_step()
        held.append((loss.codebook.shares.clone(), loss.codebook.sums.clone()))
    shares, sums = (0.25 * a + 0.25 * b + 0.5 * c for a, b, c in zip(*held, strict=True))
    assert torch.allclose(averaged.module.codebook.codes, sums / shares[:, None], atol=1e-12)


@pytest.mark.parametrize("gradient, moved", [("loss", False), ("decoder", True), ("both", True)])
def test_what_reaches_the_codes_is_an_argument(gradient, moved):
    codebook = Codebook(4, 2, gradient)
    assert codebook.embed(torch.eye(4, requires_grad=True)).sum().requires_grad
    assert codebook.embed(torch.eye(4)).requires_grad == moved
    assert codebook.has_loss == (gradient != "decoder")
    averaged = MovingAverageCodebook(4, 2)
    assert not list(averaged.parameters()) and not averaged.has_loss
    assert torch.equal(averaged.embed(torch.eye(4)), averaged.codes)


def test_faults_are_named():
    with pytest.raises(ValueError, match="^Codebook: num_codes must be an integer of at least 2, got 1$"):
        Codebook(1, 3)
    with pytest.raises(ValueError, match="^MovingAverageCodebook: code_size must be an integer of at least 1, got 0$"):
        MovingAverageCodebook(2, 0)
    with pytest.raises(ValueError, match="gradient must be 'loss', 'decoder' or 'both', got 'ema'"):
        Codebook(2, 3, "ema")
    with pytest.raises(ValueError, match="restart_below must be at least 0 and less than 1, got 2"):
        Codebook(2, 3, restart_below=2)
    with pytest.raises(ValueError, match="decay must be at least 0 and less than 1, got 1.0"):
        MovingAverageCodebook(2, 3, decay=1.0)
    assert math.isfinite(float(MovingAverageCodebook(2, 1).codes.sum()))
