"""The floors of the house, checked from the source: who may import whom."""

import ast
from pathlib import Path

ROOT = Path(__file__).parent.parent / "pplvm"

MAY_IMPORT = {
    "batch": set(),
    "bounds": set(),
    "distributed": {"batch"},
    "networks": set(),
    "distributions": set(),
    "particles": {"batch"},
    "plots": set(),
    "data": {"batch", "plots"},
    "programs": {"networks", "distributions"},
    "objectives": {"particles", "bounds", "distributed", "batch"},
    "graphs": {"particles", "batch"},
    "training": {"distributed", "graphs", "batch"},
    "evaluation": {"particles", "bounds", "graphs", "objectives", "distributed", "plots", "batch"},
    "estimators": {"particles", "bounds", "graphs", "objectives", "distributed", "plots", "batch"},
    "catalog": {"data", "programs", "objectives"},
}
ANYTHING = {"__init__", "__main__", "cli", "commands"}


def violations(room: str, source: str) -> list[str]:
    """The rooms that `source`, a file of `room`, imports without being allowed to."""
    allowed = MAY_IMPORT.get(room, set()) | {room}
    names = [
        name
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in ([node.module] if isinstance(node, ast.ImportFrom) else [a.name for a in node.names])
        if (name or "").split(".")[0] == "pplvm"
    ]
    rooms = [name.split(".")[1] if "." in name else "__init__" for name in names]
    return [] if room in ANYTHING else [other for other in rooms if other not in allowed]


def test_no_room_imports_a_room_above_it():
    for path in ROOT.rglob("*.py"):
        room = path.relative_to(ROOT).parts[0].removesuffix(".py")
        assert room in MAY_IMPORT or room in ANYTHING, f"{path}: a room without a floor"
        assert not (bad := violations(room, path.read_text())), f"{path} imports {bad}"


def test_a_planted_violation_is_seen():
    assert violations("programs", "from pplvm.objectives.pathwise import Pathwise") == ["objectives"]
    assert violations("training", "import pplvm.particles.pair") == ["particles"]
    assert violations("data", "from pplvm import Loss") == ["__init__"]
