"""A density without latents: its log p(x) is exact under every verb, and its maximum likelihood is known."""

import pytest
import torch

from pplvm.bounds import iwae
from pplvm.evaluation.evaluate import evaluate
from pplvm.evaluation.evidence import log_evidence
from pplvm.evaluation.samples import prior_samples
from pplvm.graphs.compiled import compiled
from pplvm.objectives.objective import Loss
from pplvm.objectives.pathwise import AnalyticKL, Pathwise
from pplvm.objectives.score_function import LeaveOneOut
from pplvm.training.fit import fit
from tests.seams.moments import gradient
from tests.seams.programs import WithoutLatents

OBJECTIVES = {
    "pathwise": Pathwise,
    "iwae": lambda: Pathwise(iwae, 3),
    "analytic": AnalyticKL,
    "leave-one-out": lambda: LeaveOneOut(num_particles=2),
}


def correlated(count=400):
    return torch.randn(count, 3) @ torch.tensor([[1.0, 0.5, 0.0], [0.0, 0.7, -0.4], [0.0, 0.0, 0.5]]) + 1


@pytest.mark.parametrize("tier", ["off", "graph"])
@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_objective_has_the_exact_value_and_gradient(name, tier):
    program, x = WithoutLatents(3), correlated(10)
    truth = -program.density().log_prob(x).mean()
    found = compiled(Loss(OBJECTIVES[name](), program), tier).backward(x)
    torch.testing.assert_close(found, truth.detach())
    grads = torch.cat([p.grad.flatten() for p in program.parameters()])
    torch.testing.assert_close(grads, gradient(truth, program))


def test_it_is_fitted_to_the_maximum_likelihood_and_judged_exactly():
    program, x = WithoutLatents(3), correlated()
    loss = Loss(Pathwise(), program)
    fit(loss, [x] * 300, torch.optim.Adam(loss.parameters(), lr=0.05), compile="graph").run()
    centred = x - x.mean(0)
    best = torch.distributions.MultivariateNormal(x.mean(0), centred.T @ centred / len(x)).log_prob(x).mean()
    found = log_evidence(program, x)
    assert found.how == "the program has no latents"
    assert 0 <= best - found.log_p.mean() < 1e-3
    first, *_ = evaluate(program, x[:20], ks=(1, 10)).sections["likelihood"]
    assert first.name == "log p(x), exact"
    assert first.value == pytest.approx(float(program.density().log_prob(x[:20]).mean().detach()))


def test_samples_are_of_the_density():
    program = WithoutLatents(3)
    with torch.no_grad():
        program.loc.copy_(torch.tensor([1.0, -2.0, 0.5]))
        program.below.fill_(0.6)
    draws = prior_samples(program, torch.zeros(1, 3), 4000).draw
    assert ((draws.mean(0) - program.loc).abs() < 5 * draws.std(0) / 4000**0.5).all()
    covariance = program.density().covariance_matrix.detach()
    assert (draws.T.cov() - covariance).abs().max() < 0.25
