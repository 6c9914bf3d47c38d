"""The README is true: its programs and commands run as they stand, in its order, and show something worth seeing."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr

from pplvm.catalog import DATASETS, OBJECTIVES, PROGRAMS
from pplvm.cli import main
from pplvm.data.binarization import binarize
from pplvm.data.images import digits, mnist

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```(sh|python)\n(.*?)```", README, re.DOTALL)
PROGRAM, *SNIPPETS = [text for kind, text in BLOCKS if kind == "python"]
COMMANDS = [line for kind, text in BLOCKS if kind == "sh" for line in text.splitlines() if line]
SETUP = [line for line in COMMANDS if line.startswith("python3 -m venv ")]
SPECIAL = re.compile(r"[()\[\]{}*?!<>|;$`#~\\]")
"""What bash or zsh does not hand on as it is typed."""


def independent_pixels():
    """-log p(x) of the binarized test digits under independent pixels, in nats: what is worth seeing is below it."""
    rate = binarize(digits("train"), "static").mean().clamp(1e-3, 1 - 1e-3)
    test = binarize(digits("test"), "static").rows(torch.arange(300)).flatten(1)
    return -float((test * rate.log() + (1 - test) * (-rate).log1p()).sum(1).mean())


BASELINE = independent_pixels()


def words_of(line, folder):
    """A command's words as bash splits them; one that it cannot read, or that matches no file, is an error."""
    script = f"shopt -s failglob; printf '%s\\0' {line}"
    done = subprocess.run(["bash", "-c", script], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0 and not done.stderr, done.stderr
    return done.stdout.split("\0")[:-1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where a reader stands who has done all that the README says, with files of the names that it gives."""
    found = tmp_path_factory.mktemp("reader")
    (found / "my_story.py").write_text(PROGRAM)
    x = binarize(digits("train"), "static").rows(torch.arange(1297)).flatten(1).numpy()
    np.savez(found / "my_data.npz", x=1 - x)  # digits in negative
    for stem, rows in (("train", 60_000), ("t10k", 10_000)):
        images = digits("train").images[torch.arange(rows) % 1297] * 15  # the official sizes, other digits
        images = torch.nn.functional.pad(images, (10, 10, 10, 10)).numpy().astype(np.uint8)
        (raw := found / "DIR" / "MNIST" / "raw").mkdir(parents=True, exist_ok=True)
        (raw / f"{stem}-images-idx3-ubyte").write_bytes(_idx_header(3, rows, 28, 28) + images.tobytes())
        (raw / f"{stem}-labels-idx1-ubyte").write_bytes(_idx_header(1, rows) + bytes(rows))
    return found


def _idx_header(dims, *sizes):
    return bytes([0, 0, 8, dims]) + b"".join(size.to_bytes(4, "big") for size in sizes)


@pytest.fixture
def reader(folder, monkeypatch):
    """The folder as working directory, the numbers single, as a reader has them."""
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setattr(sys, "argv", ["pplvm"])
    monkeypatch.setattr("pplvm.data.images.MNIST_SHA256", {})  # ours are not the official bytes
    torch.set_default_dtype(torch.float32)
    yield folder
    torch.set_default_dtype(torch.float64)
    sys.modules.pop("my_story", None)


def run(line, folder):
    """Obey a line of the README; what it needs from an earlier one is made by that one."""
    for needed in re.findall(r"runs/[\w-]+|mine\.pt", line.partition(" --output ")[0]):
        if not (folder / needed).exists():
            made_by = [other for other in COMMANDS if other.endswith(f" --output {needed}")]
            run(made_by[0], folder) if made_by else run_python(SNIPPETS[:2])
    program, *words = words_of(line, folder)
    assert program == "pplvm"
    assert main(words) == 0, line


def run_python(snippets):
    names = {}
    for text in snippets:
        exec(compile(text, "README.md", "exec"), names)
    return names


def validated(run):
    """The last validation loss of a run, in nats."""
    lines = (Path(run) / "metrics.csv").read_text().splitlines()
    column = next(i for i, name in enumerate(lines[0].split(",")) if name.startswith("validation/"))
    return -float([line.split(",")[column] for line in lines if line.split(",")[column]][-1])


def newest():
    return max(Path("runs").iterdir(), key=lambda path: path.stat().st_ctime)


def learned(nats, run=None):
    """The validation loss of a run is below independent pixels by so many nats."""

    def look(out):
        assert validated(run or newest()) < BASELINE - nats, validated(run or newest())

    return look


def learned_of_grey(out):
    """A run on binary draws of the files under DIR is below independent pixels of theirs."""
    rate = mnist("train", "DIR").mean().clamp(1e-3, 1 - 1e-3)
    x = mnist("valid", "DIR").rows(torch.arange(10_000)).flatten(1)
    alone = -float((x * rate.log() + (1 - x) * (-rate).log1p()).sum(1).mean())
    assert validated(newest()) < alone - 1, (validated(newest()), alone)


def said(*patterns):
    """The output has all of these."""

    def look(out):
        for pattern in patterns:
            assert re.search(pattern, out), f"{pattern!r} is not in {out}"

    return look


def wrote(*names):
    def look(out):
        for name in names:
            assert any(path.stat().st_size > 1000 for path in Path().glob(name)), name

    return look


def compared(*estimators, least=1.0, files=1):
    """All of them, and no other, were measured, and the last varies more than the first by such a factor."""

    def look(out):
        found = sorted(newest().rglob("gradients*.nc"))
        assert len(found) == files, found
        for path in found:
            with xr.open_dataset(path, engine="h5netcdf") as measured:
                assert {*measured.estimator.values.tolist()} == {*estimators}
                first, last = (float(measured.variance.sel(estimator=estimators[i]).mean()) for i in (0, -1))
                assert last > least * first, path
        said("verdict", "report: ")(out)

    return look


def both(*looks):
    return lambda out: [look(out) for look in looks]


def likelihood_below_baseline(path):
    """The test log p(x) that a page gives is worth seeing."""

    def look(out):
        best = min(float(x) for x in re.findall(r"log p\(x\), k = \d+\s+-(\d+\.\d+)", out))
        assert best < BASELINE - 5 and Path(path).is_dir()

    return look


FOUR = compared("rloo", "score-function", least=0.5, files=4)  # two programs at two checkpoints
PATHS = compared("iwae", "pathwise", least=0.1)
WORTH_SEEING = {
    "pplvm check my_story.py": said("z", "no violations"),
    "pplvm fit --program my_story:Digits --learning-rate 0.003 --steps 500 --output runs/mine": learned(4, "runs/mine"),
    "pplvm evaluate runs/mine": both(likelihood_below_baseline("runs/mine"), wrote("runs/mine/evaluation*/*.html")),
    "pplvm sample runs/mine --count 100": wrote("runs/mine/samples/*.png", "runs/mine/samples/samples.npz"),
    "pplvm compare --checkpoint runs/mine --estimators pathwise,analytic-kl,stick-the-landing": compared(
        "stick-the-landing", "analytic-kl", "pathwise", least=2
    ),
    "pplvm fit --objective iwae --particles 10 --learning-rate 0.003 --steps 300": learned(4),
    "pplvm fit --program sigmoid-belief-net --set latent_sizes=50,20 --objective vimco --steps 500": learned(2),
    "pplvm fit --data mnist --data-root DIR --binarize dynamic --learning-rate 0.003 --steps 300": learned_of_grey,
    "pplvm fit --warmup 100 --free-bits 0.05 --clip 50 --average 0.99 --learning-rate 0.003 --steps 500": learned(3),
    "pplvm fit --schedule multistep@milestones=600,800@gamma=0.1 --validate-every 50 --early-stop 3": learned(2.5),
    "pplvm fit --aggressive --optimizer sgd@momentum=0.9 --learning-rate 0.1 --clip 5 --steps 100": learned(3),
    "pplvm fit --resume runs/mine --steps 1000": learned(5.5, "runs/mine"),
    "pplvm fit --config runs/mine/config.yaml --program my_story:Digits --output runs/again": learned(4, "runs/again"),
    "pplvm evaluate runs/mine --split valid --ks 1,10,100 --weights best --output runs/valid": both(
        likelihood_below_baseline("runs/valid"), wrote("runs/valid/*.html")
    ),
    "pplvm fit --program my_story:Digits --beta 2 --learning-rate 0.003 --steps 500 --output runs/beta-2": learned(
        2, "runs/beta-2"
    ),
    "pplvm evaluate runs/mine runs/beta-2 --ks 1,100 --output runs/both": said("runs/mine", "runs/beta-2", "rate"),
    "pplvm compare --estimators rloo,vimco,pyro-renyi --particles 8 --steps 2000": both(
        compared("rloo", "vimco", "pyro-renyi", least=0.1), said("pyro-renyi .* biased")
    ),
    "pplvm compare --program vae --estimators pathwise,stick-the-landing,dreg": compared(
        "pathwise", "stick-the-landing", "dreg"
    ),
    "pplvm compare --program my_story:Digits --set size=5 --data my_data.npz --key x --estimators pathwise,iwae": PATHS,
    "pplvm compare --budget 20 --estimators rloo,disarm,relax": compared("rloo", "disarm", "relax"),
    "pplvm compare --program sigmoid-belief-net --program vae --steps 0,500 --estimators score-function,rloo": FOUR,
    "pplvm compare --checkpoint mine.pt --estimators rloo,vimco,tvo@partition=0,0.2,1": compared(
        "rloo", "vimco", "tvo@partition=0,0.2,1"
    ),
    "pplvm verify rloo": said("unbiased"),
}

SLOW = ("compare", "--aggressive", "beta-2")
"""Parts of commands that take more than ten seconds."""


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(line, marks=pytest.mark.slow if any(part in line for part in SLOW) else ())
        for line in COMMANDS
        if line not in SETUP
    ],
)
def test_every_command_shows_something_worth_seeing(line, reader, capsys):
    look = WORTH_SEEING[line]  # a new command of the README says here what it shows
    run(line, reader)
    shown = capsys.readouterr()
    look(shown.out + shown.err)


def test_no_command_is_tried_that_the_readme_has_not():
    assert list(WORTH_SEEING) == [line for line in COMMANDS if line not in SETUP]


@pytest.mark.parametrize("line", COMMANDS)
def test_every_shell_hands_a_command_on_as_it_is_typed(line):
    bare = re.sub(r"'[^']*'", "", line)
    assert not SPECIAL.search(bare), f"{bare}: bash or zsh reads some of it otherwise"


def test_ones_own_program_is_fifteen_lines_and_comes_first():
    lines = [line for line in PROGRAM.splitlines() if line.strip() and not re.match(r"import |from ", line)]
    assert len(lines) <= 15 and "def model(self, x)" in PROGRAM and "def guide(self, x)" in PROGRAM
    assert [kind for kind, text in BLOCKS if "venv" not in text][:2] == ["python", "python"]


def test_the_snippets_run_in_order_and_learn(reader, capsys):
    torch.manual_seed(0)
    own, net, graph, _ = SNIPPETS
    names = {}
    exec(compile(own, "README.md", "exec"), names)
    found = [float(x) for x in re.findall(r"^log p\(x\), k = \d+ (-\d+\.\d+)", capsys.readouterr().out, re.MULTILINE)]
    assert len(found) == 2 and -BASELINE + 5 < found[0] < found[1]
    said_in_readme = float(re.search(r"prints log p\(x\) = (-[\d.]+) \+- 0.2 nats", README).group(1))
    assert abs(found[1] - said_in_readme) < 0.5
    assert f"independent pixels have {-BASELINE:.1f}" in README
    exec(compile(net, "README.md", "exec"), names)
    *losses, last = capsys.readouterr().out.splitlines()
    assert len(losses) == 4 and float(losses[-1].split()[0]) < float(losses[0].split()[0]) - 3
    assert -float(re.search(r"log p\(x\), exact (-[\d.]+)", last).group(1)) < BASELINE - 4
    assert (reader / "mine.pt").is_file()
    exec(compile(graph, "README.md", "exec"), names)
    assert names["step"].tier_now == "graph" and float(names["value"]) < BASELINE - 3


def test_a_run_is_loaded_as_the_readme_says(reader, capsys):
    (line,) = (line for line in COMMANDS if line.endswith(" --output runs/mine"))
    if not Path("runs/mine").exists():
        run(line, reader)
    capsys.readouterr()
    torch.manual_seed(0)
    exec(compile("import pplvm\n" + SNIPPETS[-1], "README.md", "exec"), {})
    (found,) = re.findall(r"^log p\(x\), k = 100 (-\d+\.\d+)", capsys.readouterr().out)
    assert -float(found) < BASELINE - 5


def test_every_name_of_the_catalog_stands_there():
    for name in [*DATASETS, *OBJECTIVES, *PROGRAMS]:
        assert f"`{name}`" in README, name


def test_every_option_that_is_named_in_a_sentence_is_known(capsys):
    helps = ""
    for command in ("fit", "evaluate", "sample", "compare", "check", "verify"):
        with pytest.raises(SystemExit):
            main([command, "--help"])
        helps += capsys.readouterr().out
    launchers = {"--standalone", "--nproc-per-node", "--nnodes", "--rdzv-backend", "--rdzv-endpoint", "--check"}
    for option in set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", README)) - launchers:
        assert re.search(rf"{option}\b", helps), option


EXAMPLES = re.findall(r"`python (examples/\w+\.py)", README)


def test_the_examples_that_are_named_are_there_and_tried_elsewhere():
    tried = (ROOT / "tests" / "test_examples.py").read_text()
    assert len(set(EXAMPLES)) >= 4
    for path in {*EXAMPLES, *(f"examples/{name}" for name in re.findall(r"`(\w+\.py)` repeats", README))}:
        assert (ROOT / path).is_file() and f"    {Path(path).stem},\n" in tried, path


@pytest.mark.slow
@pytest.mark.distributed
def test_torchrun_takes_the_commands(folder):
    (line,) = re.findall(r"`(torchrun --standalone .*?)`", README)
    line = line.replace("--nproc-per-node N", "--nproc-per-node 2").replace(" ...", " --steps 20 --output runs/two")
    launcher = Path(sys.executable).with_name("torchrun")
    shim = [str(launcher)] if launcher.is_file() else [sys.executable, "-m", "torch.distributed.run"]
    words = [*shim, *words_of(line, folder)[1:]]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0 and (folder / "runs" / "two" / "metrics.csv").is_file(), done.stderr


def test_ci_runs_the_test_command():
    ci = (ROOT / ".ci" / "run").read_text()
    assert 'grep -m1 "^python3 -m venv .*pytest$" README.md' in ci
    assert len(re.findall(r"^python3 -m venv .*pytest$", README, re.MULTILINE)) == 1
    assert len(re.findall(r"^python3 -m venv .*pplvm compare$", README, re.MULTILINE)) == 1
