"""Fault 25 turned against the user: code that a file names is not run before the user names it too."""

from pathlib import Path

import pytest
import yaml

EVIL = "from pathlib import Path\nPath('ran').touch()\nfrom mine import Good as Story\n"


def evil(**changes):
    """A run that someone else gives away, with modules beside it that leave a trace wherever they are imported."""
    Path("evil.py").write_text(EVIL)
    Path("odd@evil.py").write_text(EVIL)
    Path("run").mkdir()
    Path("run/config.yaml").write_text(yaml.safe_dump({"steps": 2, "batch_size": 12, **changes}))


NAMED = {
    "program": {"program": "evil:Story"},
    "odd program": {"program": "odd@evil:Story"},
    "a file": {"program": "evil.py"},
    "a program of a file": {"program": "evil.py:Story"},
    "a file elsewhere": {"program": "./evil.py"},
    "a bare module": {"program": "evil"},
    "an objective of a file": {"objective": "evil.py@num_particles=2"},
    "objective": {"objective": "evil:Story@num_particles=2"},
    "data": {"data": "evil:Story"},
    "odd data": {"data": "odd@evil:Story"},
    "optimizer": {"optimizer": "evil:Story@lr=1"},
    "a shell": {"program": "os:system", "set": ["command=touch ran"]},
    "by way of pplvm": {"program": "pplvm.catalog:load", "set": ["path=evil:Story"]},
    "an objective by way of pplvm": {"objective": "pplvm.catalog:load@path=evil:Story"},
    "data by way of pplvm": {"program": "pplvm.data.files:from_dataset", "set": ["import_path=evil:Story"]},
}


@pytest.mark.parametrize("words", [["--resume=run"], ["--config=run/config.yaml", "--output=other"]])
@pytest.mark.parametrize("named", NAMED)
def test_25_code_that_a_config_names_is_not_run(refused, words, named):
    evil(**NAMED[named])
    told = refused(*words, "--steps=9", "--trust=mine", "--trust=evil.Story", "--trust=os.path")
    assert "would run that module's code: if you trust it, add --trust " in told
    assert not Path("ran").exists()


def test_25_nor_by_evaluate_and_sample(run):
    evil(program="evil:Story")
    for command in (["evaluate", "run"], ["sample", "run"], ["sample", "run", "--trust=mine"]):
        code, lines = run(*command)
        assert code == 2 and len(lines) == 1 and "add --trust evil" in lines[0]
    assert not Path("ran").exists()


def test_25_trusted_code_is_run_and_so_is_typed_code(fit):
    evil(program="evil:Story")
    code, lines = fit("--config=run/config.yaml", "--output=trusted", "--trust=evil")
    assert code == 0 and Path("ran").exists(), lines
    Path("ran").unlink()
    assert fit("--config=run/config.yaml", "--output=typed", "--program=mine:Good")[0] == 0
    assert not Path("ran").exists()


def test_25_what_the_catalog_names_needs_no_trust(fit):
    assert fit("--objective=iwae")[0] == 0
    assert fit("--resume=run", "--steps=5")[0] == 0
