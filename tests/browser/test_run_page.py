"""The page of a run in a real browser: it works, it asks for nothing, it fits, and its tables are the trace's sums."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from netfl.report.page import Told, run_page
from netfl.trace import DeviceUse, Evaluation, LinkUse, Request, RunEnd, Trace, Transfer, Workload
from netfl.units import format_duration
from tests.browser.conftest import Reported
from tests.browser.devtools import Browser, Page

SIZES = [(1280, 900), (390, 844)]


@pytest.fixture
def page(chromium: Browser, reported: Reported) -> Page:
    return chromium.page(reported.page)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("width", "height"), SIZES)
def test_no_complaint_no_request_and_no_horizontal_scroll(
    chromium: Browser, reported: Reported, width: int, height: int, scheme: str
) -> None:
    page = chromium.page(reported.page, width=width, height=height, scheme=scheme)
    page.run("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
    assert page.run("document.documentElement.scrollWidth") <= width
    page.click("#play")
    page.wait("Number(document.getElementById('scrub').value) > 0")
    page.click("#theme")
    page.print()
    assert page.complaints == []
    assert page.requests == [reported.page.resolve().as_uri()]


def test_the_log_sees_a_complaint_and_a_refused_request(chromium: Browser, reported: Reported) -> None:
    page = chromium.page(reported.page)
    page.run("(() => { console.error('said'); const image = new Image(); image.src = 'https://example.invalid/x.png'; })()")
    page.run("fetch('https://example.invalid/y').catch(() => 0)")
    assert "said" in str(page.complaints)
    # An attempt is seen, and the policy stops it before it leaves.
    assert page.requests == [reported.page.resolve().as_uri(), "https://example.invalid/x.png"]
    assert page.refused == ["csp"]
    assert sum("Content Security Policy" in text for text in page.complaints) >= 2


def test_no_script_of_others_runs(chromium: Browser, reported: Reported) -> None:
    page = chromium.page(reported.page)
    page.run(
        "(() => { const made = document.createElement('div'); document.body.append(made); "
        "const script = document.createElement('script'); try { script.text = 'window.ran = 1'; } catch { window.refused = 1; } "
        "try { made.append(script); } catch {} })()"
    )
    assert page.run("window.ran === undefined")


def test_playing_moves_the_clock_and_pausing_holds_it(page: Page) -> None:
    assert page.run("document.getElementById('clock').textContent") == "whole run"
    page.click("#play")
    assert page.run("document.getElementById('play').textContent") == "Pause"
    page.wait("Number(document.getElementById('scrub').value) >= 3")
    page.click("#play")
    held = page.run("document.getElementById('scrub').value")
    page.run("new Promise((good) => setTimeout(good, 300))")
    assert page.run("document.getElementById('scrub').value") == held
    page.click("#whole")
    assert page.run("document.getElementById('clock').textContent") == "whole run"


def test_scrubbing_tells_that_time(page: Page, reported: Reported) -> None:
    slices = int(page.run("document.getElementById('scrub').max")) + 1
    page.run(
        "(() => { const scrub = document.getElementById('scrub'); scrub.value = scrub.max / 2; scrub.dispatchEvent(new Event('input')); })()"
    )
    place = int(page.run("document.getElementById('scrub').value"))
    # The middle of the slice.
    at_s = (place + 0.5) * reported.metrics["simulated_s"] / slices
    assert page.run("document.getElementById('clock').textContent") == format_duration(at_s)
    assert page.run("document.getElementById('scrub').getAttribute('aria-valuetext')") == page.run(
        "document.getElementById('clock').textContent"
    )
    page.click("#whole")


def test_the_keyboard_does_what_the_mouse_does(page: Page, reported: Reported) -> None:
    page.run("document.getElementById('network').focus()")
    page.press("ArrowRight")
    page.press("ArrowRight")
    first = page.run("document.getElementById('scrub').value")
    page.press("End")
    assert page.run("document.getElementById('scrub').value") == page.run("document.getElementById('scrub').max")
    page.press("Escape")
    assert int(first) >= 1
    assert page.run("document.getElementById('clock').textContent") == "whole run"
    page.press(" ", 32, " ")
    assert page.run("document.getElementById('play').textContent") == "Pause"
    page.press("Escape")
    page.run("document.getElementById('accuracy-plot').focus()")
    page.press("End")
    end = format_duration(reported.metrics["simulated_s"])
    page.wait(f"document.getElementById('live').textContent.startsWith('{end}, ')")


def test_speed_changes_how_fast_it_goes(page: Page) -> None:
    """The whole run in 300 s cannot have gone further than the page's own clock allows; in 10 s it soon has."""
    choose = "(() => {{ const speed = document.getElementById('speed'); speed.value = '{}'; speed.dispatchEvent(new Event('change')); }})()"
    slices = int(page.run("document.getElementById('scrub').max")) + 1
    page.run(choose.format(300))
    began_s = page.run("performance.now() / 1000")
    page.click("#play")
    page.run("new Promise((good) => setTimeout(good, 500))")
    page.click("#play")
    passed_s = page.run("performance.now() / 1000") - began_s
    moved = int(page.run("document.getElementById('scrub').value"))
    assert moved <= slices * passed_s / 300
    page.run(choose.format(10))
    page.click("#play")
    page.wait(f"Number(document.getElementById('scrub').value) > {max(30, slices * passed_s / 100)}")


