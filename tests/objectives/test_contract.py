"""What every objective must do, whatever it estimates: one value in Loss, SVI and seed; no host read; refusals."""

import pyro
import pytest
import torch
from pyro.infer import SVI, Trace_ELBO, TraceEnum_ELBO, TraceGraph_ELBO, TraceMeanField_ELBO
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from pplvm.bounds import elbo, iwae, jackknife, renyi, tvo
from pplvm.objectives.antithetic import ARM, ARMS, DisARM
from pplvm.objectives.baselines import LearnedBaseline, MovingAverage
from pplvm.objectives.biased import BiasedConcrete, BiasedStraightThrough, BiasedStraightThroughGumbel
from pplvm.objectives.biased_gumbel_rao import BiasedGumbelRao
from pplvm.objectives.biased_reinmax import BiasedReinMax
from pplvm.objectives.control_variates import REBAR, RELAX, DoubleControlVariate, MuProp
from pplvm.objectives.exact import Exact, PriorSampling
from pplvm.objectives.generalized_dreg import GeneralizedDoublyReparameterized
from pplvm.objectives.local_expectation import LocalExpectation
from pplvm.objectives.measure_valued import MeasureValued
from pplvm.objectives.objective import Loss, Objective, ObjectiveError
from pplvm.objectives.path_gradients import DoublyReparameterized, DoublyReparameterizedWakeSleep, StickTheLanding
from pplvm.objectives.pathwise import AnalyticKL, Pathwise
from pplvm.objectives.per_site import PerSite
from pplvm.objectives.score_function import LeaveOneOut, ScoreFunction
from pplvm.objectives.thermodynamic import Thermodynamic
from pplvm.objectives.total_correlation import TotalCorrelation
from pplvm.objectives.wake_sleep import ReweightedWakeSleep, WakeSleep
from pplvm.particles.contract import ProgramError
from pplvm.particles.draw import draw_particles
from pplvm.programs.sigmoid_belief import SigmoidBeliefNet
from pplvm.programs.vae import VAE

ON_BELIEF_NET = {
    "score": lambda: ScoreFunction(),
    "score, moving average": lambda: ScoreFunction(iwae, 3, MovingAverage()),
    "score, learned": lambda: ScoreFunction(elbo, 3, LearnedBaseline(8)),
    "RLOO": lambda: LeaveOneOut(elbo, 3),
    "VIMCO": lambda: LeaveOneOut(iwae, 3),
    "leave one out, renyi": lambda: LeaveOneOut(renyi(0.3), 3, mean="arithmetic"),
    "exact": lambda: Exact(),
    "prior": lambda: PriorSampling(5),
    "local": lambda: LocalExpectation(),
    "leave one out, TVO": lambda: LeaveOneOut(tvo((0, 0.1, 0.3, 1)), 3),
    "leave one out, jackknife": lambda: LeaveOneOut(jackknife(1), 3),
    "thermodynamic": lambda: Thermodynamic((0, 0.1, 0.3, 1), 3),
    "wake-sleep": lambda: WakeSleep(3),
    "RWS": lambda: ReweightedWakeSleep(3),
    "RWS, half asleep": lambda: ReweightedWakeSleep(3, insomnia=0.5),
    "ARM": lambda: ARM(elbo, 2),
    "ARM, iwae": lambda: ARM(iwae, 3),
    "DisARM": lambda: DisARM(),
    "DisARM, renyi": lambda: DisARM(renyi(0.3), 3),
    "ARMS": lambda: ARMS(3, 2),
    "MuProp": lambda: MuProp(),
    "simple MuProp": lambda: MuProp(linear=False, num_particles=2),
    "REBAR": lambda: REBAR(num_particles=2),
    "RELAX": lambda: RELAX(nn.Linear(2, 1)),
    "double": lambda: DoubleControlVariate(3),
    "measure-valued": lambda: MeasureValued(2),
    "per site": lambda: PerSite({"z_1": REBAR()}, 2),
    "straight-through": lambda: BiasedStraightThrough(),
    "straight-through Gumbel": lambda: BiasedStraightThroughGumbel(num_particles=2),
    "Concrete": lambda: BiasedConcrete(),
    "Gumbel-Rao": lambda: BiasedGumbelRao(num_particles=2),
    "ReinMax": lambda: BiasedReinMax(),
}
ON_VAE = {
    "pathwise": lambda: Pathwise(),
    "pathwise iwae": lambda: Pathwise(iwae, 4),
    "pathwise renyi": lambda: Pathwise(renyi(0.5), 4),
    "analytic": lambda: AnalyticKL(2),
    "STL": lambda: StickTheLanding(2),
    "DReG": lambda: DoublyReparameterized(iwae, 4),
    "DReG renyi": lambda: DoublyReparameterized(renyi(0.5), 4),
    "DReG RWS": lambda: DoublyReparameterizedWakeSleep(4),
    "GDReG": lambda: GeneralizedDoublyReparameterized(4),
    "pathwise TVO": lambda: Pathwise(tvo((0, 0.1, 0.3, 1)), 4),
    "thermodynamic on a path": lambda: Thermodynamic((0, 0.1, 0.3, 1), 4),
    "wake-sleep on a path": lambda: WakeSleep(3),
    "RWS on a path": lambda: ReweightedWakeSleep(3, insomnia=0.5),
    "score on a path": lambda: ScoreFunction(elbo, 2),
    "prior on a path": lambda: PriorSampling(5),
    "measure-valued on a path": lambda: MeasureValued(),
    "beta-TCVAE": lambda: TotalCorrelation(AnalyticKL(2), 6.0),
    "per site on a path": lambda: PerSite({"z": MeasureValued()}, 2),
}
EVERY = [("belief net", name) for name in ON_BELIEF_NET] + [("VAE", name) for name in ON_VAE]


