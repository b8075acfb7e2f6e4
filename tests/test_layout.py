"""The layout of the package: one place for each subject, and imports that run downward."""

from __future__ import annotations

import ast
import re
from graphlib import TopologicalSorter

from helpers.workspaces import REPOSITORY


def _name(path) -> str:
    parts = path.relative_to(REPOSITORY).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {_name(path): path for path in sorted((REPOSITORY / "gru_optuna").rglob("*.py"))}

# Floors from the ground up: a file may import from its own floor and from those below.
FLOORS = (
    ("attributes", "errors", "files", "formatting", "seeds", "toml", "urls", "workspace"),
    ("checkpoints", "hyperparameters", "machine"),
    ("storage", "study_file"),
    ("data", "search"),
    ("inspection", "training"),
    ("baselines",),
    ("study", "scaffold"),
    ("report", "bundle"),
    ("worker", "service"),
    ("launch", "tracking"),
    ("tuning",),
    ("estimators", "objective", "client"),
    ("cli",),
)
HEIGHTS = {room: height for height, rooms in enumerate(FLOORS) for room in rooms}


def source(module: str) -> str:
    """A module's text."""
    return MODULES[module].read_text()


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


def test_optunas_private_names_are_used_in_storage_alone() -> None:
    private = {"_study_id", "_trial_id", "_storage", "_contains"}
    uses = []
    for module in MODULES:
        for node in ast.walk(ast.parse(source(module))):
            match node:
                case ast.Attribute(value=owner, attr=name) if name in private:
                    if not (isinstance(owner, ast.Name) and owner.id == "self"):
                        uses.append(f"{module}: {name}")
                case ast.ImportFrom(module=str(origin)) if origin.startswith("optuna."):
                    names = [*origin.split("."), *(alias.name for alias in node.names)]
                    if any(name.startswith("_") for name in names):
                        uses.append(f"{module}: {origin}")
    assert [use for use in uses if not use.startswith("gru_optuna.storage.")] == []


def test_keys_of_attributes_are_written_down_once() -> None:
    homes = {"gru_optuna.attributes", "gru_optuna.study.trial_attributes"}
    bare = [
        f"{module}: {found[0]}"
        for module in MODULES.keys() - homes
        if (found := re.findall(r"(?:user_attrs(?:\.get\(|\[)|_attr\()\"\w+\"", source(module)))
    ]
    assert bare == []


def test_no_public_class_is_defined_twice() -> None:
    homes: dict[str, list[str]] = {}
    for module, path in MODULES.items():
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                homes.setdefault(node.name, []).append(module)
    assert {name: places for name, places in homes.items() if len(places) > 1} == {}


def test_no_import_renames_because_a_name_is_taken() -> None:
    usual = {"np", "pl", "cs", "pa", "pc", "sa", "go", "npt", "F"}
    renamed = [
        f"{module}: {alias.name} as {alias.asname}"
        for module in MODULES
        for node in ast.walk(ast.parse(source(module)))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
        if alias.asname not in {None, alias.name, *usual}
    ]
    assert renamed == []


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
