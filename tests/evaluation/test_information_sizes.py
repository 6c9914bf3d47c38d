"""How many data information is told of: by the operations that a pair of draw and datum costs, and by what is asked."""

import math

import pytest
import torch
from torch import nn

from pplvm.evaluation.evaluate import evaluate
from pplvm.evaluation.guide_density import operations_a_pair
from pplvm.evaluation.information_sizes import OPERATIONS, information_sizes
from pplvm.evaluation.per_datum import evaluation_mode
from pplvm.programs.dequantized_flow import dequantized_flow
from pplvm.programs.hierarchical_vae import hierarchical_vae
from pplvm.programs.iaf_vae import iaf_vae
from pplvm.programs.sigmoid_belief import SigmoidBeliefNet
from pplvm.programs.vae import VAE


def operations(program: nn.Module, D: int) -> float:
    x = torch.zeros(3, D)
    with evaluation_mode(program, x) as pair:
        return operations_a_pair(pair, x)


@pytest.mark.parametrize("Z, hidden", [(3, 7), (6, 7), (3, 11)])
def test_an_inverse_that_goes_value_by_value_costs_a_network_for_each_value(Z, hidden):
    program = iaf_vae(5, Z, hidden_sizes=(4,), num_flows=2, flow_hidden_sizes=(hidden,))
    one = 2 * (Z * hidden + hidden * 2 * Z + Z * 2 * Z)  # a masked network's products, one past its hidden layer
    assert operations(program, 5) == 2 * Z * one


def test_networks_that_run_once_a_datum_cost_a_pair_nothing_and_those_below_draws_do():
    assert operations(VAE(5, 2, hidden_sizes=(4,)), 5) == 0
    assert operations(SigmoidBeliefNet(5, latent_sizes=(4,)), 5) == 0
    assert operations(hierarchical_vae(5, latent_sizes=(2, 3), hidden_size=4), 5) > 0


def test_all_data_where_a_pair_costs_nothing_and_as_many_as_the_operations_allow_where_it_does(monkeypatch):
    x = torch.zeros(200, 5)
    assert len(information_sizes(VAE(5, 2, hidden_sizes=(4,)), x).rows) == 200
    program = iaf_vae(5, 2, hidden_sizes=(4,), flow_hidden_sizes=(7,))
    assert OPERATIONS > 200**2 * operations(program, 5) and not information_sizes(program, x).why
    monkeypatch.setattr("pplvm.evaluation.information_sizes.OPERATIONS", 50**2 * operations(program, 5))
    sizes = information_sizes(program, x)
    assert sizes.rows.tolist() == list(range(0, 200, 4)) and "operations" in sizes.why
    assert sizes.dreamt**2 * sizes.batches <= 50**2 and sizes.draws <= 50**2
    assert len(information_sizes(program, x, 200).rows) == 200, "what is asked for is done"
    assert len(information_sizes(program, x, 20).rows) == 20


def test_an_evaluation_of_few_says_so_and_is_that_of_these_data():
    program, numbers = iaf_vae(5, 2, hidden_sizes=(4,), flow_hidden_sizes=(7,)), torch.arange(12)
    x = (numbers.unsqueeze(1) >> torch.arange(5) & 1).double()  # all different, as equal data are numbered
    few, alone = evaluate(program, x, ks=(1,), information_data=4), evaluate(program, x[::3], ks=(1,))
    assert few.sections["information"] == alone.sections["information"]
    assert few.sections["bounds on information"][0] == alone.sections["bounds on information"][0]
    assert "information of the other 8 data: 4 were asked for" in few.left_out
    assert "information" not in few.per_datum and len(few.per_datum["rate"]) == 12
    assert math.isclose(float(alone.per_datum["information"].mean()), alone.sections["information"][3].value)


@pytest.mark.parametrize("asked, why", [(0, "not asked for"), (1, "at least 2")])
def test_none_and_too_few_leave_it_out_with_the_reason(asked, why):
    found = evaluate(VAE(5, 2, hidden_sizes=(4,)), torch.eye(5), ks=(1,), information_data=asked)
    assert not {"information", "bounds on information"} & found.sections.keys()
    assert [line for line in found.left_out if line.startswith("information") and why in line]


def test_latents_that_determine_the_data_tell_all_of_them():
    program = dequantized_flow(4, levels=3, channels=0)
    found = evaluate(program, torch.randint(3, (6, 4)) / 2, ks=(1,), levels=3)
    assert [line for line in found.left_out if "entropy of x" in line] and "rate and distortion" in found.sections
    assert "information" not in found.sections
