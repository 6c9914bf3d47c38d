"""The loop does what a hand-written one does, and stops at what is not finite."""

import signal

import pyro.optim
import pytest
import torch
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from pplvm.training.aggressive import Aggressive
from pplvm.training.fit import fit
from pplvm.training.signals import StopRequest
from pplvm.training.stepper import Stepper


def test_the_loop_is_the_hand_written_one():
    batches = [torch.randn(4, 3) for _ in range(5)]
    nets = [torch.nn.Linear(3, 1) for _ in range(2)]
    nets[1].load_state_dict(nets[0].state_dict())
    optimizers = [torch.optim.Adam(net.parameters(), lr=0.1) for net in nets]

    values = [float(v) for v in fit(Squares(nets[0]), batches, optimizers[0])]
    for x, value in zip(batches, values, strict=True):
        optimizers[1].zero_grad()
        loss = nets[1](x).square().mean()
        loss.backward()
        optimizers[1].step()
        assert float(loss.detach()) == value
    assert torch.equal(nets[0].weight, nets[1].weight)


class Regression(torch.nn.Module):
    """A loss of data and their conditions."""

    def __init__(self):
        super().__init__()
        self.net, self.codes = torch.nn.Linear(3, 2), torch.nn.Embedding(4, 2)

    def forward(self, x, y, weight=1.0):
        return (weight * (self.net(x) - self.codes(y)).square().sum(-1)).mean()


@pytest.mark.parametrize("compile", ["off", "graph"])
def test_a_batch_with_conditions_is_the_arguments_of_the_loss(compile):
    x, y = torch.randn(20, 3), torch.arange(20) % 4
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), batch_size=5)
    losses = [Regression() for _ in range(2)]
    losses[1].load_state_dict(losses[0].state_dict())
    optimizers = [torch.optim.Adam(loss.parameters(), lr=0.1) for loss in losses]
    values = fit(losses[0], loader, optimizers[0], epochs=2, compile=compile).run()
    by_hand = []
    for start in [*range(0, 20, 5), *range(0, 20, 5)]:
        optimizers[1].zero_grad()
        loss = losses[1](x[start : start + 5], y[start : start + 5])
        loss.backward()
        optimizers[1].step()
        by_hand.append(loss.detach())
    assert torch.allclose(values, torch.stack(by_hand), rtol=1e-12)
    assert torch.allclose(losses[0].codes.weight, losses[1].codes.weight, rtol=1e-12)


def test_a_condition_that_is_not_finite_is_named_by_its_row():
    loss, weight = Regression(), torch.ones(4)
    weight[2] = torch.nan
    batch = (torch.zeros(4, 3), torch.arange(4), weight)
    for whole in (batch, [batch[0], batch[1], torch.where(weight > 0, torch.inf, weight)]):
        with pytest.raises(
            FloatingPointError, match="^step 0: row . of the batch holds NaN or infinity in its condition 2: "
        ):
            fit(loss, [whole], torch.optim.SGD(loss.parameters(), lr=0.1)).run()


def test_a_fault_that_a_label_causes_is_told_with_site_and_row():
    import pyro
    import pyro.distributions as dist

    from pplvm.objectives.objective import Loss
    from pplvm.objectives.pathwise import Pathwise
    from pplvm.programs.vae import VAE

    class Labelled(VAE):
        def model(self, x, y):
            with pyro.plate("batch", len(x)):
                z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
                scale = 1 / (y[:, None] - 3.0) ** 2  # of label 3
                pyro.sample("x", dist.Normal(self.decoder(z), scale).to_event(1), obs=x)

        def guide(self, x, y):
            super().guide(x)

    loss = Loss(Pathwise(), Labelled(8, 2, (5,)))
    batches = [(torch.ones(4, 8), torch.tensor(labels)) for labels in ([0, 1, 2, 4], [0, 1, 3, 4])]
    with pytest.raises(FloatingPointError, match="^step 1: .* the scale of model site 'x' is inf in row 2: bound it"):
        fit(loss, batches, torch.optim.SGD(loss.parameters(), lr=1e-6), compile="off").run()


