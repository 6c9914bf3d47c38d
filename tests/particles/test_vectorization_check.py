"""Programs that are right at one particle and mix several, and programs that only look as if they did."""

from dataclasses import replace

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.distributions.transforms import Planar
from torch import nn
from torch.nn import functional as F

from pplvm.bounds import elbo
from pplvm.networks.dense import MLP
from pplvm.networks.leading_dims import LeadingDims
from pplvm.objectives.exact import Exact
from pplvm.objectives.local_expectation import LocalExpectation
from pplvm.objectives.objective import Loss
from pplvm.objectives.pathwise import Pathwise
from pplvm.objectives.score_function import ScoreFunction
from pplvm.particles.contract import ProgramError
from pplvm.particles.draw import draw_particles
from pplvm.particles.enumeration import enumerate_model
from pplvm.particles.pair import draw_from_pair, pair_up
from pplvm.particles.vectorization_check import why_data_interact, why_particles_interact, why_states_interact
from pplvm.programs.mixture import MixtureOfGaussians
from pplvm.programs.ppca import ProbabilisticPCA
from pplvm.programs.sigmoid_belief import SigmoidBeliefNet
from pplvm.programs.vae import VAE

B, D = 5, 4


class Decoder(nn.Module):
    """Base of decoders (z, x) -> mean of x."""

    def __init__(self, **layers):
        super().__init__()
        for name, layer in layers.items():
            setattr(self, name, layer)


class Story(nn.Module):
    """z ~ N(0, I_4), x ~ N(decoder(z, x), 1), q(z | x) = N(linear(x), 1)."""

    def __init__(self, decoder):
        super().__init__()
        self.decoder, self.encoder = decoder, nn.Linear(D, D)

    def model(self, x):
        with pyro.plate("batch", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(D), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(self.decoder(z, x), 1.0).to_event(1), obs=x)

    def guide(self, x):
        with pyro.plate("batch", len(x)):
            pyro.sample("z", dist.Normal(self.encoder(x), 1.0).to_event(1))


class Alone(Decoder):
    def forward(self, z, x):
        return self.net(z)


class Attends(Decoder):
    def forward(self, z, x):
        tokens = z if z.dim() == 3 else z.unsqueeze(0)  # (N, B, D), of which particles become the N
        return self.attention(tokens, tokens, tokens)[0].reshape(z.shape)


class Convolves(Decoder):
    def forward(self, z, x):
        return self.convolution(z.reshape(*z.shape[:-1], 1, 2, 2)).flatten(-3)


class Joins(Decoder):
    def forward(self, z, x):
        return self.net(torch.cat([x, z], -1))


class Recurs(Decoder):
    def forward(self, z, x):
        return self.recurrent(z.reshape(*z.shape[:-1], 2, 2))[0].flatten(-2)


class Squeezes(Decoder):
    def forward(self, z, x):
        return self.recurrent(z.unsqueeze(0))[0].squeeze(0)


class Centres(Decoder):
    def forward(self, z, x):
        return z - z[0]


class Drops(Decoder):
    """Functional dropout, noise of its own, and a mean over what is the first dimension, if it is told to."""

    def forward(self, z, x):
        h = F.dropout(z, 0.5, self.training) + torch.randn_like(z) * torch.rand(z.shape)
        return self.net(h.softmax(0) if self.wrong and z.dim() == 3 else h)


class Plates(nn.Module):
    """Three latents z_n a datum in a plate inside the batch's, x ~ N(sum_n z_n, 1); discrete if told to."""

    def __init__(self, right, discrete=False):
        super().__init__()
        self.right, self.discrete, self.logit = right, discrete, nn.Parameter(torch.tensor(0.4))

    def model(self, x):
        with pyro.plate("batch", len(x), dim=-1):
            with pyro.plate("n", 3, dim=-2):
                z = pyro.sample("z", dist.Bernoulli(0.3) if self.discrete else dist.Normal(0.0, 1.0))
            total = z.sum(-2, keepdim=True) if self.right else z.sum(0)
            pyro.sample("x", dist.Normal(total, 1.0), obs=x)

    def guide(self, x):
        with pyro.plate("batch", len(x), dim=-1), pyro.plate("n", 3, dim=-2):
            pyro.sample("z", dist.Bernoulli(logits=self.logit + x) if self.discrete else dist.Normal(x, 1.0))


