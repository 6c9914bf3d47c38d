"""A program that changes after its first batch is checked anew, and nothing found before is believed."""

from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import RenyiELBO, TraceGraph_ELBO
from torch import Tensor, nn

from pplvm.bounds import elbo
from pplvm.evaluation.likelihood import importance_sampled
from pplvm.graphs.compiled import compiled
from pplvm.objectives.antithetic import DisARM
from pplvm.objectives.control_variates import REBAR, MuProp
from pplvm.objectives.local_expectation import LocalExpectation
from pplvm.objectives.measure_valued import MeasureValued
from pplvm.objectives.objective import Loss, ObjectiveError
from pplvm.objectives.path_gradients import DoublyReparameterized, StickTheLanding
from pplvm.objectives.pathwise import AnalyticKL, Pathwise
from pplvm.objectives.pyro_objective import PyroObjective
from pplvm.objectives.score_function import LeaveOneOut, ScoreFunction
from pplvm.objectives.tempered import Beta, Warmup
from pplvm.objectives.wake_sleep import ReweightedWakeSleep
from pplvm.particles.contract import ProgramError
from tests.problems import Forced, exact_gradient, per_row_gradients, states_of


class SemiSupervised(nn.Module):
    """y ~ Cat(pi), z ~ N(0, 1), x | y, z ~ N(mu_y + z, 1); labels y may be given.

    The guide is q(y | x) = Cat(x e), q(z | x, y) = N(x / 2 + y m, s).
    """

    def __init__(self) -> None:
        super().__init__()
        self.pi = nn.Parameter(torch.tensor([0.2, -0.4, 0.1]))
        self.mu = nn.Parameter(torch.tensor([-1.0, 0.3, 1.7]))
        self.e = nn.Parameter(torch.tensor([-0.7, 0.2, 0.8]))
        self.m = nn.Parameter(torch.tensor([0.3, 0.0, -0.5]))
        self.log_s = nn.Parameter(torch.tensor(-0.3))

    def model(self, x: Tensor, y: Tensor | None = None) -> None:
        with pyro.plate("batch", len(x)):
            y = pyro.sample("y", dist.OneHotCategorical(logits=self.pi), obs=y)
            z = pyro.sample("z", dist.Normal(torch.zeros_like(x), 1.0))
            pyro.sample("x", dist.Normal(y @ self.mu + z, 1.0), obs=x)

    def guide(self, x: Tensor, y: Tensor | None = None) -> None:
        with pyro.plate("batch", len(x)):
            if y is None:
                y = pyro.sample("y", dist.OneHotCategorical(logits=x[:, None] * self.e))
            pyro.sample("z", dist.Normal(x / 2 + y @ self.m, self.log_s.exp()))

    def elbo(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """In closed form, (B,)."""
        if y is not None:
            m, s = x / 2 + y @ self.m, self.log_s.exp()
            data = dist.Normal(y @ self.mu + m, 1.0).log_prob(x) - s**2 / 2
            return y @ self.pi.log_softmax(0) + data - (m**2 + s**2 - 1) / 2 + self.log_s
        log_q = (x[:, None] * self.e).log_softmax(-1)  # (B, 3)
        given = torch.stack([self.elbo(x, code.expand(len(x), 3)) for code in torch.eye(3)], -1)
        return (log_q.exp() * (given - log_q)).sum(-1)


RULES = {
    "leave one out": lambda: LeaveOneOut(elbo, 2),
    "score": lambda: ScoreFunction(),
    "DisARM": lambda: DisARM(),
    "MuProp": lambda: MuProp(),
    "REBAR": lambda: REBAR(),
    "local": lambda: LocalExpectation(),
    "measure-valued": lambda: MeasureValued(),
}


def checked(objective, program, *args):
    """The program as the objective knows it in the state that it is in now."""
    return objective._checked(program.model, program.guide, args, {})


def mean_and_error(samples: Tensor) -> tuple[Tensor, Tensor]:
    return samples.mean(0), samples.std(0) / len(samples) ** 0.5


@pytest.mark.parametrize("labelled_first", [True, False])
@pytest.mark.parametrize("rule", RULES)
def test_labels_may_come_and_go(rule, labelled_first):
    program, objective, groups, each = SemiSupervised(), RULES[rule](), 100, 40
    parameters = list(program.parameters())
    x, y = torch.tensor([0.9]), torch.eye(3)[[2]]
    batches = [(x, y), (x,)] if labelled_first else [(x,), (x, y)]
    for args in (*batches, *batches):
        rows = [row.repeat(groups * each, *[1] * (row.dim() - 1)) for row in args]
        estimate = objective.estimate(checked(objective, program, *rows), *rows)
        gradient, error = mean_and_error(
            per_row_gradients(estimate.surrogate.reshape(groups, each).mean(1), parameters)
        )
        expected = per_row_gradients(program.elbo(*args), parameters)[0]
        assert ((gradient - expected).abs() <= 4.5 * error + 1e-9).all()
        value, error = mean_and_error(estimate.value)
        assert abs(value - program.elbo(*args)) <= 4.5 * error + 1e-9


def test_labels_come_and_go_in_a_graph():
    program = SemiSupervised()
    x, y = torch.tensor([-1.2, 0.3, 1.9]), torch.eye(3)[[0, 1, 2]]
    step = compiled(Loss(DisARM(), program), "graph")
    for args in ((x, y), (x,), (x, y), (x,)):
        torch.manual_seed(0)
        value = step.backward(*args)
        torch.manual_seed(0)
        assert torch.allclose(value, step.loss(*args))
        assert step.tier_now == "graph"


DECIDES = {
    "a number": None,
    "the data": lambda x: x.mean() > 0.5,
    "rows chosen by a mask": lambda x: len(x[x > 0.5]) > 0,
    "places found": lambda x: len((x > 0.5).nonzero()) > 0,
    "kinds of values": lambda x: len(torch.unique(torch.cat([x.flatten(), x.new_zeros(1)]))) > 1,
    "what it contains": lambda x: 1.0 in x,
    "the size of the batch": lambda x: len(x) > 1,
    "the width of the data": lambda x: x.shape[1] > 1,
}
"""Whether the second latent joins the decoder; `stage` says so where nothing is given."""


class Curriculum(nn.Module):
    """Two binary latents, of which the second joins the decoder as `stage` says, or as the data say."""

    def __init__(self, decides: str = "a number") -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.tensor([0.4, -0.8]))
        self.weights = nn.Parameter(torch.tensor([1.3, -2.1, 0.7]))
        self.stage, self.decides = 0, DECIDES[decides]

    def joined(self, x: Tensor) -> bool:
        return bool(self.decides(x)) if self.decides else self.stage > 0

    def model(self, x: Tensor) -> None:
        with pyro.plate("batch", len(x)):
            a = pyro.sample("a", dist.Bernoulli(0.5 * torch.ones(len(x))))
            b = pyro.sample("b", dist.Bernoulli(0.3 * torch.ones(len(x))))
            both = self.weights[1] * b + self.weights[2] * a * b
            logits = self.weights[0] * a + (both if self.joined(x) else 0.0)
            pyro.sample("x", dist.Bernoulli(logits=logits.unsqueeze(-1)).to_event(1), obs=x[:, :1])

    def guide(self, x: Tensor) -> None:
        with pyro.plate("batch", len(x)):
            pyro.sample("a", dist.Bernoulli(logits=self.logits[0].expand(len(x))))
            pyro.sample("b", dist.Bernoulli(logits=self.logits[1].expand(len(x))))