def test_what_a_loss_reports_stands_beside_it_on_the_bar(monkeypatch):
    class Reporting(Regression):
        def reported(self):
            return {"size": torch.tensor(7.0)}

    told = []
    monkeypatch.setattr("pplvm.training.fit_iterator.bar", lambda *args, **kwargs: Bar(told))
    loss, batch = Reporting(), (torch.zeros(4, 3), torch.arange(4))
    fit(loss, [batch], torch.optim.SGD(loss.parameters(), lr=0.1)).run(progress=True)
    assert [list(figures) for figures in told] == [["loss", "size"]] and told[0]["size"] == 7.0


class Bar:
    def __init__(self, told):
        self.told = told

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def at(self, done, figures):
        self.told.append(figures)


class Squares(torch.nn.Module):
    def __init__(self, net, times=1.0):
        super().__init__()
        self.net, self.times = net, times

    def forward(self, x):
        return self.times * self.net(x).square().mean()


BAD = {
    "row 1 of the batch holds NaN": (1.0, [[1.0, 2.0], [torch.nan, 0.0]]),
    "the loss is inf: lower the learning rate": (1e300, [[1e10, 1e10]]),
    "the gradient's norm is inf: lower": (1e300, [[1e-160, 1e30]]),
}


@pytest.mark.parametrize("words", BAD)
def test_it_stops_before_numbers_that_are_not_finite_move_anything(words):
    times, x = BAD[words]
    x = torch.tensor(x)
    net = torch.nn.Linear(2, 1, bias=False)
    with torch.no_grad():
        net.weight.copy_(torch.tensor([[1.0, 0.0 if "norm" in words else 1.0]]))
    before = net.weight.clone()
    steps = fit(Squares(net, times), [torch.zeros(1, 2), x], torch.optim.SGD(net.parameters(), lr=1.0))
    with pytest.raises(FloatingPointError, match=f"^step 1: {words}"):
        list(steps)
    assert torch.equal(net.weight, before)


def test_at_the_first_step_nobody_is_told_to_lower_a_learning_rate():
    net = torch.nn.Linear(2, 1)
    optimizer = torch.optim.SGD(net.parameters(), lr=1.0)
    with pytest.raises(FloatingPointError, match="^step 0: the loss is inf before any step: scale the data, or start"):
        list(fit(Squares(net, 1e300), [torch.full((1, 2), 1e10)], optimizer))
    with torch.no_grad():
        net.bias.fill_(torch.nan)
    with pytest.raises(
        FloatingPointError, match="step 0: the loss is nan: parameter 'net.bias' is not finite: give it"
    ):
        list(fit(Squares(net), [torch.zeros(1, 2)], optimizer))


def test_a_loss_that_can_tell_is_asked():
    class Told(Squares):
        def explain(self, x):
            return f"row 0 is {float(x[0, 0]):g}: halve it"

    net = torch.nn.Linear(2, 1)
    loss = Told(net)
    batches = [torch.zeros(1, 2), torch.full((1, 2), 1e200)]
    with pytest.raises(
        FloatingPointError, match="^step 1: the loss is inf: row 0 is 1e.200: halve it, or lower the lea"
    ):
        list(fit(loss, batches, torch.optim.SGD(net.parameters(), lr=0.1), compile="off"))


class Lazy(torch.nn.Module):
    """A layer that makes its parameters on its first batch, by torch's lazy modules or by itself."""

    def __init__(self, by_itself):
        super().__init__()
        self.shift = torch.nn.Parameter(torch.zeros(()))
        self.layer = None if by_itself else torch.nn.LazyLinear(1)

    def forward(self, x):
        if self.layer is None:
            self.layer = torch.nn.Linear(x.shape[1], 1)
        return (self.layer(x) + self.shift - 3.0).square().mean()


