"""Code that a user has typed once is run again for the same run in the same place, and for no other."""

import importlib
import json
import os
import shutil
import stat
import sys
from pathlib import Path

import pytest
import yaml

from pplvm.commands.runs import trust
from pplvm.data.import_path import FINDER


@pytest.fixture(autouse=True)
def state(tmp_path, monkeypatch):
    """A home of the test's own beside the user's folder."""
    home = tmp_path.parent / f"{tmp_path.name}-state"
    monkeypatch.setenv("PPLVM_STATE_HOME", str(home))
    yield home / "trusted"
    shutil.rmtree(home, ignore_errors=True)


@pytest.fixture
def made(fit):
    """A run of a program of one's own, made by typing it; then a new process, which has imported nothing."""
    assert fit("--program=mine:Good")[0] == 0
    forget()


@pytest.fixture
def is_run(run):
    """Whether a command obeys the run, or else asks for trust."""

    def is_run(directory="run", *words):
        forget()
        code, lines = run("fit", f"--resume={directory}", "--steps=9", *words)
        assert code in (0, 2), lines
        if code == 2:
            assert len(lines) == 1 and "would run that module's code: if you trust it, add --trust " in lines[0], lines
        return code == 0

    return is_run


def forget():
    for name in ("mine", "sister", "package"):
        sys.modules.pop(name, None)
    FINDER.folders.clear()
    importlib.invalidate_caches()


@pytest.fixture
def evil(tmp_path):
    """Writes code that leaves a trace; whether it was run."""
    trace = tmp_path / "ran"
    code = f"from pathlib import Path\nPath({str(trace)!r}).touch()\n"

    def plant(path, rest=""):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text(code + rest)
        importlib.invalidate_caches()

    yield plant
    assert not trace.exists(), "code that nobody trusts was run"


def edit(path, **changes):
    config = yaml.safe_load(Path(path).read_text())
    Path(path).write_text(yaml.safe_dump({**config, **changes}, sort_keys=False))


@pytest.mark.parametrize(
    "words",
    [
        ["fit", "--resume=run", "--steps=6"],
        ["fit", "--config=run/config.yaml", "--output=again"],
        ["sample", "run", "--count=2"],
        ["evaluate", "run", "--limit=3", "--ks=1", "--annealed=0"],
    ],
)
def test_once_is_enough(made, run, words):
    code, lines = run(*words)
    assert code == 0, lines
    assert words[0] != "fit" or run("sample", "again" if "--output=again" in words else "run", "--count=2")[0] == 0


def test_what_is_kept_is_the_users_alone(made, state):
    (path,) = state.iterdir()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600 and stat.S_IMODE(state.stat().st_mode) == 0o700
    kept = json.loads(path.read_text())
    assert kept["directory"] == str(Path("run").resolve()) and kept["named"]["program"] == "mine:Good"
    assert kept["files"] == {"mine": [[str(Path("mine.py").resolve())] * 2]}
    assert not any(str(state.parent) in file.read_text(errors="replace") for file in Path("run").glob("*.yaml"))


def test_a_run_of_the_catalog_keeps_nothing(fit, state):
    assert fit()[0] == 0
    assert not state.exists()


def test_trust_that_is_given_is_kept_for_that_run_only(made, run, is_run):
    for name in ("copy", "other"):
        shutil.copytree("run", name, symlinks=True)
    assert not is_run("copy")
    assert run("sample", "copy", "--count=2", "--trust=os")[0] == 2
    assert not is_run("copy")
    assert run("sample", "copy", "--count=2", "--trust=mine")[0] == 0
    assert is_run("copy") and not is_run("other")


@pytest.mark.parametrize("command", ["fit", "compare"])
def test_code_in_whose_place_other_is_typed_is_not_trusted_by_that(made, run, is_run, evil, command):
    evil("evil.py")
    shutil.copytree("run", "given", symlinks=True)
    edit("given/config.yaml", program="evil:Story")
    how = ["--config=given/config.yaml", "--output=new"] if command == "fit" else ["--checkpoint=given"]
    few = ["--steps=0", "--estimators=rloo", "--replicates=2", "--output=c"] if command == "compare" else ["--steps=4"]
    assert run(command, "--program=mine:Good", "--trust=mine", *how, *few)[0] in (0, 2)
    assert not is_run("given")


def moved(state):
    shutil.copytree("run", "elsewhere", symlinks=True)
    return "elsewhere"


def strangers(state):
    edit("run/config.yaml", run="0123456789abcdef")
    return "run"


def nameless(state):
    config = yaml.safe_load(Path("run/config.yaml").read_text())
    del config["run"]
    Path("run/config.yaml").write_text(yaml.safe_dump(config))
    return "run"


def another_class(state):
    edit("run/config.yaml", program="mine:Other")
    return "run"


def a_function_of_the_module(state):
    edit("run/config.yaml", program="mine:Path", set=["x=1"])
    return "run"


def other_settings(state):
    edit("run/config.yaml", set=["width=2"])
    return "run"