def exact_mean(objective, program, x: Tensor) -> Tensor:
    """The objective's mean gradient over all of the guide's draws, as it knows the program now."""
    pair = checked(objective, program, x)
    values, _, log_q = states_of(pair, x)
    K = objective.num_particles
    tuples = torch.cartesian_prod(*[torch.arange(len(log_q))] * K).reshape(-1, K).T  # (K, T)
    probability = log_q[:, 0].detach()[tuples].sum(0).exp()
    with Forced({name: v[tuples] if K > 1 else v[tuples[0]] for name, v in values.items()}):
        surrogate = objective.estimate(pair, x.expand(tuples.shape[1], -1)).surrogate
    return per_row_gradients((probability @ surrogate).reshape(1), list(program.parameters()))[0]


ON_CURRICULUM = {
    "leave one out": lambda: LeaveOneOut(elbo, 2),
    "score": lambda: ScoreFunction(),
    "local": lambda: LocalExpectation(),
}


@pytest.mark.parametrize("decides", [name for name in DECIDES if name != "the size of the batch"])
@pytest.mark.parametrize("rule", ON_CURRICULUM)
def test_a_latent_that_joins_the_decoder_later_is_credited(rule, decides):
    program, objective = Curriculum(decides), ON_CURRICULUM[rule]()
    exact_mean(objective, program, torch.zeros(1, 1))
    x = torch.ones(1, 2 if decides == "the width of the data" else 1)
    if decides == "a number":
        program.stage = 1
    expected, _ = exact_gradient(program, x, elbo, 1)
    assert torch.allclose(exact_mean(objective, program, x), expected, atol=1e-12)


