"""What a package exports is there, and is all that its `__all__` says; exceptions rebuild from their args."""

import importlib
import inspect
import pkgutil

import pytest

import netfl
from netfl import errors

MODULES = sorted(module.name for module in pkgutil.walk_packages(netfl.__path__, "netfl.") if not module.name.endswith("__main__"))


def test_there_are_modules() -> None:
    assert len(MODULES) > 50


@pytest.mark.parametrize("name", ["netfl", *MODULES])
def test_exported_names_exist(name: str) -> None:
    module = importlib.import_module(name)
    exported = getattr(module, "__all__", None)
    assert exported is not None, f"{name} has no __all__"
    assert sorted(set(exported)) == sorted(exported)
    for each in exported:
        assert hasattr(module, each), f"{name}.{each}"


def exceptions() -> list[type[BaseException]]:
    from netfl.studies import InterruptedRunError
    from netfl.studies.folders import LockedError
    from netfl.studies.run import DiskFullError

    return [
        InterruptedRunError,
        LockedError,
        DiskFullError,
        *(each for _, each in inspect.getmembers(errors, inspect.isclass) if issubclass(each, BaseException)),
    ]


@pytest.mark.parametrize("kind", exceptions(), ids=lambda kind: kind.__name__)
def test_exceptions_rebuild_from_their_args(kind: type[BaseException]) -> None:
    """SimPy raises a failed event's exception again as `type(error)(*error.args)`."""
    made = kind(errors.Problem("a", "b", "c", 1, 2)) if kind is errors.ScenarioError else kind("what went wrong")
    again = type(made)(*made.args)
    assert str(again) == str(made)
    assert again.args == made.args
    assert issubclass(kind, errors.NetflError)
