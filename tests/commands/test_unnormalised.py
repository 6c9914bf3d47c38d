"""A program with a factor through every verb: nothing printed or written calls itself log p(x), elbo or bits."""

import json
import os
import sys
import textwrap
from pathlib import Path

import pytest
import torch
import xarray as xr

from pplvm.cli import main

PROGRAM = """
    import pyro
    import pyro.distributions as dist
    from pplvm.programs.vae import VAE

    class Shaped(VAE):
        '''A VAE with a term beside its likelihood, as a perceptual loss would be.'''

        def __init__(self, data_size, data_mean=None):
            super().__init__(data_size, 2, (5,), data_mean=data_mean)

        def model(self, x):
            x = x.flatten(1)
            with pyro.plate("batch", len(x)):
                z = pyro.sample("z", dist.Normal(self.zeros, 1.0).to_event(1))
                logits = self.decoder(z)
                pyro.sample("x", dist.Bernoulli(logits=logits).to_event(1), obs=x)
                pyro.factor("sharpness", logits.square().mean(-1))
"""


@pytest.fixture
def program(tmp_path, monkeypatch):
    torch.set_default_dtype(torch.float32)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    name = f"shaped_{os.getpid()}"
    Path(f"{name}.py").write_text(textwrap.dedent(PROGRAM))
    yield f"{name}:Shaped"
    sys.modules.pop(name, None)
    torch.set_default_dtype(torch.float64)


@pytest.mark.slow
def test_no_verb_calls_it_what_it_is_not(program, capsys):
    told = ["--steps=4", "--log-every=2", "--validate-every=2", "--batch-size=20"]
    assert main(["fit", "--program", program, *told, "--output=run"]) == 0
    out = capsys.readouterr()
    assert "model site 'sharpness' is a factor, which nothing normalises" in out.out + out.err
    records = [json.loads(line) for line in Path("run/metrics.jsonl").read_text().splitlines()]
    assert {"objective", "log_weight", "validation/objective"} <= set().union(*records)
    assert not {"bound", "elbo", "validation/bound"} & set().union(*records)

    ask = ["--limit=4", "--ks=1,5", "--annealed=2", "--chains=2", "--annealing-steps=2"]
    assert main(["evaluate", "run", f"--trust={program.removesuffix(':Shaped')}", *ask]) == 0
    printed = capsys.readouterr().out
    assert "log mean weight, k = 5" in printed and "mean log-weight" in printed
    figures = json.loads(Path("run/evaluation-test/evaluation.json").read_text())["figures"]
    names = [figure["name"] + figure["unit"] for section in figures.values() for figure in section]
    assert names and not any(claim in name for name in names for claim in ("log p(x)", "elbo", "bits", "density"))
    assert "log_p" not in xr.open_dataset("run/evaluation-test/evaluation.nc", engine="h5netcdf")

    few = ["--steps=0", "--replicates=16", "--sweep=", "--batch-size=4", "--minibatches=1"]
    assert main(["compare", "--program", program, "--estimators=pathwise,iwae", *few, "--output=compared"]) == 0
    printed = capsys.readouterr().out
    assert "mean log-weight" in printed and "elbo" not in printed
