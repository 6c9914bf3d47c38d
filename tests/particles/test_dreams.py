"""Dreams of an autoregressive decoder of known joint: drawn by its steps, refused without them, whoever asks."""

import itertools

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import Tensor, nn

from pplvm.evaluation.annealing.bidirectional import bidirectional
from pplvm.evaluation.information_bounds import barber_agakov, info_nce_of_dreams
from pplvm.evaluation.samples import prior_samples
from pplvm.graphs.compiled import compiled
from pplvm.objectives.objective import Loss, ObjectiveError
from pplvm.objectives.wake_sleep import ReweightedWakeSleep, WakeSleep
from pplvm.particles.contract import ProgramError
from pplvm.particles.dreams import dream, latent_values, require_dreams
from pplvm.particles.pair import pair_up, sum_sites
from tests.problems import per_row_gradients

X = torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 1.0], [1.0, 1.0, 1.0]], dtype=torch.float64)
EVERY_X = torch.tensor(list(itertools.product([0.0, 1.0], repeat=3)), dtype=torch.float64)


class Reader(nn.Module):
    """z ~ Bernoulli, x_i ~ Bernoulli(logit b_i + v_i z + sum_j<i W_ij x_j), and a guide that reads x linearly."""

    def __init__(self) -> None:
        super().__init__()
        self.W = nn.Parameter(torch.tensor([[0.0, 0.0, 0.0], [3.0, 0.0, 0.0], [-2.0, 2.5, 0.0]]))
        self.v, self.b = nn.Parameter(torch.tensor([1.5, -1.0, 2.0])), nn.Parameter(torch.tensor([-1.0, 0.3, -0.5]))
        self.prior, self.encoder = nn.Parameter(torch.tensor(0.4)), nn.Linear(3, 1)

    def before(self, x: Tensor) -> Tensor:
        return x @ self.W.tril(-1).T

    def model(self, x: Tensor) -> None:
        with pyro.plate("batch", len(x)):
            z = pyro.sample("z", dist.Bernoulli(logits=self.prior))
            logits = self.b + z.unsqueeze(-1) * self.v + self.before(x)
            pyro.sample("x", dist.Bernoulli(logits=logits).to_event(1), obs=x)

    def guide(self, x: Tensor) -> None:
        with pyro.plate("batch", len(x)):
            pyro.sample("z", dist.Bernoulli(logits=self.encoder(x)[..., 0]))


class Stepper(Reader):
    def init_cache(self, latents, num_data):
        return 0, self.b + latents["z"].unsqueeze(-1) * self.v

    def step(self, cache, before):
        i, logits = cache
        if before is not None:
            logits = logits + before.unsqueeze(-1) * self.W[:, i - 1]
        return dist.Bernoulli(logits=logits[:, i]), (i + 1, logits)


class Untrained(Reader):
    """As it stands before its first step, where what it reads of the data is multiplied by zero."""

    def __init__(self) -> None:
        super().__init__()
        nn.init.zeros_(self.W)


class Looker(Reader):
    """Reads them without a gradient."""

    def before(self, x: Tensor) -> Tensor:
        return nn.functional.pad((x[:, :-1] > 0.5).to(x.dtype), (1, 0))


class Spread(Reader):
    """Reads them in its scale alone, so that its mean is that of a model that does not."""

    def model(self, x: Tensor) -> None:
        with pyro.plate("batch", len(x)):
            z = pyro.sample("z", dist.Bernoulli(logits=self.prior))
            scale = (x @ self.W.tril(-1).T).exp()
            pyro.sample("x", dist.Normal(z.unsqueeze(-1) * self.v, scale).to_event(1), obs=x)


class Informed(Reader):
    """Reads them in its prior, which no steps of x can mend."""

    def before(self, x: Tensor) -> Tensor:
        return torch.zeros_like(x)

    def model(self, x: Tensor) -> None:
        with pyro.plate("batch", len(x)):
            z = pyro.sample("z", dist.Bernoulli(logits=self.prior + x[:, 0]))
            pyro.sample("x", dist.Bernoulli(logits=self.b + z.unsqueeze(-1) * self.v).to_event(1), obs=x)


class Innocent(Reader):
    """Takes shape and kind of its data and no more, and is random beyond its sites."""

    def __init__(self) -> None:
        super().__init__()
        self.dropout, self.norm = nn.Dropout(0.5), nn.BatchNorm1d(3)

    def before(self, x: Tensor) -> Tensor:
        return self.norm(self.dropout(torch.ones_like(x) + torch.arange(len(x)).unsqueeze(1)))


DREAMERS = {
    "WakeSleep": lambda p: Loss(WakeSleep(), p)(X),
    "insomnia": lambda p: Loss(ReweightedWakeSleep(2, insomnia=0.5), p)(X),
    "barber_agakov": lambda p: barber_agakov(p, X, draws=10),
    "info_nce_of_dreams": lambda p: info_nce_of_dreams(p, X, batch=4, batches=2),
    "bidirectional": lambda p: bidirectional(p, X, data=2, chains=2, steps=2),
    "prior_samples": lambda p: prior_samples(p, X[:1], 2),
}
REFUSALS = (ObjectiveError, ProgramError, ValueError)


@pytest.mark.parametrize("ask", DREAMERS.values(), ids=DREAMERS)
@pytest.mark.parametrize("program", [Reader, Untrained, Looker, Spread])
def test_a_model_that_reads_its_data_dreams_for_nobody(program, ask):
    with pytest.raises(REFUSALS, match="reads the data before it draws site 'x'.*init_cache and step"):
        ask(program())


@pytest.mark.parametrize("ask", DREAMERS.values(), ids=DREAMERS)
def test_a_prior_that_reads_the_data_is_refused(ask):
    with pytest.raises(REFUSALS, match="reads the data before it draws site 'z'"):
        ask(Informed())


