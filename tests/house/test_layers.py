"""A lower layer never imports an upper one, nor a neighbour; external libraries enter at their doors."""

import ast
from pathlib import Path

import pytest

import netfl

ROOT = Path(netfl.__file__).parent

LAYERS = [
    {"errors", "units", "randomness", "parts", "memory"},
    {"store", "trace", "codecs"},
    {"network", "compute", "learning", "placement"},
    {"world"},
    {"workloads"},
    {"scenario", "report"},
    {"studies"},
    {"cli"},
]
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}
# What outsiders call: they stand beside the layers and may look at anything below the command line.
BESIDE = {"__init__", "__main__", "checks"}
# Layers whose members may look at each other; learning encodes with the codecs below it.
MAY_LOOK_SIDEWAYS = {0}

DOORS = {
    "simpy": {"network", "compute", "world", "workloads"},
    "pymetis": {"learning"},
    "networkx": {"network", "placement", "learning"},
    "yaml": {"scenario"},
    "click": {"cli"},
    "rich": {"cli", "report"},
    "torch": {"learning", "placement"},
    "sklearn": {"learning"},
    "scipy": {"placement", "learning", "report", "studies"},
    "dp_accounting": {"learning"},
    "PIL": {"learning"},
    "datasets": {"learning"},
    "flwr_datasets": {"learning"},
    "pyarrow": {"learning", "report"},
    "mlflow": {"report"},
    "matplotlib": {"report"},
    "pydantic": {"scenario", "parts", "units"},
    "pydantic_core": {"parts", "units"},
}


def modules() -> list[Path]:
    return sorted(ROOT.rglob("*.py"))


def package_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return parts[0]


def imports(path: Path) -> list[str]:
    """Every absolute name that a module imports, inside functions and for type checking included."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found.append(node.module or "")
            if node.module == "netfl":
                found += [f"netfl.{alias.name}" for alias in node.names]
    return found


def upward(package: str, names: list[str]) -> list[str]:
    wrong = []
    for name in names:
        parts = name.split(".")
        if parts[0] != "netfl" or len(parts) < 2 or parts[1] == package or parts[1] not in LEVEL:
            continue
        if LEVEL[parts[1]] > LEVEL[package] or (LEVEL[parts[1]] == LEVEL[package] and LEVEL[package] not in MAY_LOOK_SIDEWAYS):
            wrong.append(name)
    return wrong


def test_every_package_has_a_layer() -> None:
    assert {package_of(path) for path in modules()} - BESIDE == set(LEVEL)


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_downward(path: Path) -> None:
    package = package_of(path)
    if package in BESIDE:
        return
    assert upward(package, imports(path)) == []


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_libraries_enter_at_their_doors(path: Path) -> None:
    package = package_of(path)
    if package in BESIDE:
        return
    for name in imports(path):
        library = name.split(".")[0]
        if library in DOORS:
            assert package in DOORS[library], f"{path} imports {name}"


def test_the_check_sees_an_upward_and_a_sideways_import() -> None:
    assert upward("network", ["netfl.world", "netfl.learning.models", "netfl.units", "simpy"]) == ["netfl.world", "netfl.learning.models"]
    assert upward("store", ["netfl.codecs"]) == ["netfl.codecs"]