def objective_and_program(kind: str, name: str) -> tuple[Objective, torch.nn.Module]:
    torch.manual_seed(1)
    if kind == "VAE":
        return ON_VAE[name](), VAE(8, 2, (5,))
    return ON_BELIEF_NET[name](), SigmoidBeliefNet(8, (2, 3))


@pytest.fixture
def x():
    return (torch.rand(6, 8, generator=torch.Generator().manual_seed(2)) < 0.4).double()


class NoHostRead(TorchDispatchMode):
    """Fails on whatever waits for a tensor's value on the host."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        assert func not in (
            torch.ops.aten._local_scalar_dense.default,
            torch.ops.aten.nonzero.default,
            torch.ops.aten.is_nonzero.default,
            torch.ops.aten.equal.default,
        ), f"{func} reads a tensor back to the host"
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("kind, name", EVERY)
def test_no_host_read(kind, name, x):
    loss = Loss(*objective_and_program(kind, name))
    loss(x)  # the first batch is checked
    with NoHostRead():
        loss(x).backward()


def test_the_host_read_test_has_power(x):
    loss = Loss(Trace_ELBO(), SigmoidBeliefNet(8))
    with NoHostRead(), pytest.raises(AssertionError, match="_local_scalar_dense"):
        loss(x)


@pytest.mark.parametrize("registered", [False, True])
@pytest.mark.parametrize("kind, name", EVERY)
def test_one_value_in_loss_svi_and_seed(kind, name, registered, x):
    objective, program = objective_and_program(kind, name)
    loss = Loss(objective, program)
    torch.manual_seed(7)
    value = loss(x)  # with the check of the first batch, which must not move the stream
    gradients = torch.autograd.grad(value, list(program.parameters()), allow_unused=True)

    again, _ = objective_and_program(kind, name)  # a fresh baseline
    before = [p.detach().clone() for p in program.parameters()]
    torch.manual_seed(7)
    if name == "score, learned":
        again.control.load_state_dict(loss.control.state_dict() | fresh_average(again))
    model = pyro_registered(program) if registered else program.model
    svi = SVI(model, program.guide, pyro.optim.SGD({"lr": 1.0}), again)
    torch.manual_seed(7)
    assert svi.step(x) / len(x) == pytest.approx(float(value.detach()), rel=1e-12)
    for gradient, old, new in zip(gradients, before, program.parameters(), strict=True):
        moved = old - new.detach()
        expected = torch.zeros_like(moved) if gradient is None else gradient * len(x)
        assert torch.allclose(moved, expected, atol=1e-9)
    pyro.clear_param_store()


def fresh_average(objective):
    return {k: v for k, v in objective.control.state_dict().items() if k.startswith("average")}


def pyro_registered(program):
    """A model that tells SVI of its module's parameters."""

    def model(x):
        pyro.module("program", program)
        return program.model(x)

    return model


