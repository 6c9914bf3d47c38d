"""The command line as a user meets it: results on disk, and one clear line for whatever is wrong."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import arviz as az
import numpy as np
import pytest
import torch
import xarray as xr
import yaml

import pplvm
from pplvm.cli import main
from pplvm.data.batches import fixed_batch
from pplvm.data.binarization import binarize
from pplvm.data.images import digits
from pplvm.programs.sigmoid_belief import SigmoidBeliefNet

QUICK = ["--steps", "5", "--replicates", "6", "--minibatches", "2", "--sweep", "K=1,2", "--sweep-replicates", "5"]
FEW = ["--estimators", "rloo,score-function", *QUICK]


@pytest.fixture(autouse=True)
def as_a_user(monkeypatch, tmp_path):
    """In a directory of one's own, at torch's own default precision."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["pplvm", "compare"])
    torch.set_default_dtype(torch.float32)
    yield
    torch.set_default_dtype(torch.float64)
    for name in [n for n, m in sys.modules.items() if str(getattr(m, "__file__", "")).startswith(str(tmp_path))]:
        del sys.modules[name]


@pytest.fixture
def undrawn(monkeypatch):
    """Figures take most of a small comparison's time; those who look at none of them spare it."""
    monkeypatch.setattr("pplvm.commands.comparison.comparison_files.save_figures", lambda *section: [])


def refused(capsys, *words, code=2):
    """The one line that bad input gets."""
    try:
        found = main(list(words))
    except SystemExit as exit:
        found = exit.code
    shown = capsys.readouterr()
    told = [line for line in shown.err.splitlines() if line.strip() and not line.startswith("data: ")]
    lines = [line for line in told if "it/s" not in line and "s/it" not in line]
    assert found == code, shown.err
    assert len(lines) == 1 and "Traceback" not in shown.err, shown.err
    return lines[0]


def test_compare_writes_what_it_says(tmp_path, capsys):
    assert (
        main(
            [
                "compare",
                "--output",
                "run",
                "--estimators",
                "rloo,vimco,exact,pyro-renyi",
                "--set",
                "latent_sizes=4,",
                *QUICK,
            ]
        )
        == 0
    )
    shown = capsys.readouterr().out
    assert "rloo" in shown and "report:" in shown
    files = {path.name for path in (tmp_path / "run").iterdir()}
    assert files == {
        "gradients.nc", "metrics.csv", "config.yaml", "report.html", "work.png", "snr.png", "forest.png",
        "correlation.png",
    }  # fmt: skip
    config = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert config["steps"] == 5 and config["binarize"] == "static" and config["seed"] == 0
    with xr.open_dataset(tmp_path / "run" / "gradients.nc", engine="h5netcdf") as data:
        assert list(data.estimator.values) == ["rloo", "vimco", "exact", "pyro-renyi"]
        assert data.sizes["chain"] == 2 and data.sizes["draw"] == 6
        assert len(az.summary(data[["grad_norm"]].sel(estimator=["rloo", "vimco"]))) == 2
        assert float(data.sweep_snr.sel(estimator="rloo", k=2, side="model")) > 0
        assert str(data.reference.sel(estimator="rloo").values) == "exact"
        assert data.attrs["checkpoint"] == "5 steps" and data.attrs["steps"] == 5
        assert data.weight_khat.sizes == {"datum": 200} and 0 < float(data.weight_ess.min()) <= 1
        assert float(data.correlation.sel(estimator="rloo", other="rloo")) == pytest.approx(1)
    page = (tmp_path / "run" / "report.html").read_text()
    assert "weights have a tail that k-hat could be fitted to" in page, "16 states have none, and no figure is empty"
    assert page.count("data:image/png;base64") == 4 and "http://" not in page


def test_a_seed_gives_the_same_numbers(tmp_path, undrawn):
    for name in ("a", "b"):
        assert main(["compare", "--output", name, *FEW]) == 0
    one, two = (xr.load_dataset(tmp_path / name / "gradients.nc", engine="h5netcdf") for name in ("a", "b"))
    for variable in ("loss", "grad", "variance", "t2", "sweep_snr"):
        assert one[variable].equals(two[variable]), variable


