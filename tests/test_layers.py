"""The floors of the house, checked from the source: who may import whom, how many there are, and what is too long."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).parent.parent / "pplvm"

MAY_IMPORT = {
    "batch": set(),
    "bounds": set(),
    "distributed": {"batch"},
    "networks": set(),
    "distributions": set(),
    "particles": {"batch", "distributions"},
    "plots": set(),
    "data": {"batch", "plots"},
    "programs": {"networks", "distributions"},
    "objectives": {"particles", "bounds", "distributed", "batch"},
    "graphs": {"particles", "batch"},
    "training": {"distributed", "graphs", "batch"},
    "evaluation": {"particles", "distributions", "bounds", "graphs", "objectives", "distributed", "plots", "batch"},
    "estimators": {"particles", "bounds", "graphs", "objectives", "distributed", "plots", "batch"},
    "catalog": {"data", "programs", "objectives"},
}
ANYTHING = {"commands", "cli", "__init__", "__main__"}
FILES_AT_THE_ROOT = {"__init__", "__main__", "batch", "bounds", "catalog", "cli"}
FLOORS = 6

FILE, FUNCTION, ARGUMENTS = 300, 60, 8
"""Lines of a file, lines of a function with its docstring, arguments of a function, at most."""
PRESETS = {
    *(
        "conv_hierarchical_vae",
        "diffusion_prior",
        "flow_prior_vae",
        "hierarchical_vae",
        "iaf_vae",
        "sq_vae",
        "vamp_vae",
    ),
    *("vlae", "vq_vae", "vq_vae_2"),
}
PUBLIC_WITH_MORE = {"fit", "evaluate", "VAE", "SemiAmortized", *PRESETS}
"""Public functions and constructors whose keyword arguments are the configuration."""


def imported(source: str) -> list[str]:
    """The rooms of pplvm that a file imports; "__init__" for pplvm itself."""
    names = [
        name
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in ([node.module] if isinstance(node, ast.ImportFrom) else [a.name for a in node.names])
        if (name or "").split(".")[0] == "pplvm"
    ]
    return [name.split(".")[1] if "." in name else "__init__" for name in names]


def violations(room: str, source: str) -> list[str]:
    """The rooms that `source`, a file of `room`, imports without being allowed to."""
    allowed = MAY_IMPORT.get(room, set()) | {room}
    return [] if room in ANYTHING else [other for other in imported(source) if other not in allowed]


def room_of(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def floors(arrows: dict[str, set[str]]) -> int:
    """The length of the longest path of imports; CycleError where rooms import each other."""
    floor: dict[str, int] = {}
    for room in TopologicalSorter(arrows).static_order():
        floor[room] = 1 + max((floor[other] for other in arrows.get(room, ())), default=0)
    return max(floor.values())


def too_long(source: str) -> list[str]:
    """What is longer than it may be, or takes more arguments."""
    found = [f"{lines} lines"] if (lines := len(source.splitlines())) > FILE else []
    tree = ast.parse(source)
    owner = {id(f): c.name for c in ast.walk(tree) if isinstance(c, ast.ClassDef) for f in c.body}
    for node in ast.walk(tree):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        public = owner.get(id(node)) if node.name == "__init__" else node.name
        names = [a.arg for a in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
        if (node.end_lineno or 0) - node.lineno + 1 > FUNCTION:
            found.append(f"{node.name}: more than {FUNCTION} lines")
        taken = [name for name in names if name not in ("self", "cls")]
        if len(taken) > ARGUMENTS and public not in PUBLIC_WITH_MORE:
            found.append(f"{node.name}: more than {ARGUMENTS} arguments")
    return found


def test_no_room_imports_a_room_above_it():
    for path in ROOT.rglob("*.py"):
        room = room_of(path)
        assert room in MAY_IMPORT or room in ANYTHING, f"{path}: a room without a floor"
        assert not (bad := violations(room, path.read_text())), f"{path} imports {bad}"


def test_a_planted_violation_is_seen():
    assert violations("programs", "from pplvm.objectives.pathwise import Pathwise") == ["objectives"]
    assert violations("training", "import pplvm.particles.pair") == ["particles"]
    assert violations("data", "from pplvm import Loss") == ["__init__"]


def test_there_are_no_more_floors_than_the_house_may_have():
    arrows: dict[str, set[str]] = {}
    for path in ROOT.rglob("*.py"):
        room = room_of(path)
        arrows.setdefault(room, set()).update(other for other in imported(path.read_text()) if other != room)
    assert floors(arrows) <= FLOORS
    assert floors({"a": {"b"}, "b": {"c"}, "c": set()}) == 3


def test_a_file_at_the_root_belongs_in_no_room():
    assert {path.stem for path in ROOT.glob("*.py")} == FILES_AT_THE_ROOT


def test_files_functions_and_arguments_are_few_enough():
    found = {str(path.relative_to(ROOT)): too_long(path.read_text()) for path in ROOT.rglob("*.py")}
    assert not {path: each for path, each in found.items() if each}


def test_what_is_too_long_is_seen():
    assert too_long("\n" * 301) == ["301 lines"]
    assert too_long("def f(self, " + ", ".join("abcdefghi") + "): pass") == ["f: more than 8 arguments"]
    assert too_long("def f():\n" + 60 * "    pass\n") == ["f: more than 60 lines"]