def test_a_latent_that_joins_in_larger_batches_is_credited():
    program, x = Curriculum("the size of the batch"), torch.ones(200, 1)
    loss, fresh = (Loss(ScoreFunction(), program) for _ in range(2))
    loss(x[:1])
    gradients = []
    for each in (loss, fresh):
        torch.manual_seed(0)
        gradients.append(torch.autograd.grad(each(x), [program.logits])[0])
    assert torch.allclose(*gradients)


@pytest.mark.parametrize(
    "options", [lambda on: {"joined": on}, lambda on: [on, "a"], lambda on: on * 1.5], ids=["dict", "list", "number"]
)
def test_a_latent_that_joins_as_an_argument_says_is_credited(options):
    class Told(Curriculum):
        def model(self, x: Tensor, given: Any) -> None:
            joins = given["joined"] if isinstance(given, dict) else given[0] if isinstance(given, list) else given
            self.decides = lambda x: joins
            super().model(x)
            self.decides = None  # the program itself stays as it was

        def guide(self, x: Tensor, given: Any) -> None:
            super().guide(x)

    program, x = Told(), torch.ones(50, 1)
    loss, fresh = (Loss(ScoreFunction(), program) for _ in range(2))
    loss(x, options(False))
    gradients = []
    for each in (loss, fresh):
        torch.manual_seed(0)
        gradients.append(torch.autograd.grad(each(x, options(True)), [program.logits])[0])
    assert torch.allclose(*gradients)


def test_a_latent_that_joins_later_is_credited_in_a_graph():
    program, x = Curriculum(), torch.ones(200, 1)
    loss = Loss(DisARM(), program)
    step = compiled(loss, "graph")
    step.backward(x)
    program.stage = 1
    fresh = Loss(DisARM(), program)
    program.zero_grad()
    torch.manual_seed(1)
    step.backward(x)
    found = torch.cat([p.grad for p in program.parameters()])
    torch.manual_seed(1)
    expected = torch.cat(torch.autograd.grad(fresh(x), list(program.parameters())))
    assert step.tier_now == "graph"
    assert torch.allclose(found, expected)