def test_the_default_takes_every_legal_estimator(tmp_path, undrawn):
    small = ["--set", "hidden_sizes=5,", "--batch-size", "10", "--replicates", "2", "--minibatches", "1", "--sweep", ""]
    assert main(["compare", "--output", "vae", "--program", "vae", "--steps", "5", *small]) == 0
    with xr.open_dataset(tmp_path / "vae" / "gradients.nc", engine="h5netcdf") as data:
        names = set(data.estimator.values)
    assert {"pathwise", "analytic-kl", "stick-the-landing", "iwae", "dreg", "pyro-trace", "pyro-renyi"} <= names
    assert not {"exact", "rloo", "score-function", "local-expectation"} & names


def test_ones_own_program_data_and_estimator(tmp_path, capsys, undrawn):
    (tmp_path / "mine.py").write_text(
        textwrap.dedent(
            """
            import pyro, torch
            import pyro.distributions as dist
            from pplvm import LeaveOneOut, elbo

            class Mine(torch.nn.Module):
                def __init__(self, data_size, width=3):
                    super().__init__()
                    self.net = torch.nn.Linear(width, data_size)
                    self.q = torch.nn.Linear(data_size, width)
                    self.width = width
                def model(self, x):
                    with pyro.plate("batch", len(x)):
                        z = pyro.sample("z", dist.Bernoulli(torch.full((self.width,), 0.3)).to_event(1))
                        pyro.sample("x", dist.Bernoulli(logits=self.net(z)).to_event(1), obs=x)
                def guide(self, x):
                    with pyro.plate("batch", len(x)):
                        pyro.sample("z", dist.Bernoulli(logits=self.q(x)).to_event(1))

            class Broken(Mine):
                def guide(self, x):
                    with pyro.plate("batch", len(x)):
                        pyro.sample("zz", dist.Bernoulli(logits=self.q(x)).to_event(1))

            def three(num_particles=3):
                return LeaveOneOut(elbo, num_particles)

            nothing = 5
            """
        )
    )
    np.savez(tmp_path / "mine.npz", x=(np.random.default_rng(0).random((80, 7)) < 0.4).astype(np.uint8))
    own = ["--program", "mine:Mine", "--data", "mine.npz", "--key", "x"]
    assert (
        main(["compare", *own, "--set", "width=2", "--output", "run", *QUICK, "--estimators", "mine:three,rloo"]) == 0
    )
    assert main(["check", "mine:Mine", "--data", "mine.npz", "--key", "x"]) == 0
    shown = capsys.readouterr().out
    assert "net.weight  (7, 3)  model" in shown and "no violations" in shown

    assert main(["check", "mine:Broken", "--data", "mine.npz", "--key", "x"]) == 2
    assert "guide has no site 'z'" in capsys.readouterr().out
    compare = ["compare", "--data", "mine.npz", "--key", "x"]
    assert "did you mean 'zz'" in refused(capsys, *compare, "--program", "mine:Broken")
    assert "takes no 'widht', did you mean 'width'?; it takes data_size, width" in refused(
        capsys, *compare, "--program", "mine:Mine", "--set", "widht=2"
    )
    assert "no program" in refused(capsys, *compare, "--program", "mine:nothing")
    assert "no program" in refused(capsys, *compare, "--program", "mine:three")
    assert "has no 'Mien', did you mean 'Mine'" in refused(capsys, *compare, "--program", "mine:Mien")
    assert "no objective" in refused(capsys, *compare, "--program", "mine:Mine", "--estimators", "mine:nothing")
    assert not list(tmp_path.glob("runs*"))  # nothing was begun