@pytest.mark.parametrize("kind, name", EVERY)
def test_the_value_is_a_bound(kind, name, x):
    """Minus the loss, averaged, is at most log p(x) (by sampling from the prior, where it is not enumerable)."""
    objective, program = objective_and_program(kind, name)
    loss = Loss(objective, program)
    if "renyi" in name:
        pytest.skip("a Renyi bound of order below 1 is one for K to infinity, not for every K")
    with torch.no_grad():
        values = -torch.stack([loss(x) for _ in range(60)])
        exact = -Loss(Exact() if kind != "VAE" else Pathwise(iwae, 5_000), program)(x)
    assert values.mean() < exact + 4 * values.std() / 60**0.5 + 1e-9


@pytest.mark.parametrize("kind, name", EVERY)
def test_parameters_of_the_program_and_no_others_get_gradients(kind, name, x):
    objective, program = objective_and_program(kind, name)
    loss = Loss(objective, program)
    loss(x).backward()
    without = {n for n, p in loss.named_parameters() if p.grad is None or not p.grad.any()}
    blind = {"exact", "prior", "prior on a path"}  # these never run the guide
    expected = {n for n, _ in loss.named_parameters() if "encoder" in n} if name in blind else set()
    assert without == expected


def test_learned_baseline_is_fitted_to_the_signal_only(x):
    torch.manual_seed(0)
    program, baseline = SigmoidBeliefNet(8, (2,)), LearnedBaseline(8)
    loss = Loss(ScoreFunction(elbo, 2, baseline), program)
    assert {n.split(".")[0] for n, _ in loss.named_parameters()} == {"program", "control"}
    optimizer = torch.optim.Adam(loss.control.parameters(), lr=0.03)
    before = [p.clone() for p in program.parameters()]
    for _ in range(150):
        loss.zero_grad()
        loss(x).backward()
        optimizer.step()
    with torch.no_grad():
        truth = draw_particles(program.model, program.guide, x, num_particles=5000).log_weights.mean(0)
        assert torch.corrcoef(torch.stack([baseline(x), truth]))[0, 1] > 0.9
    assert all(torch.equal(a, b) for a, b in zip(before, program.parameters(), strict=True))


def test_moving_average_never_uses_the_present_signal():
    average = MovingAverage(0.5)
    assert float(average()) == 0
    average.observe(torch.tensor([[4.0]]))
    assert float(average()) == 4.0  # no bias towards the start at zero
    average.observe(torch.tensor([[1.0]]))
    assert float(average()) == pytest.approx((0.5 * 4 + 1) / 1.5)
    average.eval().observe(torch.tensor([[100.0]]))
    assert float(average()) == pytest.approx(2.0)


@pytest.mark.parametrize("bad", [0, -1, 2.5, "3", True])
def test_particles_are_counted_from_one(bad):
    for kind in (
        lambda n: Pathwise(elbo, n),
        lambda n: ScoreFunction(elbo, n),
        PriorSampling,
        StickTheLanding,
    ):
        with pytest.raises(ObjectiveError, match="num_particles must be"):
            kind(bad)


def test_leave_one_out_needs_two():
    with pytest.raises(ObjectiveError, match="at least 2, got 1"):
        LeaveOneOut(elbo, 1)
    with pytest.raises(ObjectiveError, match="geometric"):
        LeaveOneOut(elbo, 2, mean="harmonic")


@pytest.mark.parametrize("make", [Pathwise, AnalyticKL, StickTheLanding, DoublyReparameterized])
def test_paths_are_required_where_the_gradient_follows_them(make, x):
    with pytest.raises(ObjectiveError, match="'z_1'.*silently biased.*LeaveOneOut"):
        Loss(make(), SigmoidBeliefNet(8, (2,)))(x)


def test_pathwise_iwae_of_a_guide_without_parameters_is_importance_sampling(x):
    """Nothing to learn in the discrete guide: the objective is exact for the model, and tends to log p(x)."""
    program = SigmoidBeliefNet(8, (2,))
    for encoder in program.encoders:
        encoder.requires_grad_(False)
    loss = Loss(Pathwise(iwae, 3000), program)
    exact = Loss(Exact(), program)
    ours, theirs = (torch.autograd.grad(f(x), list(program.decoders.parameters())) for f in (loss, exact))
    assert all(torch.allclose(a, b, atol=0.02) for a, b in zip(ours, theirs, strict=True))


