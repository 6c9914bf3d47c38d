"""Weights by the names of a program: found within every wrapper, and what does not fit is told."""

import pytest
import torch
from torch.optim.swa_utils import AveragedModel

from pplvm.commands.runs.program_weights import mismatch, without_wrapper_prefixes
from pplvm.graphs.compiled import compiled
from pplvm.objectives.objective import Loss
from pplvm.objectives.pathwise import Pathwise
from pplvm.programs.vae import VAE


@pytest.fixture(autouse=True)
def single_precision(known_state):
    torch.set_default_dtype(torch.float32)
    yield
    torch.set_default_dtype(torch.float64)


WRAPPED = {
    "as it is": lambda loss: loss.program,
    "a loss with a control variate": lambda loss: loss,
    "torch.compile": lambda loss: torch.compile(loss.program),
    "torch.compile of a part": lambda loss: _with_compiled_part(loss.program),
    "data parallelism": lambda loss: torch.nn.ModuleDict({"module": loss.program}),
    "compiled": lambda loss: compiled(loss),
    "an average of all of it": lambda loss: AveragedModel(compiled(loss)),
}


def _with_compiled_part(program):
    program.encoder = torch.compile(program.encoder)
    return program


@pytest.mark.parametrize("how", WRAPPED)
def test_names_that_wrappers_put_before_a_programs_own_are_taken_off(how):
    def program():
        return VAE(data_size=6, latent_size=2, hidden_sizes=(3,))

    loss = Loss(Pathwise(), program())
    loss.control = torch.nn.Linear(2, 2)
    plain = {name: value.clone() for name, value in loss.program.state_dict().items()}
    state = without_wrapper_prefixes(dict(WRAPPED[how](loss).state_dict()), program())
    assert mismatch(state, program()) is None
    assert all(torch.equal(state[name], value) for name, value in plain.items())


def test_what_is_missing_or_of_another_shape_is_still_told():
    program = torch.nn.Linear(2, 1)
    lacking = {"module.weight": torch.ones(1, 2)}
    assert mismatch(without_wrapper_prefixes(lacking, program), program) == "it lacks 'bias'"
    wrong = {"module.weight": torch.ones(1, 3), "module.bias": torch.ones(1)}
    assert "'weight' has shape (1, 3) there" in mismatch(without_wrapper_prefixes(wrong, program), program)


def test_names_of_which_some_are_wrapped_are_told():
    program = torch.nn.Linear(2, 1)
    mixed = {"bias": torch.ones(1), "module.weight": torch.ones(1, 2)}
    told = "it has 'module.weight' for 'weight', and other names as they are: give all the program's own"
    assert mismatch(without_wrapper_prefixes(mixed, program), program) == told
