"""Training on the accelerator: `fit`, conditions, penalties, a run resumed, and gradients compared."""

import pyro
import pytest
import torch
from torch.optim.swa_utils import AveragedModel

from pplvm.bounds import elbo, iwae
from pplvm.data.epochs import Epochs
from pplvm.data.image_data import ImageData
from pplvm.data.spec import DataSpec, check_site
from pplvm.estimators.compare_gradients import compare_gradients
from pplvm.networks.codebook import Codebook, MovingAverageCodebook
from pplvm.objectives.baselines import LearnedBaseline, MovingAverage
from pplvm.objectives.kl_balancing import KLBalancing
from pplvm.objectives.objective import Loss
from pplvm.objectives.path_gradients import StickTheLanding
from pplvm.objectives.pathwise import AnalyticKL, Pathwise
from pplvm.objectives.penalized import Penalized
from pplvm.objectives.score_function import LeaveOneOut, ScoreFunction
from pplvm.objectives.tempered import FreeBits, Warmup
from pplvm.programs.sigmoid_belief import SigmoidBeliefNet
from pplvm.programs.vae import VAE
from pplvm.training.checkpoints import Checkpoints, read_latest
from pplvm.training.fit import fit
from pplvm.training.plain_state import PLAIN
from pplvm.training.run import Run
from pplvm.training.stages import initialize, train_only
from pplvm.training.stepper import Stepper
from tests.networks.test_codebook import Quantized
from tests.pretend_device import PretendTensor
from tests.programs.convolutional import convolutional, images
from tests.seams.programs import TwoStages

B, D = 5, 6


class Smooth(VAE):
    """A guide with two penalties, one value a datum."""

    def guide(self, x):
        loc, log_scale = self.encoder(x.flatten(1)).chunk(2, dim=-1)
        with pyro.plate("batch", len(x)):
            z = pyro.sample("z", pyro.distributions.Normal(loc, log_scale.exp()).to_event(1))
            pyro.deterministic("size", z.square().sum(-1))
            pyro.deterministic("spread", log_scale.square().sum(-1))


LOSSES = {
    "pathwise": lambda: Loss(Pathwise(iwae, 3), VAE(D, 2, (4,))),
    "free bits, warming up": lambda: Loss(Warmup(FreeBits(AnalyticKL(2), 0.1), 4), VAE(D, 2, (4,))),
    "KL balancing": lambda: Loss(KLBalancing(Warmup(LeaveOneOut(elbo, 2), 4)), SigmoidBeliefNet(D, (2, 3))),
    "moving average": lambda: Loss(ScoreFunction(iwae, 2, MovingAverage()), SigmoidBeliefNet(D, (3,))),
    "learned baseline": lambda: Loss(ScoreFunction(iwae, 2, LearnedBaseline(D)), SigmoidBeliefNet(D, (3,))),
    "two penalties": lambda: Loss(Penalized(Pathwise(), {"size": 0.3, "spread": -0.1}), Smooth(D, 2, (4,))),
}


def rows():
    return torch.bernoulli(torch.full((4 * B, D), 0.5))


@pytest.mark.parametrize("make", LOSSES.values(), ids=LOSSES)
def test_fit(accelerator, make):
    def on(device):
        loss = make().to(device)
        batches = list(rows().to(device).split(B))
        values = fit(loss, batches, torch.optim.Adam(loss.parameters(), lr=0.1), compile="off").run()
        assert values.device.type == device.type
        return values, loss.state_dict(), loss.reported()

    accelerator.same(on)


@pytest.mark.parametrize("name", ["pathwise", pytest.param("two penalties", marks=pytest.mark.slow)])
def test_fit_as_one_graph(accelerator, name):
    def on(device):
        loss = LOSSES[name]().to(device)
        batches = list(rows().to(device).split(B))
        optimizer = torch.optim.SGD(loss.parameters(), lr=0.1)
        return fit(loss, batches, optimizer, compile="graph").run(), loss.state_dict()

    accelerator.same(on)


def test_images_and_labels_of_a_data_set(accelerator):
    """Labels as int64 follow their images to the device, through `Epochs` and through a batch of one's own."""

    def on(device):
        data = ImageData(images(4 * B).squeeze(1), "toy", labels=torch.arange(4 * B) % 3, levels=2)
        stream = Epochs(data.conditioned("labels"), B, device=device)
        loss = Loss(Pathwise(iwae, 2), convolutional(num_classes=3)).to(device)
        optimizer = torch.optim.SGD(loss.parameters(), lr=0.1)
        values = []
        for _ in range(5):
            x, y = next(stream)
            assert (x.device.type, y.device.type, y.dtype) == (device.type, device.type, torch.int64)
            value = loss(x.double().unsqueeze(1), y)
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
            values.append(value)
        return values

    accelerator.same(on)


@pytest.fixture
def single():
    """The precision of data sets."""
    torch.set_default_dtype(torch.float32)
    yield
    torch.set_default_dtype(torch.float64)


def test_fit_on_a_data_set_that_lies_there(accelerator, single):
    def on(device):
        data = ImageData(rows(), "toy", labels=torch.arange(4 * B) % 3, levels=2).to(device)
        loss = Loss(Pathwise(), VAE(D, 2, (4,)).to(device))
        optimizer = torch.optim.Adam(loss.parameters(), lr=0.1)
        return fit(loss, data, optimizer, epochs=2, batch_size=B, compile="off").run()

    accelerator.same(on)


