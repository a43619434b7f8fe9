"""A real browser, driven by its own protocol through two pipes: no driver and no network."""

import contextlib
import json
import os
import shutil
import subprocess

import pytest

PROGRAM = shutil.which("chromium") or shutil.which("chromium-browser")

needs_browser = pytest.mark.skipif(PROGRAM is None, reason="there is no chromium on this machine")


class Browser:
    """One page in a browser without a window.

    Args:
        profile: A folder for what the browser keeps.
        size: Width and height of the page.
        is_dark: Whether its user prefers dark pages.
    """

    def __init__(self, profile, size=(1000, 800), *, is_dark=False):
        self._number = 0
        self.events = []
        to_browser, self._out = os.pipe()
        self._in, from_browser = os.pipe()
        self._buffer = b""
        words = [
            *(PROGRAM, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"),
            *("--disable-dev-shm-usage", "--disable-extensions", "--disable-background-networking"),
            *("--remote-debugging-pipe", f"--user-data-dir={profile}", "about:blank"),
        ]
        # The browser reads at descriptor 3, and writes at 4.
        shell = f'exec 3<&{to_browser} 4>&{from_browser} "$@"'
        self._process = subprocess.Popen(
            ["bash", "-c", f"{shell}", "bash", *words],
            pass_fds=(to_browser, from_browser),
            stderr=subprocess.DEVNULL,
        )
        os.close(to_browser)
        os.close(from_browser)
        self._session = None
        targets = self.call("Target.getTargets")["targetInfos"]
        (target,) = [each["targetId"] for each in targets if each["type"] == "page"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network", "Accessibility"):
            self.call(f"{domain}.enable")
        width, height = size
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if is_dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def call(self, method, **params):
        """Call a method of the protocol, and return its result."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while (answer := self._next()).get("id") != self._number:
            self.events.append(answer)
        assert "error" not in answer, answer
        return answer["result"]

    def open(self, path):
        """Open a file, and wait until it is loaded."""
        self.call("Page.navigate", url=path.as_uri())
        while not any(each.get("method") == "Page.loadEventFired" for each in self.events):
            self.events.append(self._next())

    def ask(self, expression):
        """Return the value of an expression in the page."""
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def press(self, key, text=""):
        """Press a key."""
        for kind in ("keyDown", "keyUp"):
            named = {"text": text} if text and kind == "keyDown" else {}
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, **named)

    @property
    def complaints(self):
        """What the browser's console has: errors, warnings and messages."""
        kinds = ("Log.entryAdded", "Runtime.exceptionThrown", "Runtime.consoleAPICalled")
        return [each for each in self.events if each.get("method") in kinds]

    @property
    def requests(self):
        """The addresses that the page has asked for, without those of data."""
        asked = [each for each in self.events if each.get("method") == "Network.requestWillBeSent"]
        urls = [each["params"]["request"]["url"] for each in asked]
        return [url for url in urls if not url.startswith("data:")]

    def close(self):
        """End the browser."""
        with contextlib.suppress(OSError):
            os.write(self._out, b'{"id": 0, "method": "Browser.close"}\0')
        os.close(self._out)
        os.close(self._in)
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _next(self):
        while b"\0" not in self._buffer:
            chunk = os.read(self._in, 1 << 20)
            assert chunk, "the browser has ended"
            self._buffer += chunk
        message, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(message)