def test_theme_follows_the_system_until_it_is_chosen(chromium: Browser, reported: Reported) -> None:
    ground = "getComputedStyle(document.body).backgroundColor"
    colours = [chromium.page(reported.page, scheme=scheme).run(ground) for scheme in ("dark", "light")][::-1]
    assert colours[0] != colours[1]
    light = chromium.page(reported.page, scheme="light")
    light.click("#theme")
    assert light.run(ground) == colours[1]
    light.click("#theme")
    assert light.run(ground) == colours[0]


def test_the_timeline_zooms_and_moves(page: Page, reported: Reported) -> None:
    seen = []
    for button in ("time-in", "time-right", "time-left", "time-out", "time-all"):
        page.click(f"#{button}")
        page.run("new Promise((good) => setTimeout(good, 250))")
        seen.append(page.run("document.getElementById('live').textContent"))
    # The middle half, half of that to the right, back, all of it.
    quarters = [format_duration(quarter * reported.metrics["simulated_s"] / 4) for quarter in range(5)]
    quarters[0] = "0 s"
    assert seen == [f"from {quarters[a]} to {quarters[b]}" for a, b in ((1, 3), (2, 4), (1, 3), (0, 4), (0, 4))]


def test_every_figure_and_control_has_a_name(page: Page) -> None:
    nameless = page.run(
        "[...document.querySelectorAll('button, select, input, canvas[tabindex], .plot, summary, .wide')].filter((each) => "
        "!(each.getAttribute('aria-label') || each.textContent.trim() || each.labels?.length)).map((each) => each.outerHTML)"
    )
    assert nameless == []
    told = page.call("Accessibility.getFullAXTree")["nodes"]
    roles = {node["role"]["value"] for node in told if not node.get("ignored")}
    assert {"main", "heading", "slider", "button", "combobox", "region"} <= roles
    for section in page.run("[...document.querySelectorAll('section')].map((each) => each.id)"):
        figures = page.run(f"document.querySelectorAll('#{section} figure').length")
        assert not figures or page.run(f"document.querySelectorAll('#{section} table').length") > 0, section


def column_sums(page: Page, table: str) -> tuple[list[float], list[float]]:
    """The sums of a table's columns as added up here, and as its last row says."""
    cells = page.run(
        f"[...document.querySelectorAll('#{table} tbody tr')].map((row) => [...row.querySelectorAll('td')].map((cell) => "
        "Number(cell.querySelector('data')?.getAttribute('value') ?? NaN)))"
    )
    foot = page.run(f"[...document.querySelectorAll('#{table} tfoot td data')].map((each) => Number(each.getAttribute('value')))")
    return [math.fsum(column) for column in zip(*cells, strict=True)], foot


@pytest.mark.parametrize(
    ("table", "query"),
    [
        ("links", "SELECT sum(sent_bytes), sum(delivered_bytes), sum(wasted_bytes), sum(in_flight_bytes), sum(transmit_j), sum(receive_j) "
                  "FROM link_use"),
        ("kinds-over-links", "SELECT sum(sent_bytes), sum(delivered_bytes), sum(wasted_bytes), sum(in_flight_bytes) FROM link_use"),
        ("energy-table", "SELECT sum(compute_j), sum(transmit_j), sum(receive_j), sum(idle_j) FROM device_use"),
        ("devices", "SELECT sum(busy_s), sum(bytes_up), sum(bytes_down), sum(compute_j + idle_j + transmit_j + receive_j), "
                    "sum(peak_memory_bytes), sum(storage_bytes) FROM device_use"),
    ],
)  # fmt: skip
def test_table_sums_are_those_of_the_trace(page: Page, reported: Reported, table: str, query: str) -> None:
    expected = list(reported.all(query)[0])
    added, told = column_sums(page, table)
    assert added == pytest.approx(expected, rel=1e-12)
    assert told == pytest.approx(expected, rel=1e-12)


def test_kinds_placements_and_requests_are_those_of_the_trace(page: Page, reported: Reported) -> None:
    sent, wasted = reported.all("SELECT sum(sent_bytes), sum(wasted_bytes) FROM transfers")[0]
    added, told = column_sums(page, "kinds")
    assert (added[0], added[2]) == (told[0], told[2]) == (sent, wasted)
    (requests,), (answered,) = reported.all("SELECT count(*) FROM requests UNION ALL SELECT sum(outcome = 'answered') FROM requests")
    cells = "[...row.querySelectorAll('td data')].slice(0, 2).map((each) => Number(each.value))"
    counts = page.run(f"[...document.querySelectorAll('#placements-table tbody tr')].map((row) => {cells})")
    assert [sum(column) for column in zip(*counts, strict=True)] == [requests, answered]


