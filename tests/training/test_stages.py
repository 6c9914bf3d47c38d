"""Two stages of training: what is taken from a run, and what a freeze keeps whatever trains beside it."""

import copy
import pickle
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from pplvm.training.checkpoints import Checkpoints
from pplvm.training.fit import fit
from pplvm.training.stages import initialize, train_only

X = torch.randn(40, 3, generator=torch.Generator().manual_seed(5), dtype=torch.float64)


class Program(nn.Module):
    """An encoder whose statistics and dropout depend on the mode, a scale of its own, and a head."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.BatchNorm1d(3), nn.Dropout(0.5), nn.Linear(3, 2))
        self.head = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, x):
        return (self.scale * self.head(self.encoder(x)) - 1.0).square().mean()


@pytest.fixture
def program():
    torch.manual_seed(3)
    found = Program()
    for _ in range(3):  # statistics that are no start
        found(X + 2.0)
    return found


def frozen_state(program):
    return {name: value.clone() for name, value in program.state_dict().items() if not name.startswith("head")}


def moved(program, before):
    return [name for name, value in before.items() if not torch.equal(program.state_dict()[name], value)]


def trained(program, compile="off", averaged=None, steps=12):
    optimizer = torch.optim.Adam([p for p in program.parameters() if p.requires_grad], lr=0.05)
    return fit(program, steps * [X], optimizer, compile=compile, averaged=averaged).run()


@pytest.mark.parametrize("compile", ["off", "graph"])
def test_what_is_frozen_is_the_same_bit_by_bit_and_the_rest_learns(program, compile):
    train_only(program, "head")
    before = frozen_state(program)
    head = copy.deepcopy(program.head.state_dict())
    averaged = AveragedModel(program, multi_avg_fn=get_ema_multi_avg_fn(0.5), use_buffers=True)
    values = trained(program, compile, averaged)
    assert len(before) == 8 and moved(program, before) == [] == moved(averaged.module, before)
    assert all(not torch.equal(program.head.state_dict()[name], value) for name, value in head.items())
    assert values[-1] < 0.5 * values[0]


def test_an_optimizer_of_all_parameters_with_a_past_moves_no_frozen_one(program):
    optimizer = torch.optim.AdamW(program.parameters(), lr=0.05, weight_decay=0.1)
    fit(program, 5 * [X], optimizer, compile="off").run()
    train_only(program, "head")
    before, head = frozen_state(program), program.head[0].weight.clone()
    fit(program, 5 * [X], optimizer, compile="off").run()
    assert moved(program, before) == [] and not torch.equal(program.head[0].weight, head)


def test_a_gradient_that_is_off_alone_does_not_keep_the_statistics(program):
    """The power of the test above: statistics move in training mode, and the loss is another one."""
    for name, p in program.named_parameters():
        p.requires_grad_(name.startswith("head"))
    before = frozen_state(program)
    trained(program)
    assert moved(program, before) == [
        "encoder.0.running_mean",
        "encoder.0.running_var",
        "encoder.0.num_batches_tracked",
    ]


@pytest.mark.parametrize("compile", ["off", "graph"])
def test_its_loss_is_that_of_the_encoder_in_evaluation_mode(program, compile):
    by_hand = copy.deepcopy(program).train()
    by_hand.encoder.eval()
    train_only(program, "head")
    assert float(trained(program, compile, steps=1)) == float(by_hand(X).detach())
    assert float(by_hand.train()(X).detach()) != float(by_hand.eval()(X).detach())


def test_it_survives_every_train_copies_and_pickles(program):
    train_only(program, "head.0", "scale")
    for each in (program, copy.deepcopy(program), pickle.loads(pickle.dumps(program)), AveragedModel(program).module):
        for mode in (each, each.encoder, each.encoder[1], each.head):
            mode.train()
        training = {name for name, module in each.named_modules() if module.training}
        assert training == {"head.0"}
        assert {name for name, p in each.named_parameters() if p.requires_grad} == {
            "scale",
            "head.0.weight",
            "head.0.bias",
        }
        assert not each.eval().head[0].training


def test_a_module_that_trains_in_a_way_of_its_own_still_does():
    class Counting(nn.Linear):
        count = 0

        def train(self, mode=True):
            self.count += 1
            return super().train(mode)

    program = nn.ModuleDict({"own": Counting(2, 2), "other": nn.Linear(2, 2)})
    train_only(program, "other")
    program.train()
    assert program["own"].count == 1 and not program["own"].training


def test_another_stage_takes_back_what_the_first_one_froze(program):
    program.encoder[2].bias.requires_grad_(False)  # by its author, for good
    train_only(program, "head")
    train_only(program, "encoder")
    learning = {name for name, p in program.named_parameters() if p.requires_grad}
    assert learning == {"encoder.0.weight", "encoder.0.bias", "encoder.2.weight"}
    assert {name for name, module in program.train().named_modules() if module.training} == {
        "encoder", "encoder.0", "encoder.1", "encoder.2",
    }  # fmt: skip
    train_only(program)
    assert sum(p.requires_grad for p in program.parameters()) == 8 and program.train().head.training


def test_a_weight_that_a_part_shares_learns_with_it():
    program = nn.ModuleDict({"encoder": nn.Linear(2, 2), "decoder": nn.Linear(2, 2)})
    program["decoder"].weight = program["encoder"].weight
    train_only(program, "decoder")
    assert [name for name, p in program.named_parameters() if p.requires_grad] == ["encoder.weight", "decoder.bias"]
    train_only(program)
    assert all(p.requires_grad for p in program.parameters())


@pytest.mark.parametrize(
    "part, error, words",
    [
        (
            "haed",
            LookupError,
            "Program has no part 'haed', did you mean 'head'.: it has encoder, head, scale, encoder.0 and",
        ),
        ("", LookupError, "Program has no part ''"),
        ("encoder.1", ValueError, "part 'encoder.1' of Program has no parameter that learns, so that nothing is left"),
    ],
)
def test_no_part_is_refused_and_nothing_is_frozen(program, part, error, words):
    with pytest.raises(error, match=words):
        train_only(program, "head", part)
    assert all(p.requires_grad for p in program.parameters()) and all(m.training for m in program.modules())


class Second(Program):
    def __init__(self):
        super().__init__()
        self.prior = nn.Linear(2, 2)
        del self.scale


@pytest.fixture
def run(program, tmp_path):
    """A run of two checkpoints, the first of which is the best."""
    saved = Checkpoints(tmp_path / "run")
    saved.save(3, program.state_dict(), {}, {"seed": 0}, best=True)
    with torch.no_grad():
        program.encoder[2].weight.zero_()
    saved.save(5, program.state_dict(), {}, {"seed": 0})
    return tmp_path / "run"


@pytest.mark.parametrize("where, weight", [("", 0.0), ("checkpoints/best", 1.0)])
def test_weights_and_buffers_of_equal_names_are_taken_from_a_run(run, program, where, weight):
    second = Second()
    prior = second.prior.weight.clone()
    told = initialize(second, run / where)
    assert all(
        torch.equal(second.state_dict()[name], program.state_dict()[name])
        for name in told.taken
        if "encoder.2" not in name
    )
    assert bool(second.encoder[2].weight.any()) == bool(weight) and torch.equal(second.prior.weight, prior)
    assert len(told.taken) == 14 and told.new == ("prior.weight", "prior.bias") and told.unused == ("scale",)
    assert str(told) == "14 weights taken; new: prior.weight, prior.bias; left aside: scale"


def test_weights_that_do_not_fit_are_refused_in_words(run, tmp_path):
    wider = Program()
    wider.encoder[2] = nn.Linear(3, 7)
    before = wider.encoder[0].running_mean.clone()
    with pytest.raises(
        ValueError, match=r"'encoder.2.weight' has shape \(2, 3\) in .*run and \(7, 3\) in Program: build"
    ):
        initialize(wider, run)
    assert torch.equal(wider.encoder[0].running_mean, before)
    with pytest.raises(
        ValueError, match=r"run and Linear have no weight of an equal name: .* give the same parts the same"
    ):
        initialize(nn.Linear(2, 2), str(run))
    for nothing in (tmp_path / "nothing", tmp_path):
        with pytest.raises(
            FileNotFoundError, match="there is no checkpoint in .*: name a directory that pplvm fit wrote"
        ):
            initialize(Program(), nothing)
    Path(run, "checkpoints/00000003/model.safetensors").write_bytes(b"")
    with pytest.raises(ValueError, match="is cut short"):
        initialize(Program(), run / "checkpoints/best")


def test_parameters_that_a_first_batch_makes_are_taken_too():
    torch.manual_seed(0)
    lazy = nn.Sequential(nn.LazyLinear(2))
    told = initialize(lazy, nn.Sequential(nn.Linear(3, 2)).state_dict())
    assert told.taken == ("0.weight", "0.bias") and lazy(torch.ones(1, 3)).shape == (1, 2)


def test_one_parameter_of_two_names_is_taken_under_either_and_never_given_two_values():
    tied = nn.ModuleDict({"encoder": nn.Linear(2, 2), "decoder": nn.Linear(2, 2)})
    apart = copy.deepcopy(tied).state_dict()
    tied["decoder"].weight = tied["encoder"].weight
    told = initialize(tied, {"decoder.weight": apart["decoder.weight"]})
    assert told.taken == ("encoder.weight", "decoder.weight")
    assert torch.equal(tied["encoder"].weight, apart["decoder.weight"])
    with pytest.raises(ValueError, match="'encoder.weight' and 'decoder.weight' are one parameter of ModuleDict, and"):
        initialize(tied, apart)
    assert torch.equal(tied["encoder"].weight, apart["decoder.weight"])
