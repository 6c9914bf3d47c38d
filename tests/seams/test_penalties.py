"""Two penalties: the gradient is the bound's plus the weighed closed forms, and no value holds any of it."""

import pytest
import torch

from pplvm.bounds import elbo, iwae
from pplvm.evaluation.evaluate import evaluate
from pplvm.graphs.compiled import compiled
from pplvm.objectives.objective import Loss
from pplvm.objectives.path_gradients import StickTheLanding
from pplvm.objectives.pathwise import AnalyticKL, Pathwise
from pplvm.objectives.penalized import Penalized as Weighed
from pplvm.objectives.score_function import LeaveOneOut
from pplvm.objectives.tempered import Beta
from tests.seams.moments import gradient
from tests.seams.programs import WEIGHTS, Penalized

X = torch.tensor([[0.3, -1.1, 0.4, 1.9], [1.2, 0.3, -0.7, 0.1], [-0.5, 0.9, 1.4, -1.3]]).double()
INSIDE = {
    "analytic": AnalyticKL,
    "pathwise": lambda: Pathwise(elbo, 3),
    "iwae": lambda: Pathwise(iwae, 5),
    "stick the landing": StickTheLanding,
    "leave-one-out": lambda: LeaveOneOut(elbo, 3),
    "beta": lambda: Beta(AnalyticKL(), 0.5),
}


def at_seed(loss, x=X):
    torch.manual_seed(7)
    value = loss(x)
    return value.detach(), gradient(value, loss.program)


def weighed(program, weights=WEIGHTS, x=X):
    """The gradient of the sum of penalties, (P,), by autograd of their closed forms."""
    of = program.penalties(x)
    return gradient(sum(weight * of[name] for name, weight in weights.items()), program)


@pytest.mark.parametrize("tier", ["off", "graph"])
@pytest.mark.parametrize("inside", INSIDE)
def test_the_gradient_gains_the_penalties_and_the_value_nothing(inside, tier):
    program = Penalized(4)
    plain, gradient_of_bound = at_seed(Loss(INSIDE[inside](), program))
    loss = Loss(Weighed(INSIDE[inside](), WEIGHTS), program)
    torch.manual_seed(7)
    program.zero_grad()
    value = compiled(loss, tier).backward(X)
    assert torch.equal(value, plain)
    found = torch.cat(
        [torch.zeros_like(p).flatten() if p.grad is None else p.grad.flatten() for p in program.parameters()]
    )
    torch.testing.assert_close(found, gradient_of_bound + weighed(program))
    assert (weighed(program, {"far": 1.0}).abs() > 0.01).any() and (weighed(program, {"wide": 1.0}).abs() > 0.01).any()


def test_weights_add_up_and_zero_is_none():
    program = Penalized(4)
    _, plain = at_seed(Loss(AnalyticKL(), program))
    for weights in ({"far": 0.0}, {"far": 1.5}, {"wide": -0.5}, {"far": 2.0, "wide": 0.1}):
        _, found = at_seed(Loss(Weighed(AnalyticKL(), weights), program))
        torch.testing.assert_close(found, plain + weighed(program, weights))


def test_both_are_reported_unweighted_after_a_step():
    program = Penalized(4)
    for tier in ("off", "graph"):
        loss = Loss(Weighed(AnalyticKL(), WEIGHTS), program)
        run = compiled(loss, tier)
        for x in (X, X[:2] - 0.4, X + 1):
            run.backward(x)
            reported = run.reported() if hasattr(run, "reported") else loss.reported()
            assert list(reported) == ["far", "wide"]
            for name, truth in program.penalties(x).items():
                torch.testing.assert_close(reported[name].double(), truth.detach())
                assert not reported[name].requires_grad


def test_the_evaluation_never_sees_them():
    program = Penalized(4)
    figures = evaluate(program, X, ks=(1, 10)).sections["likelihood"]
    assert all("far" not in figure.name and "wide" not in figure.name for figure in figures)
    loss = Loss(Weighed(Pathwise(iwae, 3000), WEIGHTS), program)
    bound = float(-loss(X).detach())
    truth = torch.distributions.MultivariateNormal(
        torch.zeros(4), program.weight @ program.weight.T + torch.eye(4)
    ).log_prob(X)
    assert bound == pytest.approx(float(truth.mean().detach()), abs=0.1)


def test_names_that_are_no_sites_of_the_guide_are_told():
    for weights, word in (({"fra": 1.0}, "far"), ({"z": 1.0}, "z")):
        with pytest.raises(ValueError, match=word):
            Loss(Weighed(AnalyticKL(), weights), Penalized(4))(X)