def test_parameters_that_come_with_the_first_batch_are_missed_or_move():
    x = torch.ones(4, 2)
    own, torchs = Lazy(True), Lazy(False)
    optimizer = torch.optim.SGD(own.parameters(), lr=0.1)
    words = r"^2 parameters came with the first batch \(layer.weight, layer.bias\), and no optimizer has them: "
    with pytest.raises(ValueError, match=words + r"run the loss once, loss\(x\), before making the optimizer$"):
        list(fit(own, 2 * [x], optimizer))
    assert float(own.shift.detach()) == 0.0
    list(fit(own, 2 * [x], torch.optim.SGD(own.parameters(), lr=0.1)))  # the cure
    list(fit(torchs, [x], torch.optim.SGD(torchs.parameters(), lr=0.1)))
    before = torchs.layer.weight.clone()
    list(fit(torchs, [x], torch.optim.SGD(torchs.parameters(), lr=0.1)))
    assert not torch.equal(torchs.layer.weight, before) and float(own.shift.detach()) != 0.0


def test_parameters_left_out_or_frozen_are_nobodys_oversight():
    net, x = Lazy(True), torch.ones(4, 2)
    net(x)
    list(fit(net, 2 * [x], torch.optim.SGD([net.shift], lr=0.1)))
    net.shift.requires_grad_(False)
    list(fit(net, 2 * [x], {"weight": torch.optim.SGD([net.layer.weight], lr=0.1)}))
    torchs = Lazy(False)
    list(fit(torchs, 2 * [x], torch.optim.SGD([torchs.shift], lr=0.1)))
    torchs.unused = torch.nn.LazyLinear(1)
    with pytest.raises(
        ValueError, match="^parameter 'unused.weight' is still lazy after the first batch, as nothing uses"
    ):
        list(fit(torchs, [x], torch.optim.SGD([torchs.shift], lr=0.1)))


MISFITS = {
    "a bare scheduler": (
        lambda net, adam: {"schedulers": torch.optim.lr_scheduler.StepLR(adam, 1)},
        TypeError,
        r"schedulers is one StepLR: give a list, schedulers=\[scheduler\]",
    ),
    "a plateau": (
        lambda net, adam: {"schedulers": [torch.optim.lr_scheduler.ReduceLROnPlateau(adam)]},
        ValueError,
        r"ReduceLROnPlateau must be told a loss, .* for value in fit\(...\): plateau.step\(value\)",
    ),
    "no scheduler": (lambda net, adam: {"schedulers": [adam]}, TypeError, "is no scheduler of torch.optim"),
    "LBFGS": (
        lambda net, adam: {"optimizer": torch.optim.LBFGS(net.parameters())},
        ValueError,
        "'all' is LBFGS, which evaluates the loss several times a step, .*: use one that takes a single gradient",
    ),
    "Pyro's": (
        lambda net, adam: {"optimizer": pyro.optim.Adam({"lr": 0.1})},
        TypeError,
        r"'all' is a pyro.optim.optim.PyroOptim: give one of torch.optim, such as torch.optim.Adam\(loss.param",
    ),
    "a class": (lambda net, adam: {"optimizer": {"model": torch.optim.Adam}}, TypeError, "'model' is a builtins.type"),
    "none": (lambda net, adam: {"optimizer": {}}, ValueError, "no optimizer has a parameter that the loss depends on"),
    "another's": (
        lambda net, adam: {"optimizer": torch.optim.Adam(torch.nn.Linear(2, 1).parameters())},
        ValueError,
        r"no optimizer has a parameter that the loss depends on: make one of loss.parameters\(\)",
    ),
}


@pytest.mark.parametrize("kind", MISFITS)
def test_what_cannot_take_a_step_is_refused_before_anything_moves(kind):
    net = torch.nn.Linear(2, 1)
    before = net.weight.clone()
    made, error, words = MISFITS[kind]
    adam = torch.optim.Adam(net.parameters(), lr=0.1)
    options = {"optimizer": adam} | made(net, adam)
    with pytest.raises(error, match=words):
        list(fit(Squares(net), [torch.ones(1, 2)], **options))
    assert torch.equal(net.weight, before)


