"""Every name leads somewhere, and nothing is imported before it is asked for."""

import json
import resource
import subprocess
import sys

import pytest

import pplvm
from pplvm.catalog import DATASETS, OBJECTIVES, PROGRAMS, find, load


@pytest.mark.parametrize("entry", [*DATASETS.values(), *PROGRAMS.values(), *OBJECTIVES.values()])
def test_every_entry_leads_to_a_callable(entry):
    assert callable(load(entry.path)) and entry.summary


def test_front_door_names_exist():
    assert {name: getattr(pplvm, name) for name in pplvm.__all__}
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = pplvm.nothing


@pytest.mark.parametrize(
    "kind, wanted, words",
    [
        (OBJECTIVES, "rlo", "did you mean 'rloo'"),
        (PROGRAMS, "sigmoid-belief", "did you mean 'sigmoid-belief-net'"),
        (PROGRAMS, "no_such_module_here:Name", "no module 'no_such_module_here' here"),
        (PROGRAMS, "pplvm.programs.vae:VAF", "has no 'VAF', did you mean 'VAE'"),
    ],
)
def test_unknown_names_get_the_closest(kind, wanted, words):
    with pytest.raises(LookupError, match=words):
        find("name", kind, wanted)


def python(*words):
    return subprocess.run([sys.executable, *words], capture_output=True, text=True, check=True).stdout


FIRST_STEP = """
import json, sys, time
from types import SimpleNamespace

HEAVY = ("torch._dynamo", "torch._inductor", "torchvision", "arviz", "matplotlib", "scipy", "sklearn", "xarray")
clock, seen = [time.process_time()], {}

def stage(name):
    clock.append(time.process_time())
    seen[name] = [heavy for heavy in HEAVY if heavy in sys.modules]

import pplvm
bare = "torch" in sys.modules
stage("import pplvm")
import pyro
stage("import pyro")
from pplvm import VAE, Loss, Pathwise, fit
stage("names")
import torch
loss = Loss(Pathwise(), VAE(data_size=6))
# torch's own optimizers import torch._dynamo as they are made: this one shows what fit imports itself
optimizer = SimpleNamespace(param_groups=[{"params": list(loss.parameters())}], step=lambda: None)
(value,) = fit(loss, [torch.ones(5, 6)], optimizer)
moved = all(p.grad is not None for p in loss.parameters())
stage("step")
print(json.dumps({"bare": bare, "moved": moved, "seen": seen, "times": [b - a for a, b in zip(clock, clock[1:])]}))
"""


def test_import_and_a_first_step_are_light():
    """The import costs next to nothing beside Pyro's, in CPU time of one process; no step needs what is heavy."""
    found = json.loads(python("-c", FIRST_STEP))
    assert not found["bare"], "import pplvm has imported torch"
    assert found["seen"] == {"import pplvm": [], "import pyro": [], "names": [], "step": []}
    assert found["moved"]
    front_door, pyro, names, _ = found["times"]
    assert front_door < 0.05 * pyro
    assert front_door + names < 0.25 * pyro


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["list"]])
def test_talk_is_cheap(words):
    """No torch, and 0.2 s: of CPU, the best of five, since the machine is shared."""
    code = f"import sys; from pplvm.cli import main\ntry: main({words})\nexcept SystemExit: pass\n"
    shown = python("-c", code + "print('torch' in sys.modules, 'numpy' in sys.modules, file=sys.stdout)")
    assert shown.strip().endswith("False False")
    times = []
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        python("-m", "pplvm", *words)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        times.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(times) < 0.2


@pytest.mark.parametrize("path", [".x:X", ":X", "x:"])
def test_what_is_no_import_path_is_told(path):
    with pytest.raises(LookupError, match="is no import path: write my_module:MyName"):
        load(path)


def test_a_module_misspelt_is_offered(tmp_path, monkeypatch):
    (tmp_path / "my_module.py").write_text("")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(LookupError, match="or installed, did you mean 'my_module'"):
        load("my_modul:X")
