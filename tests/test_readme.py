"""The README is true: its programs and commands run as they stand, in its order, and show something worth seeing."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from pplvm.catalog import DATASETS, OBJECTIVES, PROGRAMS
from pplvm.cli import main
from pplvm.data.binarization import binarize
from pplvm.data.images import digits
from tests.readme_checks import BASELINE, WORTH_SEEING

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```(sh|python)\n(.*?)```", README, re.DOTALL)
PROGRAM, *SNIPPETS = [text for kind, text in BLOCKS if kind == "python"]
COMMANDS = [line for kind, text in BLOCKS if kind == "sh" for line in text.splitlines() if line]
SETUP = [line for line in COMMANDS if line.startswith("python3 -m venv ")]
SPECIAL = re.compile(r"[()\[\]{}*?!<>|;$`#~\\]")
"""What bash or zsh does not hand on as it is typed."""


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


SLOW = ("compare", "--aggressive", "beta-2", "--schedule", "--split valid", "runs/vq-pixelcnn")
"""Parts of commands that take seconds, of which the default tests have others of the kind."""


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(line, id=line, marks=pytest.mark.slow if any(part in line for part in SLOW) else ())
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
        has_own = (ROOT / "tests" / "examples" / f"test_{Path(path).stem}.py").is_file()
        assert (ROOT / path).is_file() and (has_own or f"    {Path(path).stem},\n" in tried), path


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
