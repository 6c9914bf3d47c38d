"""KL balancing: weights written out, their gradient exactly, the plain bound in the report."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

from pplvm.bounds import elbo, iwae
from pplvm.graphs.compiled import compiled
from pplvm.objectives.kl_balancing import KLBalancing, balancing_weights
from pplvm.objectives.objective import Loss, ObjectiveError
from pplvm.objectives.path_gradients import StickTheLanding
from pplvm.objectives.pathwise import AnalyticKL, Pathwise
from pplvm.objectives.penalized import Penalized
from pplvm.objectives.pyro_objective import PyroObjective
from pplvm.objectives.score_function import LeaveOneOut
from pplvm.objectives.targets import Tabulated
from pplvm.objectives.tempered import Beta, FreeBits, Warmup
from pplvm.programs.vae import VAE
from tests.objectives.test_contract import NoHostRead
from tests.objectives.test_tempered import drawn_divergences, seeded_gradients, warmed
from tests.problems import small_net, two_data

SIZES = {"z": 2, "u": 3, "v": 4}
LOC = {"z": 0.5, "u": 1.0, "v": -0.2}
SCALE = {"z": 0.7, "u": 1.2, "v": 0.9}


class ThreeLatents(nn.Module):
    """Latents of 2, 3 and 2 x 2 coordinates, the last ones in a nested plate, with KL divergences that are known."""

    def __init__(self):
        super().__init__()
        self.loc = nn.ParameterDict({name: nn.Parameter(torch.tensor(loc)) for name, loc in LOC.items()})
        self.scale = SCALE

    def model(self, x):
        with pyro.plate("batch", len(x), dim=-1):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            u = pyro.sample("u", dist.Normal(torch.zeros(3), 1.0).to_event(1))
            with pyro.plate("parts", 2, dim=-2):
                v = pyro.sample("v", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            mean = z.sum(-1) + u.sum(-1) + v.sum(-1).sum(-2, keepdim=True)
            pyro.sample("x", dist.Normal(mean.unsqueeze(-1), 1.0).expand([*mean.shape, 3]).to_event(1), obs=x)

    def guide(self, x):
        of = lambda name, size: dist.Normal(self.loc[name] * x[..., :1].expand(-1, size), self.scale[name]).to_event(1)
        with pyro.plate("batch", len(x), dim=-1):
            pyro.sample("z", of("z", 2))
            pyro.sample("u", of("u", 3))
            with pyro.plate("parts", 2, dim=-2):
                pyro.sample("v", of("v", 2))

    def divergences(self, x):
        """KL of each datum, written out."""
        each = {name: (SCALE[name] ** 2 + (LOC[name] * x[:, 0]) ** 2 - 1) / 2 - math.log(SCALE[name]) for name in SIZES}
        return {name: SIZES[name] * value for name, value in each.items()}

    def gamma(self, x, sizes=SIZES):
        share = {name: (kl.mean() + 0.01) / sizes[name] for name, kl in self.divergences(x).items()}
        mean = sum(share.values()) / len(share)
        return {name: float(value / mean) for name, value in share.items()}


def data():
    return torch.tensor([[0.4, -1.0, 0.3], [1.5, 0.2, -0.6], [-0.7, 0.1, 2.0]])


def test_the_gradient_is_that_of_the_written_out_weights():
    program, x = ThreeLatents(), data()
    found, gradient = seeded_gradients(KLBalancing(warmed(Warmup(AnalyticKL(2), 10), 4)), program, x)
    value, expected = seeded_gradients(Beta(Beta(AnalyticKL(2), program.gamma(x)), 0.4), program, x)
    torch.testing.assert_close(gradient, expected, rtol=1e-12, atol=1e-12)
    assert found == value
    without_sizes = Beta(Beta(AnalyticKL(2), program.gamma(x, dict.fromkeys(SIZES, 1))), 0.4)
    assert (seeded_gradients(without_sizes, program, x)[1] - gradient).abs().max() > 1e-2
    unbalanced = warmed(Warmup(AnalyticKL(2), 10), 4)
    assert (seeded_gradients(unbalanced, program, x)[1] - gradient).abs().max() > 1e-2


def test_weights_are_shares_of_the_mean_absolute_divergence_and_have_mean_one():
    terms = {"z_1": torch.tensor([[1.0, -2.0], [3.0, -4.0]]), "z_2": torch.tensor([[0.5, 0.5], [0.5, 0.5]])}
    found = balancing_weights(terms, {"z_1": 5, "z_2": 2})
    share = [(2.5 + 0.01) / 5, (0.5 + 0.01) / 2]  # KLs of z_1: -2 and 3, per datum
    assert [float(each) for each in found.values()] == pytest.approx([2 * s / sum(share) for s in share], rel=1e-12)


def test_posteriors_at_the_prior_are_weighed_by_their_sizes_alone():
    found = balancing_weights({"z_1": torch.zeros(1, 3), "z_2": torch.zeros(1, 3)}, {"z_1": 1, "z_2": 3})
    assert [float(each) for each in found.values()] == pytest.approx([1.5, 0.5])


@pytest.mark.parametrize("evaluations", [10, 11])
def test_after_the_warm_up_it_is_the_objective_itself(evaluations):
    program, x = ThreeLatents(), data()
    value, gradient = seeded_gradients(Pathwise(), program, x)
    again, same = seeded_gradients(KLBalancing(warmed(Warmup(Pathwise(), 10), evaluations)), program, x)
    assert torch.equal(value, again) and torch.equal(gradient, same)


@pytest.mark.parametrize("make", [lambda: Pathwise(elbo, 2), lambda: AnalyticKL(), lambda: StickTheLanding(2)])
def test_the_value_is_the_plain_bound(make):
    program, x = ThreeLatents(), data()
    value, gradient = seeded_gradients(make(), program, x)
    again, other = seeded_gradients(KLBalancing(warmed(Warmup(make(), 10), 3)), program, x)
    assert torch.allclose(value, again, rtol=1e-12)
    assert (gradient - other).abs().max() > 1e-3


def test_discrete_latents_by_the_draw():
    net, x = small_net((2, 3)), two_data()
    objective = LeaveOneOut(elbo, 2)
    pair_terms = drawn_terms(objective, net, x)
    gamma = {name: float(each) for name, each in balancing_weights(pair_terms, {"z_1": 2, "z_2": 3}).items()}
    _, gradient = seeded_gradients(KLBalancing(warmed(Warmup(objective, 10), 5)), net, x)
    _, expected = seeded_gradients(Beta(Beta(objective, gamma), 0.5), net, x)
    torch.testing.assert_close(gradient, expected, rtol=1e-12, atol=1e-12)


def drawn_terms(objective, program, x):
    from pplvm.particles.pair import pair_up

    assert drawn_divergences(objective, program, x).keys() == {"z_1", "z_2"}
    pair = pair_up(program.model, program.guide, (x,), {})
    torch.manual_seed(3)
    return {name: term.detach() for name, term in objective.draw(pair, x).latent_terms.items()}


def test_with_free_bits_the_weights_multiply():
    program, x = ThreeLatents(), data()
    kl = {name: float(value.mean()) for name, value in program.divergences(x).items()}
    least = min(kl, key=kl.get)
    nats = sorted(kl.values())[0] + 1e-3
    gamma = program.gamma(x) | {least: 0.0}
    _, gradient = seeded_gradients(KLBalancing(warmed(Warmup(FreeBits(AnalyticKL(), nats), 10), 4)), program, x)
    _, expected = seeded_gradients(Beta(Beta(AnalyticKL(), gamma), 0.4), program, x)
    torch.testing.assert_close(gradient, expected, rtol=1e-12, atol=1e-12)


def test_the_clock_goes_on_and_is_in_the_checkpoint():
    program, x = ThreeLatents(), data()
    loss = Loss(KLBalancing(Warmup(AnalyticKL(), 4)), program)
    loss(x), loss(x)
    assert loss.state_dict()["control.evaluations"] == 2
    again = Loss(KLBalancing(Warmup(AnalyticKL(), 4)), program)
    again.load_state_dict(loss.state_dict())
    assert again.objective.target == Tabulated("elbo, beta 0.5, KL terms balanced")
    again(x), again(x)
    assert again.objective.target is elbo


def test_eager_and_graph_agree_through_the_warm_up_without_reading_the_host():
    x, found = data(), {}
    for tier in ("off", "graph"):
        loss = compiled(Loss(KLBalancing(Warmup(AnalyticKL(2), 2)), ThreeLatents()), tier)
        loss(x)
        torch.manual_seed(5)
        with NoHostRead():
            found[tier] = [loss.backward(x) for _ in range(3)]
        found[tier] += [p.grad for p in loss.parameters()]
        assert loss.tier_now == tier
    torch.testing.assert_close(found["off"], found["graph"], rtol=1e-12, atol=1e-12)


def test_beside_penalties():
    class Penal(ThreeLatents):
        def guide(self, x):
            pyro.deterministic("size", self.loc["z"].square().expand(len(x)))
            super().guide(x)

    program, x = Penal(), data()
    for make in (
        lambda o: Penalized(KLBalancing(warmed(Warmup(o, 10), 4)), {"size": 2.0}),
        lambda o: KLBalancing(Penalized(warmed(Warmup(o, 10), 4), {"size": 2.0})),
    ):
        _, gradient = seeded_gradients(make(AnalyticKL()), program, x)
        _, without = seeded_gradients(KLBalancing(warmed(Warmup(AnalyticKL(), 10), 4)), program, x)
        rise = (gradient - without).abs()
        assert rise.max() == pytest.approx(4 * LOC["z"]) and (rise > 1e-9).sum() == 1


def test_what_it_cannot_weigh_is_refused_in_words():
    with pytest.raises(ObjectiveError, match="only while a warm-up raises their weight"):
        KLBalancing(AnalyticKL())
    with pytest.raises(ObjectiveError, match="of which iwae has none"):
        KLBalancing(Warmup(Pathwise(iwae, 2), 10))
    with pytest.raises(ObjectiveError, match="TraceMeanField_ELBO|PyroObjective"):
        KLBalancing(PyroObjective(pyro.infer.TraceMeanField_ELBO()))
    with pytest.raises(ObjectiveError, match="the guide has only 'z'"):
        Loss(KLBalancing(Warmup(AnalyticKL(), 10)), VAE(3, 2, (4,)))(two_data())
