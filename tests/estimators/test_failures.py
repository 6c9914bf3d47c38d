"""An estimator that fails is left out with its reason, and the others are measured as if it had not been there."""

import pytest
import torch

from pplvm.bounds import iwae
from pplvm.estimators.compare_gradients import compare_gradients
from pplvm.estimators.comparison import Comparison
from pplvm.estimators.particle_sweep import ParticleSweep
from pplvm.objectives.objective import Loss
from pplvm.objectives.pathwise import Pathwise
from pplvm.objectives.score_function import LeaveOneOut
from pplvm.programs.vae import VAE
from tests.problems import small_net, two_data


class FailsAt(LeaveOneOut):
    """Runs so many times, then fails in its backward pass."""

    def __init__(self, draws: int) -> None:
        super().__init__()
        self.draws = draws

    def estimate(self, *args, **kwargs):
        found = super().estimate(*args, **kwargs)
        self.draws -= 1
        if self.draws < 0:
            found.surrogate.register_hook(lambda gradient: {}["tau"])
        return found


def measured(**others):
    """RLOO and VIMCO on two minibatches of one net, among others."""
    net, x = small_net(), two_data()
    objectives = {"rloo": LeaveOneOut(), **others, "vimco": LeaveOneOut(iwae, 3)}
    losses = {name: Loss(objective, net) for name, objective in objectives.items()}
    told = []
    result = compare_gradients(losses, [x, x.flip(0)], replicates=8, own_noise=True, compile="off", tell=told.append)
    return result, told


@pytest.mark.parametrize("draws", [2, 14], ids=["at its first draw", "in the second minibatch"])
def test_the_others_are_measured_as_without_it(draws):
    alone, _ = measured(idle=LeaveOneOut())
    found, told = measured(idle=FailsAt(draws))
    assert told == ["idle is left out: KeyError: 'tau'"] and found.attrs["left_out"] == told[0]
    assert list(found.estimator.values) == ["rloo", "vimco"]
    for variable in ("grad", "variance", "correlation", "p_value", "replicates"):
        expected = alone[variable].sel(estimator=["rloo", "vimco"])
        expected = expected.sel(other=["rloo", "vimco"]) if "other" in expected.dims else expected
        assert found[variable].equals(expected), variable


def test_where_all_fail_the_first_is_told():
    net, x = small_net(), two_data()
    losses = {"one": Loss(FailsAt(2), net), "two": Loss(FailsAt(2), net)}
    drawn = Comparison(losses, [x], replicates=5, tell=pytest.fail)
    with pytest.raises(RuntimeError, match="^estimator one: KeyError: 'tau'$"):
        list(drawn.rounds())


class OneOrTwo(VAE):
    """A program of a neural network that takes two particles at most, as many of convolutions do."""

    def model(self, x):
        with torch.no_grad():
            self.decoder.register_forward_pre_hook(self._at_most_two)
        return super().model(x)

    @staticmethod
    def _at_most_two(module, given):
        if given[0].dim() > 2 and len(given[0]) > 2:
            raise RuntimeError("expected 3D or 4D input")


def test_a_reference_that_fails_is_done_without():
    """It would draw 16 particles."""
    program, x = OneOrTwo(4, 2, (3,)), torch.ones(3, 4)
    told = []
    result = compare_gradients({"pathwise": Loss(Pathwise(), program)}, [x, x], replicates=5, tell=told.append)
    assert told == [
        "nothing is held against the gradient of elbo, as its reference fails: expected 3D or 4D input"
    ]  # once for both minibatches
    assert result.reference.item() == "none" and result.verdict.item() == "undecided"


def test_a_sweep_goes_on_without_what_fails():
    program, x = OneOrTwo(4, 2, (3,)), torch.ones(3, 4)
    losses = {"iwae": {K: Loss(Pathwise(iwae, K), program) for K in (1, 2, 4)}}
    sweep = ParticleSweep(losses, x, replicates=6)
    assert list(sweep.rounds()) == list(range(1, sweep.number_of_rounds + 1))
    assert sweep.left_out == ["iwae at K = 4 is left out of the sweep: expected 3D or 4D input"]
    assert sweep.result().sweep_snr.isnull().sel(estimator="iwae", side="model").values.tolist() == [False, False, True]
