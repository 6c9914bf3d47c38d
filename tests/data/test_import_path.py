"""Modules of the working directory: found by an import path and by each other, after all others, and by nobody else."""

import importlib
import sys
from pathlib import Path

import pytest

from pplvm.catalog import load
from pplvm.data.import_path import FINDER, import_module

LEAVES_A_TRACE = "from pathlib import Path\nPath('ran').touch()\n"


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """A working directory of one's own, and what was imported forgotten afterwards."""
    before, path = dict(sys.modules), list(sys.path)
    monkeypatch.chdir(tmp_path)
    importlib.invalidate_caches()
    yield
    assert sys.path == path
    for name in set(sys.modules) - set(before):
        del sys.modules[name]
    FINDER.folders.clear()


def test_a_module_finds_its_siblings_at_once_and_later():
    Path("mine.py").write_text("import sister\ndef later():\n    from family.aunt import name\n    return name\n")
    Path("sister.py").write_text("name = 'sister'\n")
    Path("family").mkdir()
    Path("family/aunt.py").write_text("import sister, cousin\nname = sister.name + cousin.name\n")
    Path("cousin.py").write_text("name = 'cousin'\n")
    later = load("mine:later")
    assert later() == "sistercousin"


def test_a_module_in_a_folder_finds_its_neighbours():
    Path("stories").mkdir()
    Path("stories/mine.py").write_text("import nets, sister\nname = nets.name + sister.name\n")
    Path("stories/nets.py").write_text("import layers\nname = layers.name\n")
    Path("stories/layers.py").write_text("name = 'layers of stories, '\n")
    Path("sister.py").write_text("name = 'sister'\n")
    assert load("stories.mine:name") == "layers of stories, sister"
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("nets_of_nobody")


def test_nobody_else_finds_it(tmp_path):
    Path("mine.py").write_text("name = 1\n")
    Path("cupy.py").write_text(LEAVES_A_TRACE)  # a dependency that others import if it is there
    assert load("mine:name") == 1
    for module in ("mine_too", "cupy"):
        with pytest.raises(ModuleNotFoundError):
            importlib.import_module(module)
        assert importlib.util.find_spec(module) is None
    assert not Path("ran").exists()


def test_a_dependency_that_a_module_imports_is_not_taken_from_the_working_directory(tmp_path, monkeypatch):
    installed = tmp_path / "installed"
    installed.mkdir()
    Path(installed, "library.py").write_text("try:\n    import optional\nexcept ImportError:\n    optional = None\n")
    monkeypatch.syspath_prepend(installed)
    sys_path = list(sys.path)
    Path("mine.py").write_text("import library\noptional = library.optional\n")
    for name in ("library.py", "optional.py"):
        Path(name).write_text(LEAVES_A_TRACE)
    assert load("mine:optional") is None
    assert not Path("ran").exists() and sys.path == sys_path
    monkeypatch.undo()


def test_an_installed_module_comes_first_and_the_one_here_is_told():
    Path("colorsys.py").write_text(LEAVES_A_TRACE + "Story = 1\n")
    with pytest.raises(LookupError, match=r"colorsys has no 'Story' \(it is .*, which comes before colorsys.py here"):
        load("colorsys:Story")
    assert not Path("ran").exists()


def test_what_is_not_there_is_told():
    Path("needs.py").write_text("import a_module_that_is_not_there\n")
    with pytest.raises(ModuleNotFoundError, match="a_module_that_is_not_there"):
        import_module("needs")
    with pytest.raises(LookupError, match="no module 'nedes' here .* or installed, did you mean 'needs'"):
        load("nedes:Story")
