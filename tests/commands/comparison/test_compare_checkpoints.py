"""The training that `pplvm compare` does before it measures."""

import argparse
from types import SimpleNamespace

import pytest
import torch

from pplvm.commands.comparison.compare_checkpoints import each_checkpoint
from pplvm.data.image_data import ImageData
from pplvm.graphs.compiled import gradient_graph
from pplvm.objectives.objective import Loss
from pplvm.objectives.pathwise import Pathwise
from pplvm.programs.vae import VAE


@pytest.fixture(autouse=True)
def single_precision(known_state):
    torch.set_default_dtype(torch.float32)
    yield
    torch.set_default_dtype(torch.float64)


@pytest.mark.parametrize("steps, graphs", [("0,5", 0), ("5,100", 1)])
def test_a_graph_is_made_only_where_its_steps_pay_for_it(steps, graphs, monkeypatch):
    made = []
    monkeypatch.setattr(
        "pplvm.graphs.compiled.gradient_graph", lambda *args: made.append(args) or gradient_graph(*args)
    )
    data = ImageData(torch.eye(6, dtype=torch.uint8), "eye", levels=2)
    settings = argparse.Namespace(steps=steps, checkpoint=None, seed=0, learning_rate=0.01)
    loss, x = Loss(Pathwise(), VAE(data_size=6, latent_size=2, hidden_sizes=(3,))), torch.eye(6)[:2]
    shown = SimpleNamespace(shown=lambda title, rounds, total: rounds)
    assert [stop for _, stop in each_checkpoint(settings, loss, data, x, {}, shown)] == [
        int(n) for n in steps.split(",")
    ]
    assert len(made) == graphs