def checked(program, x):
    pair = pair_up(program.model, program.guide, (x,), {})
    return why_particles_interact(pair, (x,), {})


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: Attends(attention=nn.MultiheadAttention(D, 2)), r"leaves layer 'decoder.attention' \(Multihead"),
        (
            lambda: Alone(net=nn.Sequential(nn.Linear(D, B), nn.BatchNorm1d(B), nn.Linear(B, D))),
            r"'decoder.net.1' \(Bat",
        ),
        (lambda: Convolves(convolution=nn.Conv2d(1, 1, 3, padding=1)), r"in layer 'decoder.convolution' \(Conv2d\)"),
        (
            lambda: Joins(net=MLP(2 * D, D)),
            r"in layer 'decoder' \(Joins\) at test_vectorization_check.py, line \d+ \(Tensors must.*expand",
        ),
        (lambda: Recurs(recurrent=nn.GRU(2, 2, batch_first=True)), r"in layer 'decoder.recurrent' \(GRU\)"),
        (lambda: Squeezes(recurrent=nn.GRU(D, D)), r"in layer 'decoder.recurrent' \(GRU\)"),
        (lambda: Centres(), r"site 'x' gives datum \d a log-density of .* leaves layer 'decoder' \(Centres\)"),
        (lambda: Drops(net=MLP(D, D), wrong=True), r"what enters layer 'decoder.net.layers.0' \(Linear\) differs"),
    ],
)
def test_what_is_right_at_one_particle_only_is_refused(make, told):
    torch.manual_seed(0)
    program, x = Story(make()), torch.randn(B, D)
    assert torch.isfinite(Loss(Pathwise(elbo, 1), program)(x))
    with pytest.raises(ProgramError, match=told) as refused:
        Loss(Pathwise(elbo, 3), program)(x)
    assert "with K > 1 particles at once" in str(refused.value) and len(str(refused.value)) < 500
    with pytest.raises(ProgramError, match="K > 1"):
        draw_particles(program.model, program.guide, x, num_particles=2)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Alone(net=MLP(D, D, (7,))),
        lambda: Alone(net=nn.Sequential(nn.Linear(D, 7), nn.Dropout(), nn.AlphaDropout(), nn.Linear(7, D))),
        lambda: Alone(net=nn.Sequential(LeadingDims(nn.BatchNorm1d(D), 1), nn.LayerNorm(D))),
        lambda: Alone(net=LeadingDims(nn.Sequential(nn.Unflatten(-1, (2, 2)), nn.InstanceNorm1d(2), nn.Flatten(1)), 1)),
        lambda: Alone(net=nn.utils.parametrizations.spectral_norm(nn.Linear(D, D))),
        lambda: Convolves(convolution=LeadingDims(nn.Conv2d(1, 1, 3, padding=1), 3)),
        lambda: Recurs(recurrent=LeadingDims(nn.GRU(2, 2, 2, batch_first=True, dropout=0.5), 2)),
        lambda: Alone(net=LeadingDims(nn.Sequential(nn.Unflatten(-1, (2, 2)), transformer(), nn.Flatten(1)), 1)),
        lambda: Drops(net=MLP(D, D), wrong=False),
    ],
)
def test_what_takes_any_leading_dimensions_is_not(make):
    torch.manual_seed(0)
    assert checked(Story(make()), torch.randn(B, D)) is None


