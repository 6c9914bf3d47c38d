"""The proofs have power: wrong estimators, all of them found in the wild, fail them by a wide margin."""

import pytest
import torch

from pplvm.bounds import elbo, iwae
from pplvm.objectives.objective import Estimate
from pplvm.objectives.pathwise import Pathwise
from pplvm.objectives.score_function import LeaveOneOut, ScoreFunction, pathwise_bound
from pplvm.particles.draw import draw_particles
from tests.problems import exact_gradient, exact_moments, linear_gaussian, small_net, two_data


class NoScoreTerm(LeaveOneOut):
    """Only the reparameterized part: what RenyiELBO's limit amounts to, and NumPyro's."""

    def estimate(self, pair, *args, **kwargs):
        drawn = self.draw(pair, *args, **kwargs)
        return Estimate(self.bound(drawn.log_weights.detach()), pathwise_bound(self.bound, drawn))


class WrongSign(LeaveOneOut):
    def estimate(self, pair, *args, **kwargs):
        right = super().estimate(pair, *args, **kwargs)
        return Estimate(right.value, -right.surrogate)


class SampleInItsOwnBaseline(ScoreFunction):
    """The mean over particles, each in its own baseline: shrinks the gradient by 1 - 1/K."""

    def estimate(self, pair, *args, **kwargs):
        drawn = self.draw(pair, *args, **kwargs)
        signal = drawn.log_weights.detach()
        credit = (signal - signal.mean(0)) / self.num_particles
        surrogate = pathwise_bound(self.bound, drawn) + (credit * drawn.log_q_score).sum(0)
        return Estimate(self.bound(signal), surrogate)


class NoDivisionByK(ScoreFunction):
    def estimate(self, pair, *args, **kwargs):
        drawn = self.draw(pair, *args, **kwargs)
        surrogate = pathwise_bound(self.bound, drawn) + (drawn.log_weights.detach() * drawn.log_q_score).sum(0)
        return Estimate(self.bound(drawn.log_weights.detach()), surrogate)


MUTANTS = {
    "score term dropped, iwae": lambda: NoScoreTerm(iwae, 2),
    "score term dropped, elbo": lambda: NoScoreTerm(elbo, 2),
    "wrong sign": lambda: WrongSign(elbo, 2),
    "current sample inside the baseline": lambda: SampleInItsOwnBaseline(elbo, 3),
    "no division by K": lambda: NoDivisionByK(elbo, 2),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_enumeration_sees_a_biased_estimator(name):
    net, x, mutant = small_net(), two_data()[:1], MUTANTS[name]()
    truth, _ = exact_gradient(net, x, mutant.bound, mutant.num_particles)
    mean, _, _ = exact_moments(mutant, net, x)
    assert (mean - truth).abs().max() > 1e-2  # the right ones are within 1e-10


def test_the_shrinkage_of_a_sample_in_its_own_baseline_is_as_derived():
    net, x = small_net(), two_data()[:1]
    guide = torch.cat([torch.full((p.numel(),), "encoder" in n) for n, p in net.named_parameters()])
    truth, _ = exact_gradient(net, x, elbo, 3)
    mean, _, _ = exact_moments(SampleInItsOwnBaseline(elbo, 3), net, x)
    assert torch.allclose(mean[guide], truth[guide] * (1 - 1 / 3), atol=1e-10)


def test_joint_weights_are_no_per_datum_weights():
    """One weight for a whole batch: the mutant fails what the right bound passes, value and independence."""
    net, x = small_net(), two_data()
    torch.manual_seed(0)
    log_w = draw_particles(net.model, net.guide, x, num_particles=4).log_weights.detach()
    per_datum, joint = iwae(log_w).sum(), iwae(log_w.sum(1, keepdim=True)).sum()
    assert abs(float(per_datum - joint)) > 1e-2
    changed = log_w.clone()
    changed[:, 1] += torch.tensor([3.0, -1.0, 0.0, 2.0])
    assert torch.equal(iwae(changed)[0], iwae(log_w)[0])
    first = torch.autograd.functional.jacobian(lambda w: iwae(w.sum(1, keepdim=True)).sum(), log_w)[:, 0]
    again = torch.autograd.functional.jacobian(lambda w: iwae(w.sum(1, keepdim=True)).sum(), changed)[:, 0]
    assert (first - again).abs().max() > 1e-2  # the mutant's weight of datum 0 depends on datum 1


def test_a_scale_inside_the_logarithm_is_no_bound():
    """N/B inside the weights makes the 'bound' exceed log p(x); ours stays below it."""
    program = linear_gaussian()
    x = torch.randn(2, 3)
    log_p = program.log_evidence(x).sum().detach()
    torch.manual_seed(0)
    scale = 100.0
    log_w = draw_particles(program.model, program.guide, x.repeat(50, 1), num_particles=2000).log_weights.detach()
    right = iwae(log_w).reshape(50, 2).sum(1).mean()
    mutant = (iwae(scale * log_w) / scale).reshape(50, 2).sum(1).mean()
    assert right < log_p + 0.05
    assert mutant > log_p + 0.5


def test_joint_weights_fail_the_objective_test_too():
    class Joint(Pathwise):
        def estimate(self, pair, *args, **kwargs):
            drawn = self.draw(pair, *args, **kwargs)
            value = iwae(drawn.log_weights.sum(1, keepdim=True)).expand(drawn.log_p.shape[1]) / drawn.log_p.shape[1]
            return Estimate(value, value)

    program = linear_gaussian().at_posterior()
    with torch.no_grad():
        program.log_scale += 0.7
        x = torch.randn(20, 3)
        right, mutant = (o.loss(program.model, program.guide, x) for o in (Pathwise(iwae, 50), Joint(iwae, 50)))
    exact = -float(program.log_evidence(x).sum().detach())
    assert abs(right - exact) < 0.25 * abs(mutant - exact)
