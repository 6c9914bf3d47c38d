"""`pplvm check` of programs that mix particles, or data."""

import sys
import textwrap

import numpy as np
import pytest
import torch

from pplvm.cli import main

CODE = """
    import pyro, torch
    import pyro.distributions as dist
    from pplvm import LeadingDims

    class Right(torch.nn.Module):
        def __init__(self, data_size):
            super().__init__()
            net = torch.nn.Sequential(torch.nn.Unflatten(-1, (1, 4)), self.convolution(data_size))
            self.decoder = LeadingDims(net, 1)
            self.encoder = torch.nn.Linear(data_size, 4)
        def convolution(self, data_size):
            return torch.nn.Sequential(torch.nn.Conv1d(1, data_size, 4), torch.nn.Flatten(1))
        def model(self, x):
            with pyro.plate("batch", len(x)):
                z = pyro.sample("z", dist.Normal(torch.zeros(4), 1.0).to_event(1))
                pyro.sample("x", dist.Bernoulli(logits=self.decoder(z)).to_event(1), obs=x)
        def guide(self, x):
            with pyro.plate("batch", len(x)):
                pyro.sample("z", dist.Normal(self.encoder(x), 1.0).to_event(1))

    class Wrong(Right):
        def __init__(self, data_size):
            super().__init__(data_size)
            self.decoder = self.decoder.layer

    class Normalized(Right):
        def convolution(self, data_size):
            return torch.nn.Sequential(super().convolution(data_size), torch.nn.BatchNorm1d(data_size))
"""


@pytest.fixture
def check(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    torch.set_default_dtype(torch.float32)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "particular.py").write_text(textwrap.dedent(CODE))
    np.savez("mine.npz", x=(np.random.default_rng(0).random((80, 7)) < 0.4).astype(np.uint8))

    def run(name):
        code = main(["check", f"particular:{name}", "--data", "mine.npz", "--key", "x"])
        return code, capsys.readouterr().out

    yield run
    torch.set_default_dtype(torch.float64)
    sys.modules.pop("particular", None)


def test_particles_that_fail_at_once_are_a_violation(check):
    code, told = check("Wrong")
    assert code == 2 and "violation: with K > 1 particles at once, the program fails after site 'z' in layer" in told
    assert "(Conv1d) at particular.py, line" in told and "pplvm.LeadingDims(layer, 2)" in told
    assert "1 violation\n" in told
    assert check("Right")[0] == 0


def test_data_that_depend_on_each_other_are_noted(check):
    code, told = check("Normalized")
    assert code == 0 and "no violations" in told
    assert "note: objectives that credit each datum by itself refuse this program: model site 'x'" in told
    assert "note" not in check("Right")[1]


def test_fit_says_before_the_first_step_that_many_particles_will_be_refused(check, capsys):
    check("Right")
    for name, is_told in (("Wrong", True), ("Right", False)):
        words = ["--data=mine.npz", "--key=x", "--steps=1", "--objective=pathwise", f"--output={name}"]
        assert main(["fit", f"--program=particular:{name}", *words]) == 0
        told = capsys.readouterr().err
        line = "pplvm evaluate, compare and objectives of many particles will refuse it: with K > 1 particles at once"
        assert (line in told) == is_told
        assert not is_told or told.index(line) < told.index("training particular:Wrong")