@pytest.mark.parametrize(
    "words, expected",
    [
        (["compare", "--particles", "0"], "must be at least 1"),
        (["compare", "--estimators", "pyro-trace@num_particles=0"], "num_particles must be at least 1"),
        (["compare", "--estimators", "rloo", "--particles", "1"], "at least 2, got 1"),
        (["compare", "--estimators", "rlo"], "did you mean 'rloo'"),
        (["compare", "--estimators", "pathwise"], "'z_1' has none"),
        (["compare", "--estimators", "rloo@num_particle=3"], "takes no 'num_particle'"),
        (["compare", "--estimators", "rloo@num_particles"], "must read name=value"),
        (["compare", "--program", "no.such:Thing"], "no module 'no.such'"),
        (["compare", "--program", "belief"], "unknown program 'belief'"),
        (["compare", "--data", "digit"], "did you mean 'digits'"),
        (["compare", "--data", "mnist"], "--data-root"),
        (["compare", "--data", "mnist", "--data-root", "."], "MNIST"),
        (["compare", "--data", "nothing.npz", "--key", "x"], "nothing.npz"),
        (["compare", "--binarize", "none"], "17 grey levels"),
        (["compare", "--objective", "pathwise"], "'z_1' has none"),
        (["compare", "--replicates", "1"], "must be at least 2"),
        (["compare", "--estimators", ""], "has an empty name"),
        (["compare", "--estimators", "rloo,,vimco"], "has an empty name"),
        (["compare", "--estimators", "rloo,vimco,rloo"], "names rloo twice"),
        (["compare", "--seed", "-1"], "must be at least 0, got -1"),
        (["check", "--seed", "-1"], "must be at least 0, got -1"),
        (["compare", "--seed", "1" + 20 * "0"], "must be at most 1000000000000"),
        (["compare", "--budget", "8", "--particles", "2"], "not allowed with argument"),
        (["compare", "--budget", "0"], "must be at least 1"),
        (["compare", "--budget", "1", "--estimators", "rloo"], "at most 1 evaluations a datum: raise --budget"),
        (["compare", "--steps", "5,x"], "--steps must read 500, or 0,500"),
        (["compare", "--steps", "-5"], "--steps must read 500, or 0,500"),
        (["compare", "--program", "vae", "--program", "vae"], "--program vae is given twice"),
        (["compare", "--noise", "antithetic", "--points", "3"], "--noise antithetic takes points in pairs"),
        (["compare", "--checkpoint", "gone.pt"], "gone.pt: there is no such file"),
        (["compare", "--program", "vae", "--program", "sigmoid-belief-net", "--estimators", "nothing"], "unknown obj"),
        (["compare", "--batch-size", "x"], "no whole number"),
        (["compare", "--sweep", "K=0"], "--sweep must read"),
        (["compare", "--sweep", "J=2"], "--sweep must read"),
        (["compare", "--set", "latent_sizes"], "must read name=value"),
        (["compare", "--set", "latent_sizes=()"], "at least one layer"),
        (["compare", "--set", "latent_sizes=0"], "positive size"),
        (["compare", "--set", "latent_sizes=abc"], "latent_sizes must be integers, got abc"),
        (["compare", "--set", "hidden_sizes=abc"], "hidden_sizes must be integers, got abc"),
        (["compare", "--device", "abacus"], "abacus"),
        (["compare", "--nothing"], "unrecognized arguments"),
        (["compare", "--program", "vae", "--set", "likelihood=poisson"], "likelihood must be"),
        (["conpare"], "invalid choice"),
    ],
)
def test_bad_input_gets_one_line(words, expected, capsys, tmp_path):
    assert expected in refused(capsys, *words)
    assert not list(tmp_path.iterdir()), "bad input left something behind"


def test_data_with_faults(capsys, tmp_path):
    rows = np.random.default_rng(0).random((30, 4))
    rows[3, 1] = np.nan
    np.save(tmp_path / "nan.npy", rows)
    assert "3" in refused(capsys, "compare", "--data", "nan.npy")
    np.save(tmp_path / "empty.npy", np.zeros((0, 4)))
    assert "empty" in refused(capsys, "compare", "--data", "empty.npy")
    np.savez(tmp_path / "two.npz", a=rows, b=rows)
    assert "a" in refused(capsys, "compare", "--data", "two.npz", "--key", "c")
    (tmp_path / "folder").mkdir()
    assert "folder" in refused(capsys, "compare", "--data", "folder")


def test_a_run_directory_is_not_overwritten(capsys, tmp_path, undrawn):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "mine.txt").write_text("mine")
    assert "run exists: name another directory with --output" in refused(capsys, "compare", "--output", "run", *FEW)
    for words in ([], ["--overwrite"]):
        refused(capsys, "compare", "--output", "run", *words, *FEW)
    assert (tmp_path / "run" / "mine.txt").read_text() == "mine"
    assert main(["compare", "--output", "other", *FEW]) == 0
    assert "replace it by --overwrite, or name another" in refused(capsys, "compare", "--output", "other", *FEW)
    assert main(["compare", "--output", "other", "--overwrite", *FEW]) == 0


