"""Exact log p(x): by a program's own word, by enumeration written out, and None where there is neither."""

import itertools

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from pplvm.evaluation.evaluate import evaluate
from pplvm.evaluation.evidence import log_evidence
from pplvm.particles.contract import ProgramError
from pplvm.particles.draw import draw_particles
from pplvm.programs.mixture import MixtureOfGaussians
from pplvm.programs.ppca import ProbabilisticPCA
from pplvm.programs.sigmoid_belief import SigmoidBeliefNet
from pplvm.programs.vae import VAE
from tests.problems import Forced, small_net, two_data


class Indicator(nn.Module):
    """b ~ Bernoulli(1/2), p(x | b) = [x = b]: p(0) = p(1) = 1/2, and no other x has any."""

    def model(self, x):
        with pyro.plate("batch", len(x)):
            b = pyro.sample("b", dist.Bernoulli(0.5 * torch.ones(1)).to_event(1))
            pyro.sample("x", dist.Delta(b, event_dim=1), obs=x)

    def guide(self, x):
        with pyro.plate("batch", len(x)):
            pyro.sample("b", dist.Bernoulli(0.5 * torch.ones(1)).to_event(1))


def test_a_belief_net_by_hand():
    net, x = small_net((2, 1)), two_data()
    joint = []
    for bits in itertools.product((0.0, 1.0), repeat=3):
        z = torch.tensor(bits).expand(2, 3)
        with Forced({"z_1": z[:, :2], "z_2": z[:, 2:]}):
            joint.append(draw_particles(net.model, net.guide, x).log_p[0])
    found = log_evidence(net, x)
    torch.testing.assert_close(found.log_p, torch.stack(joint).logsumexp(0).detach())
    assert found.how == "8 states summed out" and found.log_p.dtype is torch.float64
    (figure,) = found.figures
    assert figure.name == "log p(x), exact" and figure.note == found.how
    assert figure.value == pytest.approx(float(found.log_p.mean()))


def test_a_mixture_is_torchs_own():
    program, x = MixtureOfGaussians(2, 3, seed=4), torch.randn(5, 2)
    parts = Independent(Normal(program.locs, torch.ones(3, 1)), 1)
    truth = MixtureSameFamily(Categorical(logits=torch.zeros(3)), parts).log_prob(x).detach()
    torch.testing.assert_close(log_evidence(program, x).log_p, truth)


def test_a_programs_own_method_comes_first(monkeypatch):
    program, x = ProbabilisticPCA(6), torch.randn(7, 2, 3)
    found = log_evidence(program, x)
    assert found.how == "in closed form" and not found.log_p.requires_grad
    torch.testing.assert_close(found.log_p, program.log_evidence(x).detach())
    monkeypatch.setattr("pplvm.evaluation.evidence.BYTES", 3 * 6 * 8)  # 3 + 3 + 1
    handed = []
    monkeypatch.setattr(program, "log_evidence", lambda rows: handed.append(len(rows)) or rows.sum((1, 2)))
    assert torch.equal(log_evidence(program, x).log_p, x.sum((1, 2))) and handed == [3, 3, 1]


def test_none_of_continuous_latents_and_of_too_many_states():
    assert log_evidence(VAE(3, 2), two_data()) is None
    assert log_evidence(SigmoidBeliefNet(3, (12, 9)), two_data()) is None


def test_as_many_states_as_one_datum_may_have():
    net, x = SigmoidBeliefNet(3, (10, 4)), two_data()
    assert log_evidence(net, x).how == "16,384 states summed out"


def test_a_datum_without_probability():
    x = torch.tensor([[0.0], [1.0], [2.0]])
    found = log_evidence(Indicator(), x).log_p
    assert torch.equal(found, torch.tensor([0.5, 0.5, 0.0]).log())


@pytest.mark.parametrize("make", [MixtureOfGaussians, ProbabilisticPCA])
def test_what_is_no_number_is_refused(make):
    with pytest.raises(FloatingPointError, match=r"log p\(x\) of datum 1 is not a number"):
        log_evidence(make(2), torch.tensor([[0.0, 0.0], [0.0, torch.nan]]))


def test_a_method_of_the_wrong_shape_is_refused():
    program = ProbabilisticPCA(3)
    program.log_evidence = lambda x: x
    with pytest.raises(ValueError, match=r"log_evidence\(x\) of 2 data must be \(2,\), got \(2, 3\)"):
        log_evidence(program, two_data())


class TwoDoors(nn.Module):
    """x ~ N(a + b, 1), a and b Bernoulli; right for particles, but states of b pile up if told to."""

    def __init__(self, right):
        super().__init__()
        self.right = right

    def model(self, x):
        with pyro.plate("batch", len(x)):
            a = pyro.sample("a", dist.Bernoulli(0.3))
            b = pyro.sample("b", dist.Bernoulli(0.6 + 0.0 * a))
            total = a + b
            if not self.right and total.dim() == 3:
                total = total.cumsum(0)
            pyro.sample("x", dist.Normal(total, 1.0), obs=x)

    def guide(self, x):
        with pyro.plate("batch", len(x)):
            pyro.sample("a", dist.Bernoulli(0.3 + 0.0 * x))
            pyro.sample("b", dist.Bernoulli(0.6 + 0.0 * x))


def test_states_that_a_program_mixes_are_no_evidence():
    x = torch.tensor([0.2, 1.4, 2.5])
    truth = torch.logsumexp(
        torch.stack(
            [torch.tensor(p).log() + Normal(m, 1.0).log_prob(x) for p, m in ((0.28, 0.0), (0.54, 1.0), (0.18, 2.0))]
        ),
        0,
    )
    torch.testing.assert_close(log_evidence(TwoDoors(True), x).log_p, truth)
    with pytest.raises(ProgramError, match=r"model site 'x' gives datum 0 .* state by state"):
        log_evidence(TwoDoors(False), x)
    assert evaluate(TwoDoors(True), x, ks=(1, 5)).sections["likelihood"][0].name == "log p(x), exact"
    found = evaluate(TwoDoors(False), x, ks=(1, 2000))
    names = [figure.name for figure in found.sections["likelihood"]]
    assert not any("exact" in name for name in names) and "log_p_exact" not in found.per_datum
    assert any(said.startswith("log p(x), exact: with the states of a discrete latent") for said in found.left_out)
    torch.testing.assert_close(found.per_datum["log_p"][:, -1], truth, atol=0.1, rtol=0)
