"""The judge of estimators: right ones pass, wrong ones are measured, broken ones named."""

from dataclasses import replace

import pytest
import torch

from pplvm.bounds import elbo, iwae
from pplvm.estimators.verification.known_gradients import KNOWN, tables_of, true_gradient
from pplvm.estimators.verification.verify import verify
from pplvm.objectives.antithetic import DisARM
from pplvm.objectives.biased import BiasedStraightThrough
from pplvm.objectives.exact import Exact
from pplvm.objectives.local_expectation import LocalExpectation
from pplvm.objectives.objective import Estimate, Loss
from pplvm.objectives.path_gradients import StickTheLanding
from pplvm.objectives.pathwise import Pathwise
from pplvm.objectives.score_function import LeaveOneOut, ScoreFunction, leave_one_out_weights
from tests.problems import exact_gradient


def verdicts(build, known=KNOWN, draws=120):
    return [finding.verdict for finding in verify(lambda x: build(), draws, known)]


class Scaled(LeaveOneOut):
    """5 % too long."""

    def estimate(self, *args, **kwargs):
        found = super().estimate(*args, **kwargs)
        return replace(found, surrogate=1.05 * found.surrogate)


class OtherValue(LeaveOneOut):
    """The elbo's gradient, and iwae for a value."""

    def estimate(self, pair, *args, **kwargs):
        found = super().estimate(pair, *args, **kwargs)
        return replace(found, value=iwae(self.draw(pair, *args, **kwargs).log_weights.detach()))


class Joint(LeaveOneOut):
    """One weight for all of a batch, as Pyro's RenyiELBO has where a site is outside the plate."""

    def estimate(self, pair, *args, **kwargs):
        drawn = self.draw(pair, *args, **kwargs)
        log_w = drawn.log_weights.sum(1, keepdim=True)
        credit = iwae(log_w.detach()) - iwae(leave_one_out_weights(log_w.detach()))
        surrogate = iwae(log_w) + (credit * drawn.log_q_score.sum(1, keepdim=True)).sum(0)
        B = drawn.log_p.shape[1]
        return Estimate(iwae(drawn.log_weights.detach()), surrogate.expand(B) / B)


def test_a_value_that_is_not_the_bound_is_told():
    for finding in verify(lambda x: OtherValue(elbo, 2)):
        assert finding.verdict == "broken" and "nats where the bound is" in finding.reason


def test_data_that_meet_in_a_batch_are_seen():
    finding = next(verify(lambda x: Joint(iwae, 2)))
    assert finding.verdict == "biased" and "exact for one datum, but not in a batch" in finding.reason


@pytest.mark.parametrize("known", KNOWN, ids=lambda known: known.title)
def test_tables_hold_the_whole_guide(known):
    program, x = known.build(), known.x.double()
    tables = tables_of(program, x)
    assert float(tables.log_mass.exp().sum().detach()) == pytest.approx(1, abs=1e-12)
    log_p = (tables.log_mass + tables.log_p - tables.log_q).logsumexp(0).detach()
    values = [true_gradient(program, tables, iwae, K)[1] for K in (1, 2)]
    assert values[0] < values[1] < float(log_p)
    assert values[0] == pytest.approx(true_gradient(program, tables, elbo, 1)[1], abs=1e-12)


def test_tables_agree_with_enumeration_and_draws():
    for known in KNOWN[:2]:
        program, x = known.build(), known.x.double()
        found, value = true_gradient(program, tables_of(program, x), iwae, 2)
        truth, bound = exact_gradient(program, x, iwae, 2)
        assert torch.allclose(torch.cat([g.flatten() for g in found]), truth, atol=1e-12)
        assert value == pytest.approx(bound, abs=1e-12)
    program, x = KNOWN[3].build(), KNOWN[3].x.double()
    torch.manual_seed(0)
    with torch.no_grad():
        drawn = torch.stack([-Loss(Pathwise(iwae, 2), program)(x.expand(2000)) for _ in range(20)])
    exact = true_gradient(program, tables_of(program, x), iwae, 2)[1]
    assert abs(drawn.mean() - exact) < 4.5 * drawn.std() / 20**0.5 < 0.1


def test_the_right_ones_are_unbiased():
    assert verdicts(lambda: LeaveOneOut(elbo, 2)) == ["unbiased"] * 5
    assert verdicts(lambda: DisARM(iwae, 2), KNOWN[1:3]) == ["unbiased"] * 2
    assert verdicts(lambda: StickTheLanding(1), KNOWN[3:4]) == ["unbiased"]


def test_how_it_was_found_is_said():
    (exact,) = verify(lambda x: ScoreFunction(elbo, 2), known=KNOWN[:1])
    assert "exactly: all its draws enumerated" in exact.reason
    (again,) = verify(lambda x: LocalExpectation(), known=KNOWN[1:2])
    assert "240,000 draws, which would have shown a bias of" in again.reason  # it draws later sites anew


def test_a_bias_is_measured():
    for finding in verify(lambda x: Scaled(elbo, 2)):
        assert finding.verdict == "biased"
        assert "by 5 % of" in finding.reason or "by about" in finding.reason
        assert "worst at" in finding.reason
    assert verdicts(BiasedStraightThrough, KNOWN[:1]) == ["biased"]


def test_too_few_draws_are_undecided_and_not_acquitted(monkeypatch):
    monkeypatch.setattr("pplvm.estimators.verification.verify.ROWS", 2)
    (finding,) = verify(lambda x: ScoreFunction(elbo, 1), 60, KNOWN[2:3])
    assert finding.verdict == "undecided" and "ask for more with --draws" in finding.reason


def test_what_does_not_suit_is_refused_with_its_reason():
    first, *_, gaussian, last = verify(lambda x: Pathwise(iwae, 2))
    assert first.verdict == last.verdict == "refused" and "has none" in first.reason
    assert gaussian.verdict == "unbiased"
    assert verdicts(Exact, KNOWN[3:4]) == ["refused"]


def broken(change):
    class Broken(LeaveOneOut):
        def estimate(self, *args, **kwargs):
            return change(super().estimate(*args, **kwargs))

    return Broken(elbo, 2)


@pytest.mark.parametrize(
    "change, said",
    [
        (lambda found: replace(found, surrogate=found.surrogate.detach()), "the loss has no gradient"),
        (lambda found: replace(found, surrogate=found.surrogate * float("nan")), "the loss is nan"),
        (lambda found: 1 / 0, "ZeroDivisionError: division by zero"),
    ],
)
def test_the_broken_are_named(change, said):
    (finding,) = verify(lambda x: broken(change), known=KNOWN[:1])
    assert (finding.verdict, finding.reason) == ("broken", said)


def test_nothing_is_left_behind():
    torch.manual_seed(3)
    state, default = torch.get_rng_state(), torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    list(verify(lambda x: LeaveOneOut(elbo, 2), known=KNOWN[:1]))
    assert torch.get_default_dtype() is torch.float32
    torch.set_default_dtype(default)
    assert torch.equal(state, torch.get_rng_state())