def transformer():
    return nn.TransformerEncoderLayer(2, 1, 3, dropout=0.3, batch_first=True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_librarys_programs_take_particles_and_states(dtype):
    x = (torch.rand(B, 6) < 0.5).to(dtype)
    programs = VAE(6, 2), SigmoidBeliefNet(6, (2, 3), (4,)), ProbabilisticPCA(6), MixtureOfGaussians(6)
    for program in programs:
        assert checked(program.to(dtype), x) is None, program
    for program in (programs[1], programs[3]):
        pair = pair_up(program.model, program.guide, (x,), {})
        assert why_states_interact(pair, (x,), {}, of_guide=True) is None
        assert why_states_interact(replace(pair, guide=None), (x,), {}) is None


def test_a_sum_over_a_nested_plate_by_position():
    x = torch.randn(B)
    assert checked(Plates(right=True), x) is None
    with pytest.raises(ProgramError, match=r"model site 'x' gives datum \d a log-density of .*keepdim=True"):
        Loss(Pathwise(elbo, 4), Plates(right=False))(x)


def test_what_the_check_says_of_a_draw_is_so():
    torch.manual_seed(1)
    x, program = torch.randn(B), Plates(right=False)
    pair = pair_up(program.model, program.guide, (x,), {})
    torch.manual_seed(2)
    drawn = draw_from_pair(pair, 2, (x,), {})
    z = drawn.guide_trace.nodes["z"]["value"][0]  # (3, B)
    alone, at_once = dist.Normal(z.sum(0), 1.0).log_prob(x), drawn.log_p_sites["x"][0]
    torch.manual_seed(2)
    said = why_particles_interact(pair, (x,), {})
    assert f"datum 0 a log-density of {at_once[0]:.4g}, and of {alone[0]:.4g} at the same draw" in said


def test_states_by_position_are_refused_by_what_sums_them_out():
    x = torch.randn(B)
    right, wrong = Plates(True, discrete=True), Plates(False, discrete=True)
    pair = pair_up(right.model, None, (x,), {})
    counts = torch.tensor([0.7**3, 3 * 0.3 * 0.7**2, 3 * 0.3**2 * 0.7, 0.3**3]).log().unsqueeze(1)
    by_hand = (counts + dist.Normal(torch.arange(4.0).unsqueeze(1), 1.0).log_prob(x)).logsumexp(0)
    torch.testing.assert_close(enumerate_model(pair, None, 1, (x,), {})[0][0], by_hand)
    assert why_states_interact(pair, (x,), {}) is None
    false = enumerate_model(pair_up(wrong.model, None, (x,), {}), None, 1, (x,), {})[0]
    assert not torch.allclose(false[0], by_hand, atol=0.1)
    with pytest.raises(ProgramError, match="state by state"):
        Loss(Exact(), wrong)(x)
    torch.testing.assert_close(Loss(Exact(), right)(x), -by_hand.mean())


def test_rules_that_try_many_values_at_once_are_held_to_it_at_one_particle():
    x, wrong = torch.randn(B), Plates(False, discrete=True)
    Loss(ScoreFunction(elbo, 1), wrong)(x).backward()
    with pytest.raises(ProgramError, match="K > 1"):
        Loss(LocalExpectation(), wrong)(x)
    Loss(LocalExpectation(), Plates(True, discrete=True))(x).backward()


class Mixed(nn.Module):
    """A continuous z that is drawn, a Categorical d that is summed out; the decoder takes some dimensions at most."""

    def __init__(self, most_dims, net=None):
        super().__init__()
        self.most_dims, self.net = most_dims, net or nn.Linear(D, D)

    def model(self, x):
        with pyro.plate("batch", len(x)):
            d = pyro.sample("d", dist.Categorical(torch.ones(3)))
            z = pyro.sample("z", dist.Normal(torch.zeros(D), 1.0).to_event(1))
            h = z + d.unsqueeze(-1)
            assert h.dim() <= self.most_dims, "one dimension too many"
            pyro.sample("x", dist.Normal(self.net(h), 1.0).to_event(1), obs=x)

    def guide(self, x):
        with pyro.plate("batch", len(x)):
            pyro.sample("z", dist.Normal(x, 1.0).to_event(1))


def test_states_beside_particles_take_a_dimension_more():
    x = torch.randn(B, D)
    Loss(Exact(1), Mixed(3))(x)  # states, data, D
    where = r"after site 'z' at test_vectorization_check.py, line \d+ \(one dimension too many"
    with pytest.raises(ProgramError, match=where):
        Loss(Exact(4), Mixed(3))(x)
    Loss(Exact(4), Mixed(4))(x)
    bare = nn.Sequential(nn.Unflatten(-1, (1, D)), nn.Conv1d(1, 1, 3, padding=1), nn.Flatten(1))
    with pytest.raises(ProgramError, match=r"in layer 'net.1' \(Conv1d\)"):
        Loss(Exact(4), Mixed(4, bare))(x)
    Loss(Exact(4), Mixed(4, LeadingDims(bare, 1)))(x).backward()


class Shakes(Decoder):
    """Random in a way that cannot be held still."""

    def forward(self, z, x):
        return self.net(z) + torch.randint(0, 9, z.shape)


def test_what_is_noise_is_no_disagreement():
    torch.manual_seed(0)
    assert checked(Story(Shakes(net=MLP(D, D))), torch.randn(B, D)) is None


class Flow(Story):
    """A guide whose flow has no inverse: it knows the density of what it has just drawn, and of nothing else."""

    def __init__(self, decoder):
        super().__init__(decoder)
        self.flow = Planar(D)

    def guide(self, x):
        with pyro.plate("batch", len(x)):
            pyro.sample("z", dist.TransformedDistribution(dist.Normal(self.encoder(x), 1.0).to_event(1), self.flow))


def test_a_guide_that_cannot_be_replayed_is_believed_and_its_model_is_not():
    torch.manual_seed(0)
    x = torch.randn(B, D)
    Loss(Pathwise(elbo, 3), Flow(Alone(net=MLP(D, D))))(x).backward()
    assert "model site 'x'" in checked(Flow(Centres()), x)
    assert "(Conv2d)" in checked(Flow(Convolves(convolution=nn.Conv2d(1, 1, 3, padding=1))), x)


class Fails(Decoder):
    def forward(self, z, x):
        return torch.zeros_like(z).requires_grad_().log().sum().backward() or z


def test_a_program_that_fails_alone_too_is_left_to_say_so():
    """Without gradient, as the check runs it."""
    x, program = torch.randn(B, D), Story(Fails())
    assert why_particles_interact(pair_up(program.model, program.guide, (x,), {}), (x,), {}) is None


def test_data_that_depend_on_each_other():
    x = torch.randn(B, D)

    def found(net, names=None, mode=True):
        program = Story(Alone(net=net)).train(mode)
        return why_data_interact(pair_up(program.model, program.guide, (x,), {}), (x,), {}, names)

    assert "model site 'x' gives datum 0" in found(nn.BatchNorm1d(D))
    assert found(nn.BatchNorm1d(D), mode=False) is None and found(nn.LayerNorm(D)) is None
    assert found(nn.BatchNorm1d(D), names=()) is None  # no draw of it matters
    assert found(nn.Dropout()) is None
    assert "model site 'x'" in found(nn.Sequential(nn.BatchNorm1d(D), nn.Dropout(0.1)))


def test_batch_norm_of_the_data_alone_is_no_dependence_on_draws():
    x, program = torch.randn(B, D), Story(Alone(net=MLP(D, D)))
    program.encoder = nn.Sequential(nn.BatchNorm1d(D), program.encoder)
    assert why_data_interact(pair_up(program.model, program.guide, (x,), {}), (x,), {}) is None


def test_no_check_leaves_a_trace():
    program, x = Story(Alone(net=nn.Sequential(LeadingDims(nn.BatchNorm1d(D), 1), nn.Dropout()))), torch.randn(B, D)
    program.decoder.net[1].eval()
    pair = pair_up(program.model, program.guide, (x,), {})
    buffers = dict(program.named_buffers())
    before = {name: (buffer, buffer._version, buffer.clone()) for name, buffer in buffers.items()}
    state, modes = torch.get_rng_state(), [module.training for module in program.modules()]
    assert why_particles_interact(pair, (x,), {}) is None and why_data_interact(pair, (x,), {}) is not None
    assert torch.equal(state, torch.get_rng_state()) and modes == [module.training for module in program.modules()]
    assert len(before) == 3
    for name, (buffer, version, value) in before.items():
        now = dict(program.named_buffers())[name]
        assert now is buffer and now._version == version and torch.equal(now, value)
    assert all(p.grad is None for p in program.parameters()) and not pyro.get_param_store().keys()


class Reshapes(nn.Module):
    """A convolution as it is commonly written, for one batch dimension."""

    def __init__(self):
        super().__init__()
        self.convolution = nn.Conv2d(1, 1, 3, padding=1)

    def forward(self, z):
        return self.convolution(z.reshape(len(z), 1, 2, 2)).flatten(1)


def test_a_layer_of_the_program_that_knows_one_batch_dimension_is_told_how_to_be_wrapped():
    x = torch.randn(B, D)
    with pytest.raises(
        ProgramError, match=r"in layer 'decoder.net' \(Reshapes\) .*: wrap the layer as pplvm.LeadingDims"
    ):
        Loss(Pathwise(elbo, 4), Story(Alone(net=Reshapes())))(x)
    Loss(Pathwise(elbo, 4), Story(Alone(net=LeadingDims(Reshapes(), 1))))(x)
