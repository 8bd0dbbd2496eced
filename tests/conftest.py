"""What every test shares."""

import os
from pathlib import Path

import pytest

# Worker processes would outlive the test that started them.
os.environ.setdefault("NETFL_WORKERS", "1")


@pytest.fixture(autouse=True)
def _own_width(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables are as wide as netfl makes them by itself, wherever tests run."""
    monkeypatch.delenv("COLUMNS", raising=False)


@pytest.fixture(autouse=True)
def _own_store(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test begins with an empty store of its own."""
    folder = tmp_path_factory.mktemp("store")
    monkeypatch.setenv("NETFL_STORE", str(folder))
    return folder