def test_an_unwritable_directory(capsys, tmp_path):
    (tmp_path / "file").write_text("in the way")
    assert "file" in refused(capsys, "compare", "--output", "file/run", *FEW)


def test_debug_shows_the_traceback():
    with pytest.raises(LookupError):
        main(["compare", "--estimators", "rlo", "--debug"])


def test_no_command_shows_the_help(capsys):
    assert main([]) == 2
    assert "compare" in capsys.readouterr().out


def test_training_that_diverges_exits_3(capsys):
    assert "lower the learning rate" in refused(
        capsys, "compare", "--learning-rate", "1e38", "--steps", "50", "--estimators", "rloo", code=3
    )


def test_check_tells_grey_pixels_under_a_bernoulli(capsys):
    assert main(["check", "--binarize", "none"]) == 2
    shown = capsys.readouterr().out
    assert "data set 'digits' has 17 grey levels" in shown and "binarize" in shown


def test_list_names_its_kinds(capsys):
    assert main(["list", "objectives"]) == 0
    shown = capsys.readouterr().out
    assert "vimco" in shown and "digits" not in shown


def interrupted_after(marker, words, tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-m", "pplvm", *words], cwd=tmp_path, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a suite in the background ignores it
    )  # fmt: skip
    seen = ""
    deadline = time.monotonic() + 120
    while marker not in seen and time.monotonic() < deadline:
        seen += process.stderr.read(1)
    time.sleep(1.0)
    process.send_signal(signal.SIGINT)
    _, rest = process.communicate(timeout=120)
    return process.returncode, seen + rest


INTERRUPTED = """
from pplvm.objectives.score_function import LeaveOneOut

class Interrupted(LeaveOneOut):
    draws = 0

    def estimate(self, *args, **kwargs):
        self.draws += 1
        if self.draws == 40:
            raise KeyboardInterrupt
        return super().estimate(*args, **kwargs)
"""


def test_ctrl_c_writes_what_is_finished(tmp_path, capsys, undrawn):
    """Within this process, where a suite in the background ignores the signal: what Python makes of it is raised."""
    (tmp_path / "stopping.py").write_text(INTERRUPTED)
    words = ["--output", "run", "--estimators", "stopping:Interrupted,score-function", "--steps", "5"]
    assert main(["compare", *words, "--replicates", "20000", "--compile", "off"]) == 130
    shown = capsys.readouterr().err
    assert "writing what is finished" in shown and "Traceback" not in shown
    with xr.open_dataset(tmp_path / "run" / "gradients.nc", engine="h5netcdf") as data:
        assert 2 < int(data.replicates.min()) < 40
    assert (tmp_path / "run" / "report.html").exists()


@pytest.mark.slow
def test_ctrl_c_before_anything_is_measured(tmp_path):
    words = ["compare", "--output", "run", "--estimators", "rloo", "--steps", "1000000"]
    code, shown = interrupted_after("training:", words, tmp_path)
    assert code == 130 and "pplvm compare: interrupted before it was done" in shown and "Traceback" not in shown
    assert not (tmp_path / "run").exists()  # the same command can be given again


def test_no_sweep_and_a_large_seed(tmp_path, undrawn):
    words = ["compare", "--output", "run", *FEW, "--sweep", "", "--seed", "20000000000"]
    assert main(words) == 0
    config = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert config["estimators"] == "rloo,score-function" and config["trained_with"] == "LeaveOneOut"
    assert "version" not in config and config["versions"]["torch"] == torch.__version__.split("+")[0]


def test_a_full_disk_is_told_in_one_line(capsys, tmp_path, monkeypatch, undrawn):
    def full(*paths):
        raise OSError(28, "No space left on device", str(paths[-1]))

    monkeypatch.setattr("pplvm.commands.comparison.comparison_files.shutil.copyfile", full)
    assert "No space left on device" in refused(capsys, "compare", "--output", "run", *FEW)
    assert (tmp_path / "run" / "report.html").exists()


