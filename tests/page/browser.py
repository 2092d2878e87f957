"""A real browser over the DevTools protocol: Chromium without a screen, steered through two pipes."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

PROGRAM = "chromium"
_FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-dev-shm-usage", "--hide-scrollbars", "--remote-debugging-pipe",
)  # fmt: skip
_ANSWER_S, _END_S = 60.0, 10.0
_READ, _WRITE = 3, 4  # the numbers at which Chromium looks for its pipes


class Browser:
    """Chromium with an empty profile of its own; use as a context manager.

    Args:
        profile: An empty directory.
    """

    def __init__(self, profile: Path) -> None:
        found = shutil.which(PROGRAM)
        if found is None:
            raise RuntimeError(f"{PROGRAM} is missing: scripts/bootstrap test")
        ends = [*os.pipe(), *os.pipe()]
        theirs, self._out, self._in, told = (_out_of_the_way(end) for end in ends)
        self._pid = os.posix_spawn(
            found,
            [found, *_FLAGS, f"--user-data-dir={profile}"],
            {**os.environ, "HOME": str(profile), "DBUS_SESSION_BUS_ADDRESS": "/dev/null"},
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
                (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
                (os.POSIX_SPAWN_DUP2, theirs, _READ),
                (os.POSIX_SPAWN_DUP2, told, _WRITE),
            ],
            setpgroup=0,
        )
        os.close(theirs)
        os.close(told)
        self._number = 0
        self._buffer = b""
        self._events: list[dict[str, Any]] = []

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *_: object) -> None:
        """It ends by itself, or is killed with its children."""
        with contextlib.suppress(OSError, TimeoutError):
            self.call("Browser.close")
        os.close(self._out)
        os.close(self._in)
        watched = os.pidfd_open(self._pid)
        try:
            if not select.select([watched], [], [], _END_S)[0]:
                os.killpg(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)
        finally:
            os.close(watched)

    def call(self, method: str, session: str | None = None, **parameters: Any) -> dict[str, Any]:
        """Call a method of the protocol; raises RuntimeError when it answers with an error."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        data = json.dumps(message if session is None else {**message, "sessionId": session}).encode() + b"\0"
        while data:
            data = data[os.write(self._out, data) :]
        answer = self._wait(lambda one: one.get("id") == self._number)
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']}")
        result: dict[str, Any] = answer["result"]
        return result

    def wait_for(self, session: str, method: str) -> None:
        """Wait until an event came that was not waited for yet."""
        for index, event in enumerate(self._events):
            if (event.get("sessionId"), event.get("method")) == (session, method):
                del self._events[index]
                return
        self._wait(lambda one: (one.get("sessionId"), one.get("method")) == (session, method))

    def events(self, session: str) -> list[dict[str, Any]]:
        """What came for a session besides."""
        return [event for event in self._events if event.get("sessionId") == session]

    def _wait(self, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        deadline = time.monotonic() + _ANSWER_S
        while True:
            message = self._receive(deadline)
            if wanted(message):
                return message
            self._events.append(message)

    def _receive(self, deadline: float) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            if not select.select([self._in], [], [], max(deadline - time.monotonic(), 0))[0]:
                raise TimeoutError("Chromium does not answer")
            data = os.read(self._in, 1 << 16)
            if not data:
                raise OSError("Chromium has ended")
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\0")
        message: dict[str, Any] = json.loads(line)
        return message

    def open(self, path: Path, *, width: int) -> Tab:
        """Load a file in a window of that width."""
        return Tab(self, path, width)


class Tab:
    """A loaded page.

    Attributes:
        requests: Addresses that it asked for, apart from its own and ``data:``.
        messages: What it said on the console, errors and broken policies among them.
    """

    def __init__(self, browser: Browser, path: Path, width: int) -> None:
        self._browser = browser
        self._target = browser.call("Target.createTarget", url="about:blank")["targetId"]
        answer = browser.call("Target.attachToTarget", targetId=self._target, flatten=True)
        self._session = answer["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self._call(f"{domain}.enable")
        self.show(width=width)
        self._call("Page.navigate", url=path.as_uri())
        browser.wait_for(self._session, "Page.loadEventFired")
        self._own = path.as_uri()

    def _call(self, method: str, **parameters: Any) -> dict[str, Any]:
        return self._browser.call(method, self._session, **parameters)

    def show(self, *, width: int, dark: bool = False, media: str = "") -> None:
        """Show it in a window of another width, in the dark, or as on paper."""
        self._call(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=800, deviceScaleFactor=1, mobile=width < 600,
        )  # fmt: skip
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._call("Emulation.setEmulatedMedia", media=media, features=[scheme])

    def evaluate(self, expression: str) -> Any:
        """The value of an expression of JavaScript (from outside: the page itself has no scripts)."""
        answer = self._call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def pdf(self) -> str:
        """The page on paper, in base64."""
        return str(self._call("Page.printToPDF", printBackground=True)["data"])

    @property
    def requests(self) -> list[str]:
        """See the class."""
        found = self._named("Network.requestWillBeSent")
        urls = [str(event["params"]["request"]["url"]) for event in found]
        return [url for url in urls if url != self._own and not url.startswith("data:")]

    @property
    def messages(self) -> list[str]:
        """See the class."""
        names = ("Log.entryAdded", "Runtime.consoleAPICalled", "Runtime.exceptionThrown")
        return [json.dumps(event["params"]) for name in names for event in self._named(name)]

    def _named(self, method: str) -> list[dict[str, Any]]:
        return [event for event in self._browser.events(self._session) if event["method"] == method]

    def close(self) -> None:
        """Close it."""
        self._browser.call("Target.closeTarget", targetId=self._target)


def _out_of_the_way(descriptor: int) -> int:
    """The same under a number that the spawned program's pipes do not have."""
    moved = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 64)
    os.close(descriptor)
    return moved
