"""The page of a sweep in a real browser."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.browser.devtools import Browser


@pytest.mark.parametrize(("width", "height"), [(1280, 900), (390, 844)])
def test_no_complaint_no_request_and_no_horizontal_scroll(chromium: Browser, swept: Path, width: int, height: int) -> None:
    page = chromium.page(swept, width=width, height=height)
    assert page.run("document.documentElement.scrollWidth") <= width
    assert page.complaints == []
    assert page.requests == [swept.resolve().as_uri()]


def test_points_front_and_heat_map(chromium: Browser, swept: Path) -> None:
    page = chromium.page(swept)
    # Two rates, two replicates of each.
    assert page.run("[...document.querySelectorAll('#points-table tbody tr')].map((row) => row.querySelector('td').textContent)") == [
        "2",
        "2",
    ]
    assert page.run("document.querySelectorAll('#front-plot circle').length") == 2
    front = page.run("document.getElementById('front-told').textContent")
    assert front.startswith("On the front:")
    page.run(
        "(() => { const one = document.getElementById('front-y'); one.value = one.options.length - 1; one.dispatchEvent(new Event('change')); })()"
    )
    assert page.run("document.getElementById('front-plot').getAttribute('aria-label')").startswith("energy against bytes sent")
    heads = page.run("[...document.querySelectorAll('#heat-table thead th')].map((each) => each.textContent)")
    assert heads == ["topology.links.trunk.rate", "1 Mbit/s", "10 Mbit/s"]
    page.run("document.getElementById('front-plot').focus()")
    page.press("ArrowRight")
    page.wait("document.getElementById('live').textContent.includes('bytes sent')")
    assert page.complaints == []