def test_a_plateau_is_stepped_in_the_loop_as_its_refusal_says():
    net = torch.nn.Linear(2, 1)
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-9)  # a loss that stands still
    plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=0, eps=0.0)
    for value in fit(Squares(net), 3 * [torch.ones(1, 2)], optimizer):
        plateau.step(value)
    assert optimizer.param_groups[0]["lr"] == 1e-9 / 4


def test_a_batch_with_its_labels_is_refused_with_the_cure():
    net = torch.nn.Linear(2, 1)
    steps = fit(Squares(net), [[torch.zeros(3, 2), torch.zeros(3)]], torch.optim.SGD(net.parameters(), lr=1.0))
    with pytest.raises(TypeError, match=r"a batch is a list, .* fit\(loss, \(x for x, _ in loader\), optimizer\)"):
        next(steps)


def test_a_program_is_told_which_parts_of_a_batch_it_takes():
    from pplvm.objectives.objective import Loss
    from pplvm.objectives.pathwise import Pathwise
    from pplvm.programs.vae import VAE

    class Conditional(VAE):
        def model(self, x, y):
            super().model(x)

        def guide(self, x, y):
            super().guide(x)

    x, y = torch.ones(3, 8), torch.zeros(3)
    alone = r"a batch is a tuple, and of its 2 tensors the loss takes x alone .*: leave labels out, .* model\(x, y\)"
    more = r"a batch is x alone, and the loss takes more .* 'y'\): give batches \(x, y\), as data.conditioned"
    both = (
        r"of its 3 tensors the loss takes 2 parts .*, as in fit\(loss, \(\(x, y\) for x, y, _ in loader\), optimizer\)"
    )

    class Alone(VAE):
        def model(self, x):
            super().model(x)

    for kind, batch, words in ((Alone, (x, y), alone), (Conditional, x, more), (Conditional, (x, y, y), both)):
        loss = Loss(Pathwise(), kind(8, 2, (5,)))
        with pytest.raises(TypeError, match=words):
            fit(loss, [batch], torch.optim.SGD(loss.parameters(), lr=0.1)).run()
    conditional = Loss(Pathwise(), Conditional(8, 2, (5,)))
    for loss, batch in ((conditional, (x, y)), (Squares(torch.nn.Linear(8, 1)), [x])):
        assert fit(loss, [batch], torch.optim.SGD(loss.parameters(), lr=0.1)).run().isfinite().all()
    broken = Squares(lambda x: torch.nn.functional.relu(x, 1, 2, 3))  # an error of the program's own
    broken.net.weight = None
    with pytest.raises(TypeError, match="^relu"):
        fit(broken, [(x,)], torch.optim.SGD([torch.nn.Parameter(x)], lr=0.1)).run()


def test_every_face_of_a_loss_is_asked_alike():
    """A module that has no `backward`, one that has, and one that is compiled: the stepper moves them alike."""
    from pplvm.graphs.compiled import Compiled

    class Own(Regression):
        def backward(self, x, y):
            asked.append(type(self).__name__)
            value = self(x, y)
            value.backward()
            return value.detach()

    asked, batch, found = [], (torch.randn(4, 3), torch.arange(4)), []
    state = Regression().state_dict()
    for kind, wrap in (
        (Regression, lambda loss: loss),
        (Own, lambda loss: loss),
        (Own, lambda loss: Compiled(loss, "graph")),
    ):
        loss = kind()
        loss.load_state_dict(state)
        stepper = Stepper(wrap(loss), torch.optim.SGD(loss.parameters(), lr=0.1))
        assert stepper.plain is loss
        found.append([stepper(batch).loss, *[p.detach() for p in loss.parameters()]])
    assert asked == ["Own"]
    assert all(torch.allclose(a, b, rtol=1e-12) for each in found[1:] for a, b in zip(each, found[0], strict=True))


