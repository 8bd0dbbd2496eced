"""A browser for the tests of this folder, and the pages that they open."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import netfl
from netfl.studies.reports import report
from tests.browser.devtools import CHROMIUM, Browser, browser
from tests.workloads.small import small

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Every test here needs Chromium; without one it says so and is skipped."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.browser)
            if CHROMIUM is None:
                item.add_marker(pytest.mark.skip(reason="Chromium is not installed (Debian: apt-get install chromium)"))


@dataclass(frozen=True)
class Reported:
    """A run and its page."""

    folder: Path
    page: Path
    metrics: dict[str, Any]

    def all(self, query: str) -> list[Any]:
        with sqlite3.connect(self.folder / "run.db") as trace:
            rows = trace.execute(query).fetchall()
        trace.close()
        return rows


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    with browser() as opened:
        yield opened


@pytest.fixture(scope="session")
def reported(tmp_path_factory: pytest.TempPathFactory) -> Reported:
    folder = tmp_path_factory.mktemp("run") / "small"
    scenario = small(stop={"after": "20 s"}, description="</script><script>alert('description')</script><b>bold</b>")
    scenario["topology"]["devices"]["cloud"]["label"] = "<img src=x onerror=alert('label')>"
    scenario["topology"]["devices"]["node-{1..4}"]["outages"] = {"kind": "exponential", "mean_up": "5 s", "mean_down": "1 s"}
    run = netfl.run(scenario, output=folder)
    page = folder.parent / "report.html"
    page.write_text(report(folder), encoding="utf-8")
    return Reported(folder, page, run.metrics)


@pytest.fixture(scope="session")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sweep")
    for rate in (1, 10):
        for replicate in (0, 1):
            settings = {"topology.links.trunk.rate": f"{rate} Mbit/s", "replicate": replicate, "workloads.training.rounds": 2}
            netfl.run(small(), set=settings, output=folder / f"{rate}-{replicate}")
    page = folder / "report.html"
    page.write_text(report(folder), encoding="utf-8")
    return page
