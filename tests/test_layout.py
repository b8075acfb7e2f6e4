"""The layout of the package: one place for each subject, and imports that run downward."""

from __future__ import annotations

import ast
from graphlib import TopologicalSorter

from helpers.workspaces import REPOSITORY


def _name(path) -> str:
    parts = path.relative_to(REPOSITORY).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {_name(path): path for path in sorted((REPOSITORY / "gru_optuna").rglob("*.py"))}

# Floors from the ground up: a file may import from its own floor and from those below.
FLOORS = (
    ("errors", "files", "formatting", "seeds", "workspace"),
    ("checkpoints", "hyperparameters", "machine"),
    ("storage", "study_file"),
    ("data", "search"),
    ("inspection", "training"),
    ("study", "scaffold"),
    ("report", "bundle"),
    ("worker", "dashboard"),
    ("launch",),
    ("tuning",),
    ("estimators", "objective"),
    ("cli",),
)
HEIGHTS = {room: height for height, rooms in enumerate(FLOORS) for room in rooms}


def imports_of(module: str) -> set[str]:
    """The package's modules that one imports: for types only, and inside functions, too."""
    found = set()
    for node in ast.walk(ast.parse(MODULES[module].read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{module}: imports are absolute"
            for alias in node.names:
                within = f"{node.module}.{alias.name}"
                found.add(within if within in MODULES else node.module or "")
    return found & MODULES.keys()


def test_no_file_imports_itself_through_others() -> None:
    graph = {module: imports_of(module) for module in MODULES}
    TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle


def test_imports_run_downward_between_folders() -> None:
    def height(module: str) -> int:
        return HEIGHTS[module.split(".")[1]]

    inside = [module for module in MODULES if module.count(".") and "__main__" not in module]
    upward = [
        f"{module} imports {imported}"
        for module in inside
        for imported in imports_of(module) - {"gru_optuna"}
        if height(imported) > height(module)
    ]
    assert upward == []


def test_no_public_class_is_defined_twice() -> None:
    homes: dict[str, list[str]] = {}
    for module, path in MODULES.items():
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                homes.setdefault(node.name, []).append(module)
    assert {name: places for name, places in homes.items() if len(places) > 1} == {}


def test_public_names_are_documented() -> None:
    undocumented = [
        f"{module}.{node.name}"
        for module, path in MODULES.items()
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.FunctionDef | ast.ClassDef)
        if not node.name.startswith("_")
        if not ast.get_docstring(node)
    ]
    assert undocumented == []