@pytest.mark.parametrize(("kind", "notes"), [("processors", "device_loads"), ("links", "link_loads")])
def test_loads_are_those_of_the_trace(page: Page, reported: Reported, kind: str, notes: str) -> None:
    added, _ = column_sums(page, f"load-{kind}")
    busy_s, end_s, at_work = reported.all(f"SELECT sum(busy_s), (SELECT simulated_s FROM run_end), sum(busy_s > 0) FROM {notes}")[0]
    assert added[0] == pytest.approx(busy_s / end_s)
    assert page.run(f"document.querySelectorAll('#load-plot-{kind} .bar').length") == min(at_work, 6)


def test_the_phases_of_devices_add_up_to_what_they_did(page: Page, reported: Reported) -> None:
    """Downloads and computation of clients, straight from their tables."""
    added, _ = column_sums(page, "phases")
    download = reported.all("SELECT sum(end_s - start_s) FROM transfers WHERE workload = 'training' AND kind = 'model'")[0][0]
    trained = reported.all("SELECT sum(end_s - start_s) FROM computations WHERE kind = 'training'")[0][0]
    never_trained = reported.all(
        "SELECT total(end_s - start_s) FROM transfers WHERE workload = 'training' AND kind = 'model' "
        "AND destination NOT IN (SELECT device FROM computations WHERE kind = 'training')"
    )[0][0]
    assert added[0] == pytest.approx(download - never_trained)
    assert added[1] == pytest.approx(trained)


def test_headline_figures_are_the_metrics(page: Page, reported: Reported) -> None:
    found = page.run("[...document.querySelectorAll('#headline data')].map((each) => Number(each.value))")
    metrics = reported.metrics
    assert found[-2:] == [metrics["bytes"]["total"], metrics["energy_j"]["total"]]
    assert metrics["serving"]["serving"]["p95_s"] in found


def nasty(text: str) -> list[Any]:
    """A trace in which every name is markup."""
    shared = {"workload": text, "kind": "model"}
    return [
        Workload(workload=text, role="training"),
        Workload(workload=text + "2", role="serving"),
        Transfer(transfer=1, **shared, label=text, source=text, destination="b", route=f"{text}>b", payload_bytes=10, start_s=0.0, end_s=1.0,
                 outcome=text, attempts=1, sent_bytes=10, wasted_bytes=0, latency_s=0.0, stalled_s=0.0),
        Evaluation(workload=text, version=0, time_s=0.5, accuracy=0.5, loss=math.inf),
        Request(request=1, workload=text + "2", device=text, sample=0, version=0, placement=text, arrival_s=0.0, end_s=0.5, deadline_s=math.inf,
                outcome="answered", correct=1, queue_s=0.125, compute_s=0.125, transmit_s=0.125, propagation_s=0.125),
        LinkUse(link=f"{text} link", source=text, destination="b", **shared, sent_bytes=10, delivered_bytes=10, wasted_bytes=0, in_flight_bytes=0,
                transmit_j=1.0, receive_j=1.0),
        DeviceUse(device=text, tier="device", busy_s=1.0, compute_j=1.0, idle_j=1.0, transmit_j=1.0, receive_j=1.0, bytes_up=10, bytes_down=0,
                  peak_memory_bytes=1, storage_bytes=1),
        RunEnd(simulated_s=1.0, reason=text),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "text",
    ["</script><script>window.ran = 1</script>", "<img src=x onerror='window.ran = 1'>", '"><svg onload=window.ran=1>', "<!--<script>"],
)
def test_nothing_in_a_run_becomes_markup(chromium: Browser, tmp_path: Path, text: str) -> None:
    trace = Trace()
    for row in nasty(text):
        trace.append(row)
    trace.flush()
    told = Told(name=text, description=text, given=text, resolved=text, facts={text: text}, notes=(text,), pictures=((text, b""),))
    path = tmp_path / "nasty.html"
    path.write_text(run_page(trace.connection, None, told), encoding="utf-8")
    page = chromium.page(path)
    page.click("#play")
    assert page.run("window.ran === undefined")
    assert page.run("document.querySelectorAll('img, main script, main svg[onload]').length") == 0
    assert page.run("document.querySelectorAll('script').length") == 2
    assert page.run("document.querySelector('h1').textContent") == text
    assert page.complaints == []


def test_without_scripts_there_are_pictures_and_tables(chromium: Browser, reported: Reported) -> None:
    page = chromium.page(reported.page)
    assert page.count("noscript img") == 0
    page.call("Emulation.setScriptExecutionDisabled", value=True)
    page.call("Page.navigate", url=reported.page.resolve().as_uri() + "?again")
    # Topology, accuracy, latency, bytes by link.
    page.until(lambda: page.count("noscript img") == 4)
    assert page.count("#links tbody tr") == 5


def test_it_prints(chromium: Browser, reported: Reported) -> None:
    printed = chromium.page(reported.page, scheme="dark").print()
    assert printed.startswith(b"%PDF")
    # A4 or letter: not one endless page, and not the hundreds that open tables would be.
    assert 2 <= printed.count(b"/Type /Page\n") + printed.count(b"/Type /Page ") <= 12
