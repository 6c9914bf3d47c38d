"""What every evaluator keeps: one entry in EVALUATORS makes all of these tests its own."""

import dataclasses
import math

import pytest
import torch
from torch import Tensor, nn

from pplvm.evaluation.active_units import active_units
from pplvm.evaluation.annealing.annealed import annealed
from pplvm.evaluation.evidence import log_evidence
from pplvm.evaluation.likelihood import importance_sampled
from pplvm.evaluation.per_datum import datum_seeds
from pplvm.evaluation.rate_distortion import rate_distortion
from pplvm.programs.ppca import ProbabilisticPCA
from pplvm.programs.sigmoid_belief import SigmoidBeliefNet
from pplvm.programs.vae import VAE

EVALUATORS = {
    "log_evidence": lambda program, x, seed: log_evidence(program, x),
    "importance_sampled": lambda program, x, seed: importance_sampled(program, x, ks=(1, 10, 600), seed=seed),
    "rate_distortion": lambda program, x, seed: rate_distortion(program, x, num_particles=600, seed=seed),
    "annealed": lambda program, x, seed: annealed(program, x, chains=3, steps=3, seed=seed),
    "active_units": lambda program, x, seed: active_units(program, x, num_particles=20, seed=seed),
}
WITHOUT_NOISE = ("log_evidence",)
D = 6


class DroppedOut(VAE):
    """A VAE whose encoder, in train mode, forgets half of what it sees."""

    def __init__(self) -> None:
        super().__init__(D, 2, (5,))
        self.encoder = nn.Sequential(self.encoder, nn.Dropout(0.5))


PROGRAMS = {
    "ppca": lambda: ProbabilisticPCA(D, 2),
    "belief net": lambda: SigmoidBeliefNet(D, (2, 3), (7,)),
    "vae": lambda: VAE(D, 2, (5,)),
    "dropout": DroppedOut,
}


def columns(found) -> list[Tensor]:
    """Every tensor of a result, the data in its first dimension; none for None."""
    fields = [] if found is None else [getattr(found, field.name) for field in dataclasses.fields(found)]
    tensors = [t for field in fields for t in (field.values() if isinstance(field, dict) else [field])]
    return [t for t in tensors if isinstance(t, Tensor)]


@pytest.fixture(params=EVALUATORS)
def evaluator(request):
    return EVALUATORS[request.param]


@pytest.fixture(params=[(name, dtype) for name in PROGRAMS for dtype in (torch.float32, torch.float64)], ids=str)
def case(request):
    name, dtype = request.param
    torch.manual_seed(0)
    program = PROGRAMS[name]().to(dtype)
    with torch.no_grad():
        for parameter in program.parameters():
            parameter.copy_(torch.randn_like(parameter))
    torch.set_default_dtype(dtype)
    yield program, torch.rand(7, D).round()
    torch.set_default_dtype(torch.float64)


def test_no_order_no_batch_and_no_rank_changes_a_bit(evaluator, case):
    """Some of the data are equal: those that change places in another order have changed noise, and no sum shows it."""
    program, x = case
    x[5:] = x[0]
    order, seeds = torch.randperm(7), datum_seeds(x, 0)
    whole, permuted = columns(evaluator(program, x, 0)), columns(evaluator(program, x[order], 0))
    shards = [columns(evaluator(program, x[part::2], seeds[part::2])) for part in range(2)]
    for i, column in enumerate(whole):
        assert len(column) == 7 and column.dtype is torch.float64 and column.device.type == "cpu"
        assert in_some_order(column[order], x[order]) == in_some_order(permuted[i], x[order])
        for start, shard in enumerate(shards):
            assert torch.equal(column[start::2].nan_to_num(-1), shard[i].nan_to_num(-1))


def in_some_order(column: Tensor, x: Tensor) -> list[list[float]]:
    """Each datum with its values, sorted."""
    return sorted(
        torch.cat([x.double(), column.flatten(1) if column.dim() > 1 else column[:, None]], 1).nan_to_num(-1).tolist()
    )


def test_modes_gradients_and_the_random_state_are_left(evaluator, case):
    program, x = case
    last = list(program.children())[-1]
    program.train()
    last.eval()
    state = torch.get_rng_state()
    found = evaluator(program, x, 0)
    assert program.training and not last.training
    assert torch.equal(state, torch.get_rng_state()) and torch.is_grad_enabled()
    assert not any(column.requires_grad for column in columns(found))
    assert all(parameter.grad is None for parameter in program.parameters())


def test_a_seed_gives_the_same_bits_in_train_mode_too(evaluator, case):
    program, x = case
    first, again = columns(evaluator(program.train(), x, 1)), columns(evaluator(program.eval(), x, 1))
    assert all(torch.equal(a.nan_to_num(-1), b.nan_to_num(-1)) for a, b in zip(first, again, strict=True))


def test_another_seed_gives_other_noise():
    torch.manual_seed(0)
    program, x = SigmoidBeliefNet(D, (2, 3)), torch.rand(3, D).round()
    for name, evaluate in EVALUATORS.items():
        first, other = columns(evaluate(program, x, 0)), columns(evaluate(program, x, 1))
        same = all(torch.equal(a.nan_to_num(-1), b.nan_to_num(-1)) for a, b in zip(first, other, strict=True))
        assert same == (name in WITHOUT_NOISE), name


def test_figures_are_numbers_with_units(evaluator, case):
    found = evaluator(*case, 0)
    for figure in [] if found is None else found.figures:
        assert math.isfinite(figure.value) and figure.unit and figure.name
        assert figure.error is None or figure.error >= 0
    names = [] if found is None else [figure.name for figure in found.figures]
    assert len(set(names)) == len(names)


def test_no_data(evaluator):
    with pytest.raises(ValueError, match="no data to evaluate"):
        evaluator(VAE(D, 2), torch.zeros(0, D), 0)
