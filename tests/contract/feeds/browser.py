"""A real Chromium, headless, driven by chromedriver over W3C WebDriver: no more of it than the tests of a page need."""

from __future__ import annotations

import base64
import json
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import urllib3

#: Seconds that anything may take. A test never asserts a time; this ends one that hangs.
PATIENCE = 90.0
_ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-breakpad",
    "--disable-dev-shm-usage",
)
CONTROL, NULL = "\ue009", "\ue000"


class Browser:
    """One window."""

    def __init__(self, http: urllib3.PoolManager, url: str, session: str) -> None:
        self._http = http
        self._url = f"{url}/session/{session}"

    def open(self, url: str) -> None:
        self._ask("POST", "/url", url=url)

    def resize(self, width: int, height: int) -> None:
        """Make the page this large, as a phone or a desktop has it."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self._ask("POST", "/goog/cdp/execute", cmd="Emulation.setDeviceMetricsOverride", params=metrics)

    def run(self, script: str, *arguments: Any) -> Any:
        """Run the body of a function in the page; return what it returns."""
        return self._ask("POST", "/execute/sync", script=script, args=list(arguments))

    def all(self, css: str) -> list[str]:
        return [each[_ELEMENT] for each in self._ask("POST", "/elements", using="css selector", value=css)]

    def one(self, css: str) -> str:
        found = self.all(css)
        assert len(found) == 1, f"{len(found)} elements are {css}"
        return found[0]

    def click(self, css: str) -> None:
        self._ask("POST", f"/element/{self.one(css)}/click")

    def type(self, css: str, text: str) -> None:
        self._ask("POST", f"/element/{self.one(css)}/value", text=text)

    def role(self, element: str) -> str:
        """Return the role that a screen reader is told."""
        return str(self._ask("GET", f"/element/{element}/computedrole"))

    def label(self, element: str) -> str:
        """Return the name that a screen reader is told."""
        return str(self._ask("GET", f"/element/{element}/computedlabel"))

    def processor(self) -> float:
        """Return the seconds that the page's own thread has worked, by the processor's clock, since it was made."""
        self._ask("POST", "/goog/cdp/execute", cmd="Performance.enable", params={"timeDomain": "threadTicks"})
        told = self._ask("POST", "/goog/cdp/execute", cmd="Performance.getMetrics", params={})["metrics"]
        return float({each["name"]: each["value"] for each in told}["TaskDuration"])

    def screenshot(self, file: Path) -> None:
        file.write_bytes(base64.b64decode(self._ask("GET", "/screenshot")))

    def complaints(self) -> list[str]:
        """Return the errors on the console since last asked."""
        entries = self._ask("POST", "/se/log", type="browser")
        return [entry["message"] for entry in entries if entry["level"] == "SEVERE"]

    def until(self, condition: Callable[[], bool]) -> None:
        """Wait for what will come, and last."""
        ends = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < ends, "it did not come"
            time.sleep(0.05)

    def close(self) -> None:
        self._ask("DELETE", "")

    def _ask(self, method: str, path: str, **body: Any) -> Any:
        return ask(self._http, method, self._url + path, body)


def ask(http: urllib3.PoolManager, method: str, url: str, body: dict[str, Any]) -> Any:
    content = json.dumps(body) if method == "POST" else None
    answer = http.request(method, url, body=content, headers={"Content-Type": "application/json"}, timeout=PATIENCE)
    value = json.loads(answer.data)["value"]
    assert answer.status == 200, value
    return value


@contextmanager
def chromium(profile: Path) -> Iterator[Browser]:
    """Yield a window of a fresh browser; everything of it ends with the block."""
    command = ["chromedriver", "--port=0"]
    with (
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as driver,
        urllib3.PoolManager(retries=False) as http,
    ):
        try:
            assert driver.stdout is not None
            said = next(line for line in driver.stdout if "started successfully on port" in line)
            url = f"http://127.0.0.1:{int(said.rstrip().rstrip('.').rpartition(' ')[2])}"
            options = {"args": [*_FLAGS, f"--user-data-dir={profile}"]}
            wanted = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
            made = ask(http, "POST", f"{url}/session", {"capabilities": {"alwaysMatch": wanted}})
            browser = Browser(http, url, made["sessionId"])
            try:
                yield browser
            finally:
                browser.close()
        finally:
            driver.terminate()