def another_entry(state):
    """The entry of one run in the place of another's."""
    shutil.copytree("run", "elsewhere", symlinks=True)
    (entry,) = state.iterdir()
    shutil.copy(entry, trust._path(Path("elsewhere")))
    return "elsewhere"


def linked(state):
    """Another run under a link of the name."""
    shutil.copytree("run", "elsewhere", symlinks=True)
    shutil.rmtree("run")
    os.symlink("elsewhere", "run")
    return "run"


def others_may_write_the_entry(state):
    next(state.iterdir()).chmod(0o622)
    return "run"


def others_may_write_the_folder(state):
    state.chmod(0o777)
    return "run"


def an_entry_that_is_a_link(state):
    (entry,) = state.iterdir()
    os.rename(entry, state / "kept")
    os.symlink("kept", entry)
    return "run"


def damaged(state):
    next(state.iterdir()).write_bytes(b"\xff\xfe{}")
    return "run"


@pytest.mark.parametrize(
    "attack",
    [
        moved, strangers, nameless, another_class, a_function_of_the_module, other_settings, another_entry, linked,
        others_may_write_the_entry, others_may_write_the_folder, an_entry_that_is_a_link, damaged,
    ],
)  # fmt: skip
def test_what_differs_is_not_trusted(made, is_run, state, attack):
    assert trust.remembered(Path("run"), *named_by("run"))
    assert not is_run(attack(state))


def named_by(directory):
    config = yaml.safe_load(Path(directory, "config.yaml").read_text())
    return config.pop("run"), config


@pytest.mark.parametrize("changes", [{"program": "evil:Story"}, {"objective": "evil:Story"}, {"optimizer": "evil:X"}])
def test_other_code_in_the_configuration_is_not_run(made, is_run, evil, changes):
    evil("evil.py")
    edit("run/config.yaml", **changes)
    assert not is_run()


def test_a_module_of_the_name_in_another_folder_is_not_run(made, is_run, evil, monkeypatch):
    run = Path("run").resolve()
    evil("downloaded/mine.py")
    monkeypatch.chdir("downloaded")
    assert not is_run(run)


def test_nor_are_its_neighbours_where_it_is_only_linked(made, is_run, evil, monkeypatch):
    run, mine = Path("run").resolve(), Path("mine.py").resolve()
    mine.write_text(mine.read_text() + "\nimport sister\n")
    Path("sister.py").write_text("")
    evil("downloaded/sister.py")
    os.symlink(mine, "downloaded/mine.py")
    monkeypatch.chdir("downloaded")
    assert not is_run(run)


def test_nor_is_a_package_that_comes_before_it(made, is_run, evil):
    evil("mine/__init__.py")
    assert not is_run()


def test_nor_an_installed_module(made, is_run, evil, monkeypatch, tmp_path):
    evil("installed/mine.py")
    monkeypatch.syspath_prepend(tmp_path / "installed")
    assert not is_run()


def test_in_another_working_directory_the_user_is_asked_again(fit, is_run, monkeypatch, tmp_path):
    """Though the module is the same, what it or the settings lead to there may be another's."""
    monkeypatch.syspath_prepend(tmp_path)
    assert fit("--program=mine:Good")[0] == 0
    run = Path("run").resolve()
    assert is_run(run)
    Path("downloaded").mkdir()
    monkeypatch.chdir("downloaded")
    assert not is_run(run)


def test_a_package_of_the_name_around_it_is_not_run(fit, is_run, evil):
    Path("package").mkdir()
    Path("package/__init__.py").write_text("")
    shutil.copy("mine.py", "package/story.py")
    assert fit("--program=package/story.py:Good")[0] == 0
    assert is_run()
    sys.modules.pop("package.story", None)
    forget()
    os.rename("package", "real")
    Path("package").mkdir()
    evil("package/__init__.py")
    os.symlink(Path("real/story.py").resolve(), "package/story.py")
    assert not is_run()


def test_nor_a_run_of_another_user(made, is_run, monkeypatch):
    another = os.geteuid() + 1
    monkeypatch.setattr(trust.os, "geteuid", lambda: another)
    assert not is_run()


def test_code_that_one_changes_oneself_stays_trusted(made, is_run):
    Path("mine.py").write_text(Path("mine.py").read_text() + "\n# a word\n")
    assert is_run()


@pytest.mark.parametrize("home", ["/dev/null", "no home"])
def test_without_a_place_to_keep_it_the_user_is_asked(fit, is_run, monkeypatch, home):
    if home == "no home":
        for name in ("PPLVM_STATE_HOME", "XDG_STATE_HOME"):
            monkeypatch.delenv(name, raising=False)

        def homeless():
            raise RuntimeError("Could not determine home directory.")

        monkeypatch.setattr(trust.Path, "home", homeless)
    else:
        monkeypatch.setenv("PPLVM_STATE_HOME", home)
    code, lines = fit("--program=mine:Good")
    assert code == 0 and not any("trust" in line for line in lines)
    assert not is_run() and is_run("run", "--trust=mine")
