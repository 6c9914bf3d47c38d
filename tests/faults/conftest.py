"""A user's folder with programs that are wrong in one way each, and the commands as a user meets them."""

import importlib
import io
import sys
import textwrap
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import numpy as np
import pytest
import torch

from pplvm.cli import main
from pplvm.data.files import from_array

PROGRAMS = """
    import time
    from pathlib import Path
    import pyro, torch
    import pyro.distributions as dist
    from torch import nn

    class Good(nn.Module):
        def __init__(self, data_size, width=3):
            super().__init__()
            self.width = width
            self.decoder, self.encoder = nn.Linear(width, data_size), nn.Linear(data_size, 2 * width)

        def plate(self, x):
            return pyro.plate("batch", len(x))

        def likelihood(self, x, z):
            return dist.Bernoulli(logits=self.decoder(z))

        def posterior(self, x):
            loc, log_scale = self.encoder(x.flatten(1)).chunk(2, -1)
            return dist.Normal(loc, log_scale.exp())

        def model(self, x):
            with self.plate(x):
                z = pyro.sample("z", dist.Normal(torch.zeros(self.width), 1.0).to_event(1))
                pyro.sample("x", self.likelihood(x, z).to_event(1), obs=x.flatten(1))

        def guide(self, x):
            with pyro.plate("batch", len(x)):
                pyro.sample("z", self.posterior(x).to_event(1))

    class Other(Good):
        '''The same tensors, another class.'''

    class Lacks(Good):
        def guide(self, x):
            pass

    class Misnamed(Good):
        def guide(self, x):
            with self.plate(x):
                pyro.sample("zz", self.posterior(x).to_event(1))

    class Wide(Good):
        def posterior(self, x):
            return dist.Normal(self.encoder(x.flatten(1)), 1.0)

    class Positive(Good):
        def model(self, x):
            with self.plate(x):
                z = pyro.sample("z", dist.LogNormal(torch.zeros(self.width), 1.0).to_event(1))
                pyro.sample("x", self.likelihood(x, z).to_event(1), obs=x.flatten(1))

    class Subsampled(Good):
        def plate(self, x):
            return pyro.plate("batch", 50, subsample_size=len(x))

    class SubsampledTwice(Subsampled):
        def guide(self, x):
            with self.plate(x):
                pyro.sample("z", self.posterior(x).to_event(1))

    class Forgetful(Good):
        def model(self, x):
            with self.plate(x):
                z = pyro.sample("z", dist.Normal(torch.zeros(self.width), 1.0).to_event(1))
                pyro.sample("x", self.likelihood(x, z).to_event(1))

    class Raw(Good):
        def posterior(self, x):
            return dist.Normal(*self.encoder(x.flatten(1)).chunk(2, -1))

    class Unflattened(Good):
        def posterior(self, x):
            return dist.Normal(self.encoder(x)[..., : self.width], 1.0)

    class Rows(Unflattened):
        def __init__(self, data_size):
            super().__init__(data_size)
            self.encoder = nn.Linear(8, 6)

    class Counts(Good):
        def likelihood(self, x, z):
            return dist.Binomial(255, logits=self.decoder(z))

    class Turns(Good):
        '''In training the loss is NaN where a datum is marked, and so is a running mean that the next batch needs.'''

        def __init__(self, data_size):
            super().__init__(data_size)
            self.register_buffer("mean", torch.zeros(()))

        def likelihood(self, x, z):
            marked = (x[:, :1] == 1) & self.training
            bad = torch.where(marked, float("nan"), 1.0)
            if self.training:
                self.mean = 0.9 * self.mean + 0.1 * bad.mean().detach()
            return dist.Bernoulli(logits=self.decoder(z) * bad + 0 * self.mean)

    class Kinked(Good):
        '''In training the loss is finite and its gradient NaN where a datum is marked.'''

        def likelihood(self, x, z):
            logits = self.decoder(z)
            if self.training and (x[:, 0] == 1).any():
                logits = logits + (logits * 0).abs().sqrt()
            return dist.Bernoulli(logits=logits)

    class Falls(Good):
        '''In training the scale falls below zero where a datum is marked.'''

        def posterior(self, x):
            found = super().posterior(x)
            return dist.Normal(found.loc, torch.where((x[:, :1] == 1) & self.training, -1.0, found.scale))

    class Raises(Good):
        def likelihood(self, x, z):
            if self.training and (x[:, 0] == 1).any():
                raise ValueError("of the user's own")
            return super().likelihood(x, z)

    class Sleeps(Good):
        '''Its steps take long where there is a file `slow`.'''

        def likelihood(self, x, z):
            if self.training and Path("slow").exists():
                Path("asleep").touch()
                time.sleep(60)
            return super().likelihood(x, z)

    layer = nn.Linear(2, 2)
"""