def test_stopping_the_guide_needs_its_owner(x):
    def guide(x):
        with pyro.plate("batch", len(x)):
            pyro.sample("z", pyro.distributions.Normal(torch.zeros(len(x), 2), 1.0).to_event(1))

    with pytest.raises(ObjectiveError, match="method of the nn.Module that owns them"):
        StickTheLanding().differentiable_loss(VAE(8, 2, (5,)).model, guide, x)


def test_exact_needs_something_to_sum_out(x):
    with pytest.raises(ObjectiveError, match="no discrete latent to sum out"):
        Loss(Exact(), VAE(8, 2, (5,)))(x)


def test_loss_refuses_what_it_cannot_hold():
    with pytest.raises(TypeError, match="no program: an nn.Module with model"):
        Loss(Pathwise(), torch.nn.Linear(2, 2))
    with pytest.raises(TypeError, match="no objective"):
        Loss(elbo, SigmoidBeliefNet(8))
    with pytest.raises(ObjectiveError, match=r"wrap it: PyroObjective\(TraceGraph_ELBO\(\)\)"):
        Loss(TraceGraph_ELBO(), SigmoidBeliefNet(8))


def test_a_second_program_is_checked_too(x):
    objective = LeaveOneOut(elbo, 2)
    Loss(objective, SigmoidBeliefNet(8, (2,)))(x)

    class Broken(SigmoidBeliefNet):
        def guide(self, x):
            pass

    with pytest.raises(ProgramError, match="guide has no site 'z_1'"):
        Loss(objective, Broken(8, (2,)))(x)


@pytest.mark.parametrize("make", [Trace_ELBO, TraceMeanField_ELBO])
def test_pyros_own_in_a_loss(make, x):
    program = VAE(8, 2, (5,))
    ours = Loss(AnalyticKL() if make is TraceMeanField_ELBO else Pathwise(), program)
    ours(x)
    values = []
    for loss in (Loss(make(), program), ours):
        torch.manual_seed(4)
        value = loss(x)
        values.append((value, torch.autograd.grad(value, list(program.parameters()))))
    assert torch.allclose(values[0][0], values[1][0], rtol=1e-12)
    for theirs, mine in zip(values[0][1], values[1][1], strict=True):
        assert torch.allclose(theirs, mine, atol=1e-12)


def test_exact_is_pyros_enumeration_where_pyro_can(x):
    """A scalar discrete site a datum, which TraceEnum_ELBO sums out as well."""
    from pplvm.programs.mixture import MixtureOfGaussians

    program = MixtureOfGaussians(8)
    model = pyro.infer.config_enumerate(program.model)
    theirs = TraceEnum_ELBO(max_plate_nesting=1).differentiable_loss(model, lambda x: None, x)
    ours = Exact().differentiable_loss(program.model, program.guide, x)
    assert torch.allclose(ours, theirs)
    wanted = [p for n, p in program.named_parameters() if "classifier" not in n]
    for a, b in zip(torch.autograd.grad(ours, wanted), torch.autograd.grad(theirs, wanted), strict=True):
        assert torch.allclose(a, b)


