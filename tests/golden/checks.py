"""What every module of golden values checks: the value, its way to the disk and back, and that no stored function is forgotten."""

from collections.abc import Callable, Iterable, Mapping
from types import ModuleType
from typing import Any

import pytest

from netfl.store import Function, Recipe, Store

Figures = Callable[[Any], list[float]]
Golden = Mapping[tuple[str, int], list[float]]


def assert_golden(name: str, recipe: Recipe, figures: Figures, golden: Golden) -> None:
    """A recipe's value has the figures that were written down for its function's name and version."""
    assert recipe.function.name == name
    assert figures(Store().force(recipe)) == pytest.approx(golden[name, recipe.function.version], rel=1e-4, abs=1e-6)


def assert_same_from_disk(recipe: Recipe, figures: Figures) -> None:
    """What the disk gives back is the value."""
    value, form = Store().force(recipe), recipe.function.form
    assert form is not None
    assert figures(form.load(form.dump(value))) == figures(value)


def assert_all_golden(recipes: Mapping[str, Recipe], golden: Golden, modules: Iterable[ModuleType]) -> None:
    """Every stored function of the modules has a golden value of its present version, and no other has."""
    assert {(name, recipe.function.version) for name, recipe in recipes.items()} == golden.keys()
    functions = {each.name for module in modules for each in vars(module).values() if isinstance(each, Function)}
    assert functions == recipes.keys()