def test_a_loss_has_the_face_of_what_compiles_it():
    from pplvm.graphs.compiled import Compiled
    from pplvm.objectives.objective import Loss
    from pplvm.objectives.pathwise import Pathwise
    from pplvm.programs.vae import VAE

    loss, x, found = Loss(Pathwise(), VAE(8, 2, (5,))), torch.ones(3, 8), []
    loss(x)
    for face in (lambda: loss(x).backward(), lambda: loss.backward(x), lambda: Compiled(loss, "graph").backward(x)):
        loss.zero_grad()
        torch.manual_seed(1)
        value = face()
        assert value is None or not value.requires_grad
        found.append([p.grad.clone() for p in loss.parameters()])
    assert all(torch.equal(a, b) for each in found[1:] for a, b in zip(each, found[0], strict=True))
    loss.backward(x)  # is added
    assert not torch.equal(next(loss.parameters()).grad, found[0][0])


def test_parts_of_a_loss_have_optimizers_of_their_own():
    parts = torch.nn.ModuleDict({"model": torch.nn.Linear(3, 1), "guide": torch.nn.Linear(3, 3)})
    loss = Squares(torch.nn.Sequential(parts["guide"], parts["model"]))
    optimizers = {name: torch.optim.SGD(part.parameters(), lr=0.1) for name, part in parts.items()}
    stepper = Stepper(loss, optimizers)
    before = {name: part.weight.clone() for name, part in parts.items()}
    stepper(torch.randn(4, 3), only=["guide"])
    assert torch.equal(parts["model"].weight, before["model"]) and not torch.equal(
        parts["guide"].weight, before["guide"]
    )
    with pytest.raises(ValueError, match="share parameters: give each to one"):
        Stepper(loss, {"one": optimizers["model"], "two": torch.optim.Adam(loss.parameters())})


def test_clipping_schedules_and_averages_are_those_of_torch():
    net = torch.nn.Linear(3, 1)
    loss = Squares(net, 1e3)
    optimizer = torch.optim.SGD(net.parameters(), lr=1.0)
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, [2], gamma=0.5)
    averaged = AveragedModel(loss, multi_avg_fn=get_ema_multi_avg_fn(0.5))
    path = [torch.cat([p.detach().flatten() for p in net.parameters()])]
    x = torch.randn(4, 3)
    for _ in fit(loss, 3 * [x], optimizer, schedulers=[scheduler], clip=0.1, averaged=averaged):
        path.append(torch.cat([p.detach().flatten() for p in net.parameters()]))
    moves = [float((b - a).norm()) for a, b in zip(path[:-1], path[1:], strict=True)]
    assert moves == pytest.approx([0.1, 0.1, 0.05], rel=1e-4)
    mean = torch.cat([p.detach().flatten() for p in averaged.module.net.parameters()])
    assert torch.allclose(mean, 0.25 * path[1] + 0.25 * path[2] + 0.5 * path[3])
    with pytest.raises(ValueError, match="clip must be positive"):
        fit(loss, [], optimizer, clip=0.0)


def test_a_module_that_changes_between_steps_is_told_once_a_step_before_the_average():
    """Though two names lead to it, and before `averaged` sees it: its buffer counts the steps that have moved it."""

    class Counting(torch.nn.Linear):
        def __init__(self):
            super().__init__(3, 1)
            self.register_buffer("steps", torch.zeros(()))

        @torch.no_grad()
        def after_step(self, all_rows):
            moved.append(not torch.equal(self.weight, weights[-1]))
            weights.append(self.weight.clone())
            assert torch.equal(all_rows(self.weight), self.weight)
            self.steps += 1

    net = Counting()
    weights, moved = [net.weight.detach().clone()], []
    loss = Squares(torch.nn.ModuleDict({"one": net, "two": net})["one"])
    loss.again = net
    averaged = AveragedModel(loss, multi_avg_fn=get_ema_multi_avg_fn(0.5), use_buffers=True)
    optimizer = torch.optim.SGD(loss.parameters(), lr=0.1)
    fit(loss, 3 * [torch.randn(4, 3)], optimizer, averaged=averaged, compile="graph").run()
    assert float(net.steps) == 3 and moved == 3 * [True]
    assert float(averaged.module.net.steps) == 0.25 * 1 + 0.25 * 2 + 0.5 * 3