def test_exact_with_a_continuous_latent_collapses_the_discrete_one():
    """z discrete, y | z Gaussian, x | y Gaussian; the guide has y alone: the value is the collapsed elbo."""
    import pyro.distributions as dist

    logits, locs = torch.tensor([0.3, -0.2, 0.5]), torch.tensor([-1.0, 0.0, 2.0])

    class Collapsed(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.slope = torch.nn.Parameter(torch.tensor(0.7))

        def model(self, x):
            with pyro.plate("batch", len(x)):
                z = pyro.sample("z", dist.Categorical(logits=logits))
                y = pyro.sample("y", dist.Normal(locs[z], 0.5))
                pyro.sample("x", dist.Normal(y, 1.0), obs=x)

        def guide(self, x):
            with pyro.plate("batch", len(x)):
                pyro.sample("y", dist.Normal(self.slope * x, 0.8))

    x, program, objective = torch.tensor([0.5, -1.5]), Collapsed(), Exact(num_particles=4)
    objective.differentiable_loss(program.model, program.guide, x)
    torch.manual_seed(0)
    value = -objective.differentiable_loss(program.model, program.guide, x)
    torch.manual_seed(0)
    y = program.slope * x + 0.8 * torch.randn(4, 2)
    prior = (torch.log_softmax(logits, 0) + dist.Normal(locs, 0.5).log_prob(y[..., None])).logsumexp(-1)
    log_w = prior + dist.Normal(y, 1.0).log_prob(x) - dist.Normal(program.slope * x, 0.8).log_prob(y)
    assert torch.allclose(value, log_w.mean(0).sum())
    assert objective.target is elbo


def test_svi_trains_a_learned_baseline_too(x):
    baseline = LearnedBaseline(8)
    program = SigmoidBeliefNet(8, (2,))
    before = [p.detach().clone() for p in baseline.parameters()]
    SVI(program.model, program.guide, pyro.optim.Adam({"lr": 0.1}), ScoreFunction(elbo, 2, baseline)).step(x)
    assert all((a != b).any() for a, b in zip(before, baseline.parameters(), strict=True))


def with_plate(size_of):
    """A belief net whose batch plate stands for more data than it is given."""

    class Subsampled(SigmoidBeliefNet):
        def model(self, x):
            with pyro.plate("batch", *size_of(x)):
                z = pyro.sample("z_1", pyro.distributions.Bernoulli(logits=self.prior_logits).to_event(1))
                logits = self.decoders[0](2 * z - 1)
                pyro.sample("x", pyro.distributions.Bernoulli(logits=logits).to_event(1), obs=x)

        def guide(self, x):
            with pyro.plate("batch", *size_of(x)):
                logits = self.encoders[0](x - self.centre)
                pyro.sample("z_1", pyro.distributions.Bernoulli(logits=logits).to_event(1))

    torch.manual_seed(0)
    return Subsampled(8, (2,))


def test_a_baseline_learns_as_fast_under_a_subsampled_plate(x):
    """N/B cancels in what it learns, as in the program's gradient."""
    found = []
    for size_of in (lambda x: (len(x),), lambda x: (60, None, torch.arange(len(x)))):
        torch.manual_seed(3)
        loss = Loss(ScoreFunction(elbo, 2, LearnedBaseline(8)), with_plate(size_of))
        torch.manual_seed(4)
        found.append(torch.autograd.grad(loss(x), list(loss.control.parameters())))
    assert all(torch.allclose(a, b) and a.any() for a, b in zip(*found, strict=True))


@pytest.mark.parametrize("make", [*ON_BELIEF_NET.values(), Trace_ELBO])
def test_a_subsampled_plate_leaves_nats_per_datum(make, x):
    """N/B multiplies the loss (as SVI sees it), and cancels in the Loss, value and gradient, for Pyro's own too."""
    values = []
    for size_of in (lambda x: (len(x),), lambda x: (60, None, torch.arange(len(x)))):
        torch.manual_seed(3)
        loss = Loss(make(), with_plate(size_of))
        loss(x)
        if loss.control is not None:
            loss.control.eval()
        torch.manual_seed(4)
        value = loss(x)
        whole = loss.objective.differentiable_loss(loss.program.model, loss.program.guide, x)
        values.append((value, torch.autograd.grad(value, list(loss.program.decoders.parameters()))))
        torch.manual_seed(4)
        whole = loss.objective.differentiable_loss(loss.program.model, loss.program.guide, x)
        assert torch.allclose(whole, value * (len(x) if len(values) == 1 else 60))
    assert torch.allclose(values[0][0], values[1][0])
    assert all(torch.allclose(a, b) for a, b in zip(values[0][1], values[1][1], strict=True))


@pytest.mark.parametrize("around", ["the site", "the distribution", "its coordinates"])
def test_masked_draws_keep_their_score(around):
    """A mask hides a latent's density, not that it was drawn: its parameters still learn from the likelihood."""
    import pyro.distributions as dist

    mask = torch.tensor([True, False])

    def draw(fn):
        if around == "the site":
            with pyro.poutine.mask(mask=mask):
                return pyro.sample("z", fn)
        if around == "the distribution":
            return pyro.sample("z", fn.mask(mask))
        column = dist.Bernoulli(logits=fn.logits.unsqueeze(-1))  # (B, 1)
        return pyro.sample("z", column.mask(mask.unsqueeze(-1)).to_event(1))

    class Masked(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.logits = torch.nn.Parameter(torch.tensor([0.3, -0.5]))

        def model(self, x):
            with pyro.plate("batch", len(x)):
                z = draw(dist.Bernoulli(torch.full((2,), 0.5)))
                z = z.squeeze(-1) if around == "its coordinates" else z
                pyro.sample("x", dist.Normal(3 * z, 1.0), obs=x)

        def guide(self, x):
            with pyro.plate("batch", len(x)):
                draw(dist.Bernoulli(logits=self.logits))

    program, x = Masked(), torch.tensor([1.0, 2.0])
    f = dist.Normal(torch.tensor([[0.0], [3.0]]), 1.0).log_prob(x)  # (2 states, 2 data)
    q = torch.sigmoid(program.logits.detach())
    entropy_slope = -(program.logits.detach() * q * (1 - q)) * torch.tensor([1.0, 0.0])
    truth = (f[1] - f[0]) * q * (1 - q) + entropy_slope
    for objective in (LeaveOneOut(elbo, 20), ScoreFunction(elbo, 20)):
        loss = Loss(objective, program)
        found = torch.stack([torch.autograd.grad(-loss(x), [program.logits])[0] for _ in range(300)]) * len(x)
        error = found.std(0) / 300**0.5
        assert ((found.mean(0) - truth) / error).abs().max() < 4.5
        assert truth[1].abs() > 10 * error[1]  # a score that the mask hides would leave zero


class Dropping(VAE):
    def guide(self, x):
        hidden = torch.nn.functional.dropout(x, 0.5, self.training)
        super().guide(hidden)


@pytest.mark.parametrize("make", [StickTheLanding, DoublyReparameterized])
def test_a_guide_with_dropout_is_refused_where_it_is_run_twice(make, x):
    program = Dropping(8, 2, (5,))
    with pytest.raises(ObjectiveError, match="random beyond its sites"):
        Loss(make(), program)(torch.ones_like(x))
    Loss(make(), program.eval())(x)
    Loss(Pathwise(), program.train())(x)


@pytest.mark.parametrize("make", [StickTheLanding, DoublyReparameterized])
def test_a_guide_with_foreign_parameters_is_refused(make, x):
    class Hidden(VAE):
        def __init__(self):
            super().__init__(8, 2, (5,))
            self.nets = [torch.nn.Linear(8, 2)]  # a plain list registers nothing

        def guide(self, x):
            with pyro.plate("batch", len(x)):
                pyro.sample("z", pyro.distributions.Normal(self.nets[0](x), 1.0).to_event(1))

    with pytest.raises(ObjectiveError, match="the program does not own"):
        Loss(make(), Hidden())(x)


def test_doubly_reparameterized_refuses_delta_sites(x):
    class Point(VAE):
        def guide(self, x):
            with pyro.plate("batch", len(x)):
                pyro.sample("z", pyro.distributions.Delta(self.encoder(x)[..., :2]).to_event(1))

    with pytest.raises(ObjectiveError, match="Delta, which has none"):
        Loss(DoublyReparameterized(iwae, 3), Point(8, 2, (5,)))(x)


def test_a_pyro_modules_parameters_are_held_still():
    """PyroParam reads its value through Pyro: stick-the-landing must not find the live one there."""
    import pyro.distributions as dist
    from pyro.nn import PyroModule, PyroParam

    class Guided(PyroModule):
        def __init__(self):
            super().__init__()
            self.loc = PyroParam(torch.tensor(0.0))
            self.scale = PyroParam(torch.tensor(0.5**0.5), constraint=dist.constraints.positive)

        def model(self, x):
            with pyro.plate("batch", len(x)):
                z = pyro.sample("z", dist.Normal(0.0, 1.0))
                pyro.sample("x", dist.Normal(z, 1.0), obs=x)

        def guide(self, x):
            with self._pyro_context, pyro.plate("batch", len(x)):
                pyro.sample("z", dist.Normal(x / 2 + self.loc, self.scale))

    program, x = Guided(), torch.tensor([0.4, -1.0])
    for objective in (StickTheLanding(3), DoublyReparameterized(iwae, 3)):
        loss = Loss(objective, program)
        for _ in range(5):
            found = torch.autograd.grad(loss(x), list(program.parameters()))
            assert max(g.abs().max() for g in found) < 1e-12  # the guide is the posterior: no variance at all