class Dropout(nn.Module):
    """A Gaussian guide with dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Dropout(0.5), nn.Linear(8, 1))

    def model(self, x: Tensor) -> None:
        with pyro.plate("batch", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(len(x)), 1.0))
            pyro.sample("x", dist.Normal(z.unsqueeze(-1).expand(*z.shape, 2), 1.0).to_event(1), obs=x)

    def guide(self, x: Tensor) -> None:
        with pyro.plate("batch", len(x)):
            pyro.sample("z", dist.Normal(self.encoder(x).squeeze(-1), 0.5))


@pytest.mark.parametrize("objective", [StickTheLanding(), DoublyReparameterized(num_particles=1)], ids=["STL", "DReG"])
def test_what_held_in_eval_mode_is_looked_at_again_in_train_mode(objective):
    program, x = Dropout(), torch.randn(4, 2)
    loss = Loss(objective, program).eval()
    loss(x)
    with pytest.raises(ObjectiveError, match="random beyond its sites"):
        loss.train()(x)
    loss.eval()(x)


class Branching(nn.Module):
    """Above zero on average, the data bring a latent, another likelihood, or nothing new."""

    def __init__(self, brings: str) -> None:
        super().__init__()
        self.loc = nn.Parameter(torch.zeros(()))
        self.brings = brings

    def model(self, x: Tensor) -> None:
        with pyro.plate("batch", len(x)):
            is_positive = self.brings == "another prior" and x.mean() > 0
            z = pyro.sample("z", (dist.LogNormal if is_positive else dist.Normal)(torch.zeros(len(x)), 1.0))
            if self.brings == "a latent" and x.mean() > 0:
                z = z + pyro.sample("more", dist.Normal(torch.zeros(len(x)), 1.0))
            if self.brings == "a support" and x.mean() > 0:
                pyro.sample("x", dist.Poisson(z.exp()), obs=x)
            else:
                pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    def guide(self, x: Tensor) -> None:
        with pyro.plate("batch", len(x)):
            pyro.sample("z", dist.Normal(self.loc + x / 2, 0.7))


BROKEN = {
    "a latent": "the guide has no site 'more'",
    "a support": "'x' gives its value no density",
    "another prior": "site 'z' has support",
}


@pytest.mark.parametrize("brings", BROKEN)
@pytest.mark.parametrize("rule", [Pathwise, AnalyticKL, StickTheLanding, ReweightedWakeSleep])
def test_a_later_batch_is_checked_as_the_first(brings, rule):
    low, high = torch.tensor([-0.5, -0.2, -0.9]), torch.tensor([0.5, 0.25, 1.5])
    loss = Loss(rule(num_particles=2), Branching(brings))
    loss(low)
    with pytest.raises(ProgramError, match=BROKEN[brings]):
        loss(high)
    loss(low)
    with pytest.raises(ProgramError, match=BROKEN[brings]):
        importance_sampled(loss.program, torch.cat([low, high]), ks=(10,))


class Growing(Branching):
    """Above zero on average, model and guide share one more latent; each elbo is known."""

    def guide(self, x: Tensor) -> None:
        with pyro.plate("batch", len(x)):
            pyro.sample("z", dist.Normal(x / 2, 0.5**0.5))
            if x.mean() > 0:
                pyro.sample("more", dist.Normal(self.loc.expand(len(x)), 1.0))

    def elbo(self, x: Tensor) -> Tensor:
        """With the posterior of z given more = 0, (B,)."""
        plain = dist.Normal(0.0, 2**0.5).log_prob(x)
        return plain - 0.5 if x.mean() > 0 else plain


ON_GROWING = {
    "pathwise": lambda: Pathwise(elbo, 2),
    "analytic KL": lambda: AnalyticKL(),
    "STL": lambda: StickTheLanding(),
    "leave one out": lambda: LeaveOneOut(elbo, 2),
    "beta": lambda: Beta(AnalyticKL(), 0.5),
    "warm-up of a beta": lambda: Warmup(Beta(Pathwise(), {"z": 0.5}), 10),
    "Pyro's": lambda: PyroObjective(TraceGraph_ELBO()),
}


@pytest.mark.parametrize("name", ON_GROWING)
def test_a_latent_that_both_bring_with_the_data_is_right(name):
    low, high = -torch.ones(4000), torch.ones(4000)
    loss = Loss(ON_GROWING[name](), Growing("a latent"))
    for x in (low, high, low, high):
        error = 3 * x.numel() ** -0.5
        assert float(loss(x).detach()) == pytest.approx(-float(loss.program.elbo(x).mean()), abs=4.5 * error)


def test_pyros_renyi_is_refused_once_a_discrete_site_comes():
    class Discrete(Growing):
        def model(self, x):
            with pyro.plate("batch", len(x)):
                z = pyro.sample("z", dist.Normal(torch.zeros(len(x)), 1.0))
                more = pyro.sample("more", dist.Bernoulli(0.5 * torch.ones(len(x)))) if x.mean() > 0 else 0.0
                pyro.sample("x", dist.Normal(z + more, 1.0), obs=x)

        def guide(self, x):
            with pyro.plate("batch", len(x)):
                pyro.sample("z", dist.Normal(x / 2, 0.5**0.5))
                if x.mean() > 0:
                    pyro.sample("more", dist.Bernoulli(logits=self.loc.expand(len(x))))

    loss = Loss(PyroObjective(RenyiELBO(num_particles=2)), Discrete("nothing"))
    loss(-torch.ones(3))
    with pytest.raises(ObjectiveError, match="discrete guide site 'more'"):
        loss(torch.ones(3))


def test_what_is_drawn_decides_no_structure():
    class Random(Branching):
        def guide(self, x):
            with pyro.plate("batch", len(x)):
                z = pyro.sample("z", dist.Normal(self.loc + x / 2, 0.7))
                if z.mean() > 0:
                    pyro.sample("aside", dist.Normal(z, 1.0), infer={"is_auxiliary": True})

    loss = Loss(Pathwise(), Random("nothing"))
    with pytest.raises(ProgramError, match="two runs on the same batch differ: .* site 'aside'"):
        for _ in range(50):
            loss(torch.zeros(1))


def test_a_plate_that_is_subsampled_later_counts_its_data_anew():
    class Plated(nn.Module):
        def __init__(self):
            super().__init__()
            self.loc = nn.Parameter(torch.zeros(()))

        def model(self, x, size):
            with pyro.plate("batch", size, subsample=torch.arange(len(x))):
                pyro.sample("z", dist.Normal(torch.zeros(len(x)), 1.0))
                pyro.sample("x", dist.Normal(self.loc, 1.0), obs=x)

        def guide(self, x, size):
            with pyro.plate("batch", size, subsample=torch.arange(len(x))):
                pyro.sample("z", dist.Normal(torch.zeros(len(x)), 1.0))

    x, loss = torch.ones(100), Loss(Pathwise(), Plated())
    expected = -float(dist.Normal(0.0, 1.0).log_prob(torch.ones(())))
    for rows in (100, 10, 100, 20):
        assert float(loss(x[:rows], 100).detach()) == pytest.approx(expected)


class Normalized(nn.Module):
    """Batch norm behind a binary latent: a datum's draw changes other data's densities."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Linear(3, 2)
        self.decoder = nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4), nn.Linear(4, 3))

    def model(self, x: Tensor) -> None:
        with pyro.plate("batch", len(x)):
            z = pyro.sample("z", dist.Bernoulli(0.5 * torch.ones(2)).to_event(1))
            pyro.sample("x", dist.Normal(self.decoder(z), 1.0).to_event(1), obs=x)

    def guide(self, x: Tensor) -> None:
        with pyro.plate("batch", len(x)):
            pyro.sample("z", dist.Bernoulli(logits=self.encoder(x)).to_event(1))


