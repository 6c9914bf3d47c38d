"""The rooms of `pplvm.estimators` import from those above them in its docstring alone."""

import ast
import re
from pathlib import Path

import pplvm.estimators

ROOMS = re.findall(r"^    (\w+)/", pplvm.estimators.__doc__ or "", re.M)
FOLDER = Path(pplvm.estimators.__file__).parent


def imported(room: str) -> set[str]:
    """Rooms that the files of one room import from."""
    found = set()
    for path in (FOLDER / room).glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("pplvm.estimators."):
                found.add(str(node.module).split(".")[2])
    return found & set(ROOMS)


def test_no_room_imports_one_below_it():
    assert set(ROOMS) == {path.parent.name for path in FOLDER.glob("*/__init__.py")}
    for number, room in enumerate(ROOMS):
        assert imported(room) <= set(ROOMS[: number + 1]), room
    assert "statistics" in imported("measurements") and "replicates" not in imported("cost")