@pytest.mark.parametrize("ask", DREAMERS.values(), ids=DREAMERS)
def test_with_steps_everyone_dreams_and_steps_of_another_distribution_are_refused(ask):
    class Late(Stepper):
        def step(self, cache, before):
            return super().step(cache, None)

    ask(Stepper())
    with pytest.raises(REFUSALS, match="let init_cache and step give each value the model's distribution"):
        ask(Late())


def joint(program: Reader) -> tuple[Tensor, Tensor]:
    """Log p(x, z) and log q(z | x) of every z and x, (2, 8) each, written out."""
    z = torch.tensor([0.0, 1.0]).unsqueeze(1)  # (2, 1)
    logits = program.b + z.unsqueeze(-1) * program.v + EVERY_X @ program.W.tril(-1).T  # (2, 8, 3)
    log_x = dist.Bernoulli(logits=logits).log_prob(EVERY_X).sum(-1)
    log_q = dist.Bernoulli(logits=program.encoder(EVERY_X)[:, 0]).log_prob(z)
    return dist.Bernoulli(logits=program.prior).log_prob(z) + log_x, log_q


def states(z: Tensor, x: Tensor) -> Tensor:
    """The number of each (z, x) in the tables, flattened."""
    return (8 * z + x @ torch.tensor([4.0, 2.0, 1.0])).long()


def test_dreams_by_steps_have_the_models_joint():
    program, N = Stepper(), 20_000
    pair = pair_up(program.model, program.guide, (X,), {})
    trace, x = dream(pair, (X[:1].expand(N, 3),), {})
    counts = torch.bincount(states(latent_values(trace)["z"], x), minlength=16)
    expected = N * joint(program)[0].detach().exp().flatten()
    assert float(((counts - expected).square() / expected).sum()) < 45  # chi square of 15 degrees: 1e-4
    reread = torch.bincount(states(latent_values(trace)["z"], X[:1].expand(N, 3)), minlength=16)
    assert float(((reread - expected).square() / expected).sum()) > 1e4
    log_p = sum_sites(pair.log_probs(trace, 1))[0]
    assert torch.allclose(log_p, joint(program)[0].flatten()[states(latent_values(trace)["z"], x)])


def test_the_sleep_phase_is_that_of_the_joint():
    """The mean over dreams of d log q(z | x), against the sum over all sixteen (z, x)."""
    program, N = Stepper(), 20_000
    log_p, log_q = joint(program)
    guide = list(program.encoder.parameters())
    truth = per_row_gradients((log_p.exp().detach() * log_q).sum().reshape(1), guide)[0]
    loss = Loss(WakeSleep(1), program)
    x = X[:1].expand(N, 3)
    loss(X)
    found = -torch.cat([g.flatten() for g in torch.autograd.grad(loss(x), guide)])  # of N dreams
    by_state, probability = slopes(joint(program)[1], guide), log_p.exp().detach()
    spread = (probability * by_state.square()).sum((-1, -2)) - truth.square()
    assert ((found - truth) / (spread / N).sqrt()).abs().max() < 4.5
    real = by_state[..., 5]  # of the first datum of X, to which a reader's dreams came back
    on = program.prior.sigmoid().detach()
    reread = real @ torch.stack([1 - on, on])
    assert ((reread - truth) / (spread / N).sqrt()).abs().max() > 20


def slopes(log_q: Tensor, guide: list[Tensor]) -> Tensor:
    """By each parameter, of each entry of a table: (P, 2, 8)."""
    return per_row_gradients(log_q.flatten(), guide).T.reshape(-1, *log_q.shape)


def test_a_graph_dreams_what_its_eager_steps_dream():
    program = Stepper()
    stepper = compiled(Loss(WakeSleep(2), program), "graph")
    found = []
    for run in (stepper.backward, lambda x: stepper.loss(x).backward()):
        program.zero_grad()
        for _ in range(2):  # once to check and to trace
            program.zero_grad()
            torch.manual_seed(3)
            run(X)
        found.append(torch.cat([p.grad.flatten() for p in program.parameters()]))
    assert stepper.tier_now == "graph" and torch.allclose(*found, atol=1e-12)


def test_shapes_and_dropout_are_no_reading_and_the_check_leaves_no_trace():
    program = Innocent()
    pair = pair_up(program.model, program.guide, (X,), {})
    buffers, state = {n: b.clone() for n, b in program.named_buffers()}, torch.get_rng_state()
    require_dreams(pair, (X,), {})
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(b, buffers[n]) for n, b in program.named_buffers())
    assert all(module.training for module in program.modules())


def test_deterministic_sites_are_passed_by():
    """A model that goes on with what a deterministic site returns dreams as one without the site."""

    class Recorded(nn.Module):
        def __init__(self, record):
            super().__init__()
            self.record, self.decoder = record, nn.Linear(2, 3)
            self.encoder = nn.Linear(3, 2)

        def model(self, x):
            with pyro.plate("batch", len(x)):
                z = pyro.sample("z", dist.Normal(x.new_zeros(2), 1.0).to_event(1))
                mean = self.decoder(z)
                mean = pyro.deterministic("mean", mean) if self.record else mean
                pyro.sample("x", dist.Normal(mean, 1.0).to_event(1), obs=x)

        def guide(self, x):
            with pyro.plate("batch", len(x)):
                pyro.sample("z", dist.Normal(self.encoder(x), 1.0).to_event(1))

    found, x = [], torch.randn(4, 3)
    for record in (True, False):
        torch.manual_seed(0)
        found.append(Loss(WakeSleep(2), Recorded(record))(x))
    assert torch.equal(*found)
