"""A headless Chromium, driven by its DevTools protocol over one websocket: no driver program, no package but `websockets`."""

from __future__ import annotations

import base64
import itertools
import json
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

__all__ = ["CHROMIUM", "Page", "browser"]

CHROMIUM = next((found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None)
_FLAGS = (
    "--headless=new --no-sandbox --disable-gpu --disable-dev-shm-usage --disable-background-networking --disable-component-update "
    "--disable-sync --disable-quic --no-first-run --no-default-browser-check --mute-audio --hide-scrollbars --force-color-profile=srgb "
    "--remote-debugging-port=0 about:blank"
).split()
_PATIENCE_S = 60.0


@contextmanager
def browser() -> Iterator[Browser]:
    """A browser with a profile of its own, ended with everything that it started."""
    assert CHROMIUM is not None
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        process = subprocess.Popen(
            [CHROMIUM, f"--user-data-dir={profile}", *_FLAGS], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True,
            env={**os.environ, "HOME": profile},
        )  # fmt: skip
        try:
            assert process.stderr is not None
            said = []
            for line in process.stderr:
                said.append(line)
                if found := re.search(r"DevTools listening on (ws://\S+)", line):
                    break
            else:
                raise RuntimeError("Chromium did not start: " + "".join(said[-5:]))
            # Without pings: the thread that sends them draws from Python's random module, which Hypothesis forbids beside its own draws.
            with connect(found[1], max_size=None, open_timeout=_PATIENCE_S, ping_interval=None) as socket:
                yield Browser(socket)
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            if process.stderr is not None:
                process.stderr.close()


class Browser:
    """The browser, which opens pages."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._numbers = itertools.count(1)
        self._events: list[dict[str, Any]] = []
        self._target: str | None = None

    def page(self, path: Path, *, width: int = 1280, height: int = 900, scheme: str = "light") -> Page:
        """Open a file in a new page, close the one before, and wait for it to say that it is ready.

        A page that is not in front gets no frames and slow timers: there is only one.
        """
        if self._target is not None:
            self.call("Target.closeTarget", targetId=self._target)
        self._target = target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = Page(self, session)
        for domain in ("Page", "Runtime", "Network", "Log", "Security"):
            page.call(f"{domain}.enable")
        page.resize(width, height)
        page.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        page.open(path)
        return page

    def call(self, method: str, session: str | None = None, **parameters: Any) -> dict[str, Any]:
        """Send a command and wait for its answer; what happens meanwhile is kept."""
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": parameters, **({"sessionId": session} if session else {})}
        self._socket.send(json.dumps(message))
        while True:
            answer = json.loads(self._socket.recv(timeout=_PATIENCE_S))
            if answer.get("id") != number:
                self._events.append(answer)
            elif "error" in answer:
                raise RuntimeError(f"{method}: {answer['error']}")
            else:
                return dict(answer["result"])

    def events(self, session: str) -> list[dict[str, Any]]:
        """What happened in one page so far."""
        return [event for event in self._events if event.get("sessionId") == session]


class Page:
    """One page."""

    def __init__(self, browser: Browser, session: str) -> None:
        self._browser = browser
        self._session = session

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command of the DevTools protocol."""
        return self._browser.call(method, self._session, **parameters)

    def open(self, path: Path) -> None:
        """Load a file and wait for its script."""
        self.call("Page.navigate", url=path.resolve().as_uri())
        self.wait("document.documentElement.dataset.ready === 'yes'")

    def resize(self, width: int, height: int) -> None:
        """Give the window a size in pixels."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def run(self, expression: str) -> Any:
        """The value of an expression of the page, promises awaited."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(f"{expression}: {answer['exceptionDetails'].get('exception', {}).get('description')}")
        return answer["result"].get("value")

    def wait(self, condition: str) -> None:
        """Until a condition of the page holds."""
        done = self.run(
            f"new Promise((good) => {{ const look = (left) => {{ let found = false; try {{ found = {condition}; }} catch {{}} "
            "if (found || !left) good(found); else setTimeout(() => look(left - 1), 50); }; look(400); })"
        )
        assert done, f"waited in vain for: {condition}"

    def count(self, selector: str) -> int:
        """How many elements there are, scripts or not."""
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        return len(self.call("DOM.querySelectorAll", nodeId=root, selector=selector)["nodeIds"])

    def until(self, holds: Callable[[], bool]) -> None:
        """Until something holds of a page that is loading, whose nodes may go while it is asked."""
        for _ in range(400):
            with suppress(RuntimeError):
                if holds():
                    return
            time.sleep(0.05)
        raise AssertionError("waited in vain")

    def press(self, key: str, code: int = 0, text: str = "") -> None:
        """Press and release a key."""
        for kind in ("keyDown", "keyUp"):
            words = {"text": text} if text and kind == "keyDown" else {}
            self.call("Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=code, **words)

    def click(self, selector: str) -> None:
        """Click the middle of an element with a mouse."""
        self.run(f"document.querySelector({json.dumps(selector)}).scrollIntoView({{block: 'center'}})")
        x, y = self.run(
            f"(() => {{ const box = document.querySelector({json.dumps(selector)}).getBoundingClientRect(); "
            "return [box.x + box.width / 2, box.y + box.height / 2]; })()"
        )
        for kind in ("mouseMoved", "mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="none" if kind == "mouseMoved" else "left", clickCount=1)

    def move(self, x: float, y: float) -> None:
        """Move the mouse to a point of the window."""
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    @property
    def complaints(self) -> list[str]:
        """Errors and warnings on the console, exceptions that nobody caught, and what the content policy refused."""
        found = []
        for event in self._browser.events(self._session):
            told = event["params"]
            if event["method"] == "Runtime.exceptionThrown":
                found.append(str(told["exceptionDetails"]))
            elif event["method"] == "Runtime.consoleAPICalled" and told["type"] in ("error", "warning", "assert"):
                found.append(str(told["args"]))
            elif event["method"] == "Log.entryAdded" and told["entry"]["level"] in ("error", "warning"):
                found.append(told["entry"]["text"])
        return found

    @property
    def requests(self) -> list[str]:
        """Every address that the page asked for, that of data within itself left out."""
        urls = [
            event["params"]["request"]["url"]
            for event in self._browser.events(self._session)
            if event["method"] == "Network.requestWillBeSent"
        ]
        return [url for url in urls if not url.startswith("data:")]

    @property
    def refused(self) -> list[str]:
        """Why requests of the page were stopped before they left, one reason each."""
        failed = [event["params"] for event in self._browser.events(self._session) if event["method"] == "Network.loadingFailed"]
        return [told["blockedReason"] for told in failed if "blockedReason" in told]

    def picture(self, path: Path, *, whole: bool = False) -> None:
        """Write a PNG of the window, or of the whole page."""
        answer = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole, **({"clip": self._clip()} if whole else {}))
        path.write_bytes(base64.b64decode(answer["data"]))

    def _clip(self) -> dict[str, float]:
        box = self.call("Page.getLayoutMetrics")["cssContentSize"]
        return {"x": 0, "y": 0, "width": box["width"], "height": box["height"], "scale": 1}

    def print(self) -> bytes:
        """The page as PDF."""
        return base64.b64decode(self.call("Page.printToPDF", printBackground=True, preferCSSPageSize=True)["data"])