@pytest.fixture(autouse=True)
def a_users_folder(known_state, tmp_path, monkeypatch):
    """Single precision, in a folder of their own, with a module of programs in it."""
    torch.set_default_dtype(torch.float32)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "argv", ["pplvm", "fit"])
    monkeypatch.setattr("pplvm.plots.curves.save_curves", lambda records, path: path.write_text("most of a run's time"))
    Path("mine.py").write_text(textwrap.dedent(PROGRAMS))
    importlib.invalidate_caches()
    yield
    for name in [n for n, m in sys.modules.items() if str(getattr(m, "__file__", "")).startswith(str(tmp_path))]:
        del sys.modules[name]
    torch.set_default_dtype(torch.float64)


@pytest.fixture
def run():
    """A command, run in this process; its exit code and the lines that it wrote, those of stderr first."""

    def run(*words):
        out, err = io.StringIO(), io.StringIO()
        with redirect_stdout(out), redirect_stderr(err):
            try:
                code = main([str(word) for word in words])
            except SystemExit as exit:
                code = exit.code
        lines = (err.getvalue() + out.getvalue()).replace("\r", "\n").splitlines()
        return code, [line for line in lines if line.strip() and "it/s" not in line and "s/it" not in line]

    return run


@pytest.fixture
def fit(run):
    """`pplvm fit` into the directory `run`, a few small steps, all of them saved."""

    def fit(*words):
        few = ("--output=run", "--steps=4", "--batch-size=12", "--save-every=1", "--log-every=2", "--keep=9")
        return run("fit", *(few if not any(str(word).startswith("--resume") for word in words) else ()), *words)

    return fit


@pytest.fixture
def refused(fit):
    """The sentence that bad input gets, which is all that there is: no traceback, no directory."""

    def refused(*words, code=2):
        before = snapshot(".")
        found, lines = fit(*words)
        told = [line for line in lines if not line.startswith(("training ", "data: ", "--batch-size"))]
        assert found == code, lines
        assert len(told) == 1 and len(told[0]) < 600 and "Traceback" not in told[0], lines
        assert code != 2 or snapshot(".") == before, "a refused command has changed something"
        return told[0]

    return refused


@pytest.fixture
def rows():
    """A file of 60 binary data."""
    np.save("rows.npy", (np.random.default_rng(0).random((60, 7)) < 0.4).astype(np.uint8))


@pytest.fixture
def marked():
    """A file of 60 binary data, of whose training split one is marked; and its number there."""
    np.save("numbers.npy", np.arange(60)[:, None])
    train = from_array("numbers.npy", split="train").images.flatten().tolist()
    rows = (np.random.default_rng(0).random((60, 7)) < 0.4).astype(np.uint8)
    rows[:, 0] = 0
    rows[train[20], 0] = 1
    np.save("marked.npy", rows)
    return "marked.npy", 20


def snapshot(folder):
    """Every file below a folder with its bytes, every link with where it leads; not what Python compiles."""
    found = {}
    for path in Path(folder).rglob("*"):
        if path.is_symlink():
            found[str(path)] = path.readlink()
        elif path.is_file() and path.suffix != ".pyc":
            found[str(path)] = path.read_bytes()
    return found