def test_a_guide_that_learns_later_is_looked_at_again():
    loss, x = Loss(MuProp(), Normalized()), torch.randn(5, 3)
    loss.program.encoder.requires_grad_(False)
    loss(x)
    loss.program.encoder.requires_grad_(True)
    with pytest.raises(ObjectiveError, match="other draws"):
        loss(x)


def test_what_passed_without_gradients_is_looked_at_again_with_them():
    outside = nn.Linear(2, 1)  # which the program does not own, so that nothing holds it still

    class Foreign(Dropout):
        def guide(self, x: Tensor) -> None:
            with pyro.plate("batch", len(x)):
                pyro.sample("z", dist.Normal(outside(x).squeeze(-1), 0.5))

    loss, x = Loss(StickTheLanding(), Foreign()), torch.randn(4, 2)
    with torch.no_grad():
        loss(x)
    with pytest.raises(ObjectiveError, match="cannot hold guide site 'z' still"):
        loss(x)


def test_more_particles_are_checked_once_they_come():
    class Mixing(Dropout):
        def model(self, x: Tensor) -> None:
            with pyro.plate("batch", len(x)):
                z = pyro.sample("z", dist.Normal(torch.zeros(len(x)), 1.0))
                mean = (z - z.mean(0)).unsqueeze(-1).expand(*z.shape, 2) if z.dim() > 1 else x
                pyro.sample("x", dist.Normal(mean, 1.0).to_event(1), obs=x)

    loss, x = Loss(Pathwise(), Mixing().eval()), torch.randn(4, 2)
    loss(x)
    loss.objective.num_particles = 3
    with pytest.raises(ProgramError, match="with K > 1 particles at once"):
        loss(x)