def test_the_aggressive_rule_steps_the_guide_until_its_loss_rises_and_the_model_once():
    parts = torch.nn.ModuleDict({"model": torch.nn.Linear(1, 1), "guide": torch.nn.Linear(1, 1)})
    losses = iter([4.0, 3.0, 2.0, 2.0, 5.0, 5.0, 9.0] + 20 * [1.0])

    class Scripted(torch.nn.Module):
        def forward(self, x):
            return next(losses) + 0.0 * (parts["guide"](x) + parts["model"](x)).sum()

    taken = []

    class Counted(torch.optim.SGD):
        def step(self, closure=None):
            taken.append(self.name)

    optimizers = {name: Counted(part.parameters(), lr=0.1) for name, part in parts.items()}
    for name, optimizer in optimizers.items():
        optimizer.name = name
    rule = Aggressive(iter(lambda: torch.ones(1, 1), None), most=100, window=2, patience=2)
    stepper = Stepper(Scripted(), optimizers)
    rule(stepper, torch.ones(1, 1))
    assert taken == 6 * ["guide"] + ["model"]  # windows of mean 3.5, 2, 5: the third one rises
    for information, is_on in [(1.0, True), (0.5, True), (2.0, True), (1.9, True), (2.0, False)]:
        rule.end_epoch(lambda information=information: information)
        assert rule.is_on == is_on
    rule.end_epoch(lambda: pytest.fail("nobody asks any more"))
    taken.clear()
    rule(stepper, torch.ones(1, 1))
    assert taken == ["model", "guide"]
    with pytest.raises(ValueError, match="no optimizer is named 'guide', only all"):
        rule(Stepper(Scripted(), torch.optim.SGD(parts.parameters())), torch.ones(1, 1))


def test_a_signal_is_a_request_and_a_second_one_is_not():
    before = signal.getsignal(signal.SIGTERM)
    with StopRequest() as request:
        assert request.exit_code == 0
        signal.raise_signal(signal.SIGTERM)
        assert request.exit_code == 143
        assert signal.getsignal(signal.SIGTERM) == signal.getsignal(signal.SIGINT) == signal.SIG_DFL
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_signal_that_is_not_named_is_left_alone():
    before = signal.getsignal(signal.SIGTERM)
    with StopRequest(signal.SIGINT) as request:
        assert signal.getsignal(signal.SIGTERM) == before
        signal.raise_signal(signal.SIGINT)
        assert request.exit_code == 130 and signal.getsignal(signal.SIGTERM) == before


@pytest.mark.parametrize("compile", ["auto", "graph"])
def test_a_loss_as_one_graph_is_trained_like_the_loss(compile):
    from pplvm.objectives.objective import Loss
    from pplvm.objectives.pathwise import Pathwise
    from pplvm.programs.vae import VAE

    batches = [(torch.rand(6, 8) < 0.4).double() for _ in range(120)]
    found = []
    for tier in ("off", compile):
        torch.manual_seed(0)
        loss = Loss(Pathwise(), VAE(8, 2, (5,)))
        averaged = AveragedModel(loss, multi_avg_fn=get_ema_multi_avg_fn(0.9), use_buffers=True)
        optimizer = torch.optim.Adam(loss.parameters(), lr=0.01)
        scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 120)
        torch.manual_seed(1)
        options = {"schedulers": [scheduler], "clip": 5.0, "averaged": averaged, "compile": tier}
        values = list(fit(loss, batches, optimizer, **options))
        found.append([torch.stack(values), *averaged.state_dict().values(), *loss.state_dict().values()])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_the_tier_of_a_checkpoint_is_taken_up():
    from pplvm.graphs.compiled import compiled

    steppers = []
    for _ in range(2):
        net = torch.nn.Linear(3, 1)
        steppers.append(Stepper(compiled(Squares(net), "auto", 1000), torch.optim.SGD(net.parameters(), lr=0.1)))
    steppers[0](torch.randn(4, 3))
    assert steppers[0].state_dict()["tier"] == "graph"
    assert list(steppers[0].state_dict()["loss"]) == ["net.weight", "net.bias"]
    steppers[1].load_state_dict(steppers[0].state_dict())
    assert steppers[1].compiled.tier == "graph"