def checkpoint(path, **changes):
    """A file that holds a belief net's parameters."""
    torch.manual_seed(3)
    state = SigmoidBeliefNet(64, **changes).state_dict()
    torch.save(state, path)
    return state


def test_programs_and_checkpoints_in_one_report(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(
        "pplvm.commands.comparison.comparison_files.save_figures", lambda section, folder: folder.mkdir() or []
    )
    checkpoint("mine.pt", latent_sizes=(10,))
    own = ["--estimators", "rloo,pathwise", *QUICK, "--minibatches", "1", "--sweep", ""]
    two = ["--program", "sigmoid-belief-net", "--program", "ppca"]
    words = [*two, "--checkpoint", "mine.pt", *own, "--steps", "0,5", "--output", "run"]
    assert main(["compare", *words]) == 0
    shown = capsys.readouterr()
    titles = ["sigmoid-belief-net, fresh", "sigmoid-belief-net, 5 steps", "sigmoid-belief-net, mine.pt", "ppca, fresh"]
    assert all(f"{title}\n====" in shown.out for title in titles)
    assert "pathwise is left out: Pathwise differentiates" in shown.err
    groups = {"sigmoid-belief-net-mine.pt", "sigmoid-belief-net-fresh", "ppca-5-steps"}
    found = xr.open_groups(tmp_path / "run" / "gradients.nc", engine="h5netcdf")
    assert {f"/{group}" for group in groups} < set(found) and len(found) == 1 + 2 * 5
    assert all(f"/{group}/posterior" in found for group in groups)
    assert {path.name for path in (tmp_path / "run").iterdir()} > groups | {"overview.png"}
    metrics = (tmp_path / "run" / "metrics.csv").read_text().splitlines()
    assert metrics[0].startswith("program,checkpoint,estimator,") and len(metrics) == 1 + 3 + 2 * 2
    config = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert config["program"] == ["sigmoid-belief-net", "ppca"] and config["steps"] == [0, 5]
    page = (tmp_path / "run" / "report.html").read_text()
    assert page.count("<section") == 5 and page.count("pathwise is left out") == 3

    monkeypatch.setattr("pplvm.commands.comparison.comparison_files.save_figures", lambda *section: [])
    assert main(["compare", *own, "--estimators", "rloo", "--steps", "5", "--output", "alone"]) == 0
    alone = xr.load_dataset(tmp_path / "alone" / "gradients.nc", engine="h5netcdf")
    for variable in ("loss", "grad", "variance"):  # a stop on the way changes nothing
        assert alone[variable].equals(found["/sigmoid-belief-net-5-steps"][variable].load()), variable


def test_a_checkpoint_is_what_is_measured(tmp_path, undrawn):
    words = ["--estimators", "rloo", *QUICK[2:], "--minibatches", "1", "--sweep", "", "--set", "latent_sizes=4,"]
    state = checkpoint("mine.pt", latent_sizes=(4,))
    assert main(["compare", *words, "--checkpoint", "mine.pt", "--output", "run"]) == 0
    data = xr.load_dataset(tmp_path / "run" / "gradients.nc", engine="h5netcdf")
    assert data.attrs["checkpoint"] == "mine.pt" and "steps" not in data.attrs
    program = SigmoidBeliefNet(64, latent_sizes=(4,))
    program.load_state_dict(state)
    x = fixed_batch(binarize(digits("train"), "static", seed=0), 100, seed=0, number=0)
    bound = float(pplvm.Loss(pplvm.Exact(), program)(x).detach())
    assert float(data.loss.mean()) > bound  # minus the elbo lies above minus log p(x) of these parameters
    assert float(data.loss.mean()) < bound + 10


def test_files_that_are_no_checkpoint_of_the_program(tmp_path, capsys):
    checkpoint("wide.pt", latent_sizes=(4,))
    (tmp_path / "text.pt").write_text("no tensors")
    torch.save([1, 2], "list.pt")
    torch.save({"a": torch.ones(2)}, "other.pt")
    torch.save(SigmoidBeliefNet(64), "module.pt")
    expected = {
        "wide.pt": "has shape (4,) there and (10,) in the program",
        "text.pt": "is no file that torch.save(program.state_dict(), FILE) wrote",
        "list.pt": "it holds list, not tensors by name",
        "other.pt": "it lacks 'prior_logits'",
        "module.pt": "torch cannot load it as plain tensors",
    }
    for name, words in expected.items():
        assert words in refused(capsys, "compare", "--checkpoint", name), name
    assert not (tmp_path / "runs").exists()


def test_a_budget_gives_all_the_same_evaluations(tmp_path, capsys, undrawn):
    names = "rloo,score-function,rloo@num_particles=2,exact"
    words = ["--estimators", names, *QUICK, "--minibatches", "1", "--sweep", "", "--set", "latent_sizes=3,"]
    assert main(["compare", *words, "--budget", "7", "--output", "run"]) == 0
    data = xr.load_dataset(tmp_path / "run" / "gradients.nc", engine="h5netcdf")
    assert dict(zip(data.estimator.values, data.particles.values, strict=True)) == {
        "rloo": 7, "score-function": 7, "rloo@num_particles=2": 2,
    }  # fmt: skip
    assert (data.evaluations <= 7).all() and data.attrs["budget"] == 7
    assert "takes 2 of the 7 evaluations" in str(data.note.sel(estimator="rloo@num_particles=2").values)
    assert "exact is left out: it has no particles to set and costs 8" in capsys.readouterr().err
    assert "exact is left out" in (tmp_path / "run" / "report.html").read_text()


def test_verify_judges_ones_own_estimator(tmp_path, capsys):
    (tmp_path / "judged.py").write_text(
        textwrap.dedent(
            """
            from dataclasses import replace
            from pplvm.objectives.score_function import LeaveOneOut

            class Long(LeaveOneOut):
                def estimate(self, *args, **kwargs):
                    found = super().estimate(*args, **kwargs)
                    return replace(found, surrogate=1.03 * found.surrogate)

            class Dead(LeaveOneOut):
                def estimate(self, *args, **kwargs):
                    return None
            """
        )
    )
    assert main(["verify", "judged:Long", "--draws", "60"]) == 1
    shown = capsys.readouterr().out
    assert "by 3 % of the gradient's norm, exactly" in shown and shown.endswith("judged:Long: BIASED\n")
    assert main(["verify", "judged:Dead", "--draws", "60"]) == 1
    assert "BROKEN\n    AttributeError" in capsys.readouterr().out
    assert main(["verify", "pathwise"]) == 0
    shown = capsys.readouterr().out
    assert "REFUSED" in shown and shown.endswith("pathwise: unbiased wherever it applies\n")


@pytest.mark.parametrize(
    "words, expected",
    [
        (["verify", "rlo"], "did you mean 'rloo'"),
        (["verify", "rloo", "--particles", "1"], "at least 2, got 1"),
        (["verify", "rloo@num=3"], "takes no 'num'"),
        (["verify", "no.such:Thing"], "no module 'no.such'"),
        (["verify"], "required: ESTIMATOR"),
        (["verify", "rloo", "--draws", "5"], "must be at least 60"),
    ],
)
def test_verify_tells_bad_input_in_one_line(words, expected, capsys):
    assert expected in refused(capsys, *words)


def test_a_fault_of_ones_own_code_is_told_with_its_line(tmp_path, capsys):
    (tmp_path / "typo.py").write_text("import pplvm\n\n\nclass Story(pplvm.VAE):\n    latent = 1 + 'a'\n")
    assert "TypeError" in (told := refused(capsys, "check", "typo:Story", code=1))
    assert "(typo.py, line 5; --debug shows all)" in told


def test_no_folder_of_the_package_is_ignored():
    """The wheel leaves out what .gitignore names: at any depth where a pattern has no slash before its end."""
    root = Path(__file__).parent.parent
    patterns = (root / ".gitignore").read_text().split()
    ignored = {pattern.rstrip("/") for pattern in patterns if "/" not in pattern.rstrip("/")}
    folders = {path.parent for path in (root / "pplvm").rglob("*.py")}
    assert not [str(folder) for folder in folders if ignored & set(folder.relative_to(root).parts)]
    assert not [str(folder) for folder in folders if not (folder / "__init__.py").is_file()]
