"""Chromium, headless, spoken to over its DevTools pipe: pages from files, seen as a reader sees them.

Messages are JSON, each ended by a zero byte, on the descriptors 3 and 4 (`--remote-debugging-pipe`).
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
PATIENCE = 60.0
"""Seconds for any one answer; only ever used up where the browser hangs."""

_QUIET = """--headless --disable-gpu --hide-scrollbars --no-first-run --disable-background-networking
    --disable-component-update --disable-sync --disable-quic --disable-extensions --disable-default-apps
    --disable-dev-shm-usage --no-default-browser-check --metrics-recording-only --remote-debugging-pipe"""


def found() -> str | None:
    """The browser of this machine, if it has one."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Page:
    """One page. `requests` are the addresses that it asked for, `complaints` what its console said."""

    def __init__(self, reading: int, writing: int) -> None:
        self._reading, self._writing = reading, writing
        self._left = b""
        self._number = 0
        self._session = ""
        self._waiting: list[dict[str, Any]] = []
        self.requests: list[str] = []
        self.complaints: list[str] = []
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Log", "Runtime"):
            self.ask(f"{domain}.enable")

    def ask(self, method: str, **parameters: object) -> dict[str, Any]:
        """Call a method of the protocol; its result."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._writing, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                assert "error" not in answer, f"{method}: {answer['error']}"
                result: dict[str, Any] = answer["result"]
                return result

    def load(self, path: Path, *, width: int = 1280, dark: bool = False, media: str = "screen") -> None:
        """Show a file, in a window of that width, and wait until it is there."""
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.ask("Emulation.setEmulatedMedia", media=media, features=[scheme])
        self.ask(
            "Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False
        )
        self._waiting.clear()
        self.ask("Page.navigate", url=path.as_uri())
        while not any(event["method"] == "Page.loadEventFired" for event in self._waiting):
            self._next()

    def run(self, expression: str) -> Any:
        """The value of a JavaScript expression in the page."""
        answer = self.ask("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def press(self, key: str) -> None:
        """Press and release a key."""
        for kind in ("keyDown", "keyUp"):
            self.ask("Input.dispatchKeyEvent", type=kind, key=key, code=key)

    def point(self, x: float, y: float) -> None:
        """Move the pointer."""
        self.ask("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def settle(self) -> None:
        """Wait until two frames were painted: events of what was done before, as of scrolling, are over."""
        self.run("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")

    def picture(self, path: Path, *, whole: bool = True) -> None:
        """Write a PNG of what is shown, or of the whole page."""
        answer = self.ask("Page.captureScreenshot", captureBeyondViewport=whole, format="png")
        path.write_bytes(base64.b64decode(answer["data"]))

    def _next(self) -> dict[str, Any]:
        """The next message; events are also looked at here."""
        until = time.monotonic() + PATIENCE
        while b"\0" not in self._left:
            ready, _, _ = select.select([self._reading], [], [], max(0.0, until - time.monotonic()))
            assert ready, "the browser says nothing"
            read = os.read(self._reading, 1 << 20)
            assert read, "the browser has ended"
            self._left += read
        line, _, self._left = self._left.partition(b"\0")
        message: dict[str, Any] = json.loads(line)
        if "method" in message:
            self._see(message)
        return message

    def _see(self, event: dict[str, Any]) -> None:
        self._waiting.append(event)
        given = event.get("params", {})
        match event["method"]:
            case "Network.requestWillBeSent":
                self.requests.append(given["request"]["url"])
            case "Log.entryAdded":
                self.complaints.append(given["entry"]["text"])
            case "Runtime.exceptionThrown" | "Runtime.consoleAPICalled":
                self.complaints.append(json.dumps(given)[:500])


@contextlib.contextmanager
def page(browser: str, profile: Path) -> Iterator[Page]:
    """A page of a browser of our own, with the new folder `profile`; afterwards the browser has ended."""
    theirs, ours, here, there = (_high(fd) for fd in (*os.pipe(), *os.pipe()))

    def in_their_places() -> None:
        os.dup2(theirs, 3)
        os.dup2(there, 4)

    argv = [browser, *_QUIET.split(), f"--user-data-dir={profile}", "--host-resolver-rules=MAP * ~NOTFOUND"]
    argv += ["--no-sandbox"] if os.geteuid() == 0 else []
    process = subprocess.Popen(
        argv,
        pass_fds=(3, 4),
        preexec_fn=in_their_places,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        os.close(theirs)
        os.close(there)
        made = Page(here, ours)
        yield made
        made._session = ""
        made.ask("Browser.close")
        process.wait(PATIENCE)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        os.close(here)
        os.close(ours)


def _high(fd: int) -> int:
    """The same under a number that is not 3 or 4, so that one does not overwrite the other in the child."""
    try:
        return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 10)
    finally:
        os.close(fd)


CONTRAST = """(() => {
  const lightness = (colour) => colour.match(/[\\d.]+/g).slice(0, 3).map((part) => part / 255).map((part) =>
    part <= 0.03928 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4).reduce((sum, part, place) =>
    sum + part * [0.2126, 0.7152, 0.0722][place], 0);
  const behind = (element) => {
    for (; element; element = element.parentElement) {
      const colour = getComputedStyle(element).backgroundColor;
      if (colour !== "rgba(0, 0, 0, 0)") return colour;
    }
    return "rgb(255, 255, 255)";
  };
  const found = new Set();
  for (const element of document.querySelectorAll("body *:not(script, .tip, svg, svg *)")) {
    if (![...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim())) continue;
    const colours = [getComputedStyle(element).color, behind(element)];
    const [one, other] = colours.map(lightness).sort((a, b) => b - a);
    const ratio = (one + 0.05) / (other + 0.05);
    if (!(ratio >= 4.5)) found.add(element.tagName + "." + element.className + " " + ratio.toFixed(2));
  }
  return [...found];
})()"""
"""What of a page's text has less contrast than WCAG 2 asks for (4.5), for `Page.run`."""