@pytest.mark.parametrize("order", ["conditioned, then moved", "moved, then conditioned"])
def test_conditions_lie_where_their_data_lie(accelerator, single, order):
    def on(device):
        data = ImageData(images(2 * B).squeeze(1), "toy", labels=torch.arange(2 * B) % 3, levels=2).with_channel()
        is_first = order.startswith("conditioned")
        data = data.conditioned("labels").to(device) if is_first else data.to(device).conditioned("labels")
        assert not is_first or data.conditions[0].device.type == device.type
        assert {part.device.type for part in data.batch(torch.arange(3))} == {device.type}
        loss = Loss(Pathwise(), convolutional(num_classes=3)).to(device)
        return fit(loss, data, torch.optim.SGD(loss.parameters(), lr=0.1), batch_size=B, compile="off").run()

    accelerator.same(on)


def test_a_second_stage(accelerator):
    """Weights and running statistics of a first stage, on the CPU, are taken where the program lies and stay there."""
    torch.manual_seed(2)
    first = TwoStages(4)
    first.encoder(torch.randn(20, 4))
    weights = {name: value.clone() for name, value in first.state_dict().items()}

    def on(device):
        program = TwoStages(4, learned_prior=True).to(device)
        initialize(program, weights)
        train_only(program, "prior")
        loss, x = Loss(AnalyticKL(), program), torch.randn(4 * B, 4).to(device)
        optimizer = torch.optim.Adam([p for p in program.parameters() if p.requires_grad], lr=0.1)
        averaged = AveragedModel(loss, use_buffers=True)
        values = fit(loss, list(x.split(B)), optimizer, averaged=averaged, compile="off").run()
        states = {**program.state_dict(), **averaged.state_dict()}
        assert {each.device.type for each in states.values()} <= {device.type, averaged.n_averaged.device.type}
        assert all(torch.equal(program.state_dict()[name].cpu(), value) for name, value in weights.items())
        return values, states

    accelerator.same(on)


def test_levels_are_held_against_bounds_that_lie_there(accelerator):
    spec = DataSpec("toy", 10, (2,), levels=4)

    def on(device):
        low, high = torch.zeros(2, device=device), torch.full((2,), 0.9, device=device)
        with pytest.raises(ValueError, match="site 'x' is an? Uniform, whose support is") as refused:
            check_site(spec, "x", "Uniform", pyro.distributions.Uniform(low, high).support, device)
        return str(refused.value)

    assert accelerator.same(on)


def run_of(device):
    torch.manual_seed(4)
    loss = LOSSES["moving average"]().to(device)
    stepper = Stepper(loss, {"all": torch.optim.Adam(loss.parameters(), lr=0.1)})
    return Run(stepper, Epochs(rows(), B, device=device)), loss


def test_a_run_goes_on_where_it_was_saved(accelerator, tmp_path, monkeypatch, single):
    monkeypatch.setattr("pplvm.training.plain_state.PLAIN", (*PLAIN, PretendTensor))
    accelerator.same(lambda device: resumed(device, tmp_path / device.type))


def resumed(device, place):
    run, loss = run_of(device)
    for _ in range(3):
        run.advance()
    Checkpoints(place).save(3, loss.program.state_dict(), run.state_dict(), {"seed": 0})
    straight = [run.advance().loss for _ in range(3)]
    again, other = run_of(device)
    found = read_latest(place)
    assert all(each.is_cpu for each in found.weights.values())
    other.program.load_state_dict(found.weights)
    again.load_state_dict(found.state)
    after = [again.advance().loss for _ in range(3)]
    assert [float(x) for x in after] == [float(x) for x in straight]
    assert all(p.device.type == device.type for p in other.state_dict().values())
    return straight, other.state_dict()


SMALL = {"replicates": 4, "reference_draws": 4, "warm_up": 1, "progress": False}


def compared(losses, device, compile):
    """What is compared but for times, and the moments of the gradient by parameter tensor."""
    found = compare_gradients(losses, [rows()[:B].to(device)], compile=compile, **SMALL)
    return {name: torch.as_tensor(found[name].values) for name in COMPARED}


COMPARED = ("loss", "grad", "variance", "group_variance", "relative_bias", "p_value", "cosine", "kurtosis", "r2")


@pytest.mark.parametrize("compile", ["off", pytest.param("graph", marks=pytest.mark.slow)])
def test_gradients_compared(accelerator, compile):
    def on(device):
        program = VAE(D, 2, (4,)).to(device)
        losses = {"pathwise": Loss(Pathwise(iwae, 2), program), "stl": Loss(StickTheLanding(2), program)}
        return compared(losses, device, compile)

    assert accelerator.same(on)


def test_gradients_compared_with_the_exact_one(accelerator):
    def on(device):
        net = SigmoidBeliefNet(D, (3,)).to(device)
        return compared({"rloo": Loss(LeaveOneOut(num_particles=2), net)}, device, "off")

    assert accelerator.same(on)


@pytest.mark.parametrize("kind", [Codebook, MovingAverageCodebook])
def test_codebooks_take_up_their_codes_and_restart(accelerator, kind):
    def on(device):
        loss, x = Quantized(kind(6, 2, restart_below=0.5)).to(device), torch.randn(4, 12, 3).to(device)
        loss.codebook.shares[0] = 1e-3
        stepper = Stepper(loss, torch.optim.SGD(loss.parameters(), lr=0.01))
        for batch in x:
            stepper(batch)
            stepper.end_step()
        assert {each.device.type for each in loss.state_dict().values()} == {device.type}
        return loss.state_dict(), loss.codebook.usage(), loss.codebook.codes

    accelerator.same(on)
