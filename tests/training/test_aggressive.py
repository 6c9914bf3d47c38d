"""Aggressive training says which of its many steps diverged, and that the learning rate did it."""

import re

import pytest
import torch

from pplvm.cli import main
from pplvm.training.aggressive import Aggressive
from pplvm.training.fit import fit
from pplvm.training.stepper import NotFinite


class Falls(torch.nn.Module):
    """A loss with curvature 1,000, on which steps of a rate above 0.002 grow."""

    def __init__(self):
        super().__init__()
        self.model = torch.nn.Parameter(torch.ones(()))
        self.guide = torch.nn.Parameter(torch.ones(()))

    def forward(self, x):
        return 500 * self.guide.square() + (self.model - 1) ** 2 + 0 * x.sum()


def aggressive(clip, lr=0.1):
    torch.set_default_dtype(torch.float32)
    try:
        loss, batches = Falls(), iter(lambda: torch.ones(1), None)
        optimizers = {name: torch.optim.SGD([getattr(loss, name)], lr=lr) for name in ("model", "guide")}
        return fit(loss, [torch.ones(1)], optimizers, clip=clip, rule=Aggressive(batches, window=50)).run()
    finally:
        torch.set_default_dtype(torch.float64)


def test_a_guide_that_diverges_in_the_inner_steps_is_blamed_on_the_rate():
    words = (
        r"^step 0: inner step \d+ of the guide: the (loss|gradient's norm) is (inf|nan): "
        r"lower the learning rate of 0.1, or clip the gradient to a norm of 5, say: it was [\d.e+]+ one step before$"
    )
    with pytest.raises(NotFinite, match=words):
        aggressive(clip=None)


def test_clipped_as_in_the_paper_it_goes_on():
    assert float(aggressive(clip=5.0)) < 500


def test_the_command_line_says_so_too(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    torch.set_default_dtype(torch.float32)
    words = "fit --aggressive --optimizer sgd@momentum=0.9 --learning-rate 0.1 --steps 3 --output run".split()
    try:
        assert main(words) == 3
        said = capsys.readouterr().err
        assert main([*words, "--clip", "5", "--overwrite"]) == 0
    finally:
        torch.set_default_dtype(torch.float64)
    assert re.search(r"step 1: inner step \d+ of the guide: .*, or lower the learning rate of 0.1, or clip", said), said
