"""Headless Chromium, told what to do through a pipe (the DevTools protocol)."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import pytest
from skipped_everywhere import NO_CHROMIUM

FLAGS = [
    *("headless", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-sync"),
    *("hide-scrollbars", "disable-background-networking", "disable-component-update"),
    "remote-debugging-pipe",
]
LISTEN = """var refused = [];
addEventListener("securitypolicyviolation", e => refused.push(e.blockedURI));"""
# Chromium reads from its third file and writes into its fourth.
AS_THREE_AND_FOUR = """import fcntl, os, sys
ends = [fcntl.fcntl(int(end), fcntl.F_DUPFD, 10) for end in sys.argv[1:3]]
for end, to in zip(ends, (3, 4)):
    os.dup2(end, to)
os.execv(sys.argv[3], sys.argv[3:])"""


class Tab:
    """A page in Chromium, as it was made: what is asked of it passes by its policy."""

    def __init__(self, asked: int, answered: int) -> None:
        self._asked, self._answered = asked, answered
        self._rest, self._count, self._session = b"", 0, ""
        self._events: list[str] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Accessibility"):
            self.call(f"{domain}.enable")
        self.call("Page.addScriptToEvaluateOnNewDocument", source=LISTEN)

    def _message(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            more = os.read(self._answered, 1 << 20)
            if not more:
                raise EOFError("Chromium ended")
            self._rest += more
        first, self._rest = self._rest.split(b"\0", 1)
        return json.loads(first)

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Call a method of the protocol, and give its result."""
        self._count += 1
        said = {"id": self._count, "method": method, "params": params}
        if self._session:
            said["sessionId"] = self._session
        message = json.dumps(said).encode() + b"\0"
        while message:
            message = message[os.write(self._asked, message) :]
        while (answer := self._message()).get("id") != self._count:
            self._events.append(answer["method"])
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']}")
        return answer["result"]

    def open(self, path: Path, *, width: int = 1280, height: int = 800, dark: bool = False) -> Self:
        """Load a page at a width, in CSS pixels, light or dark."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=1, mobile=False,
        )  # fmt: skip
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", media="", features=[scheme])
        self._events.clear()
        self.call("Page.navigate", url=path.as_uri())
        while "Page.loadEventFired" not in self._events:
            self._events.append(self._message()["method"])
        return self

    def asked(self) -> list[str]:
        """Addresses that the page asked for, or that its policy refused; "inline" is a script."""
        return self.js("""[...refused, ...performance.getEntriesByType("resource").map(r => r.name)]
            .filter(address => !address.startsWith("data:"))""")

    def js(self, code: str) -> Any:
        """Evaluate an expression in the page; a promise is waited for."""
        done = self.call("Runtime.evaluate", expression=code, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in done:
            raise RuntimeError(str(done["exceptionDetails"])[:2000])
        return done["result"].get("value")

    def press(self, key: str) -> None:
        """Press a key as a person does: Tab, Enter or Space."""
        code, text = {"Tab": (9, ""), "Enter": (13, "\r"), "Space": (32, " ")}[key]
        named = {"key": text if key == "Space" else key, "code": key, "windowsVirtualKeyCode": code}
        self.call("Input.dispatchKeyEvent", type="keyDown", text=text, **named)
        self.call("Input.dispatchKeyEvent", type="keyUp", **named)

    def tree(self) -> list[dict[str, Any]]:
        """The accessibility tree, as a screen reader has it: role, name and states per node."""
        nodes = self.call("Accessibility.getFullAXTree")["nodes"]
        return [
            {
                "role": node.get("role", {}).get("value"),
                "name": node.get("name", {}).get("value", ""),
                **{p["name"]: p["value"].get("value") for p in node.get("properties", [])},
            }
            for node in nodes
            if not node["ignored"]
        ]


@contextmanager
def browser(folder: Path) -> Iterator[Tab]:
    """A tab of a Chromium of its own, whose profile is in the folder; skips where none is."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip(f"{NO_CHROMIUM} (Debian: apt-get install chromium)")
    read_there, asked = os.pipe()
    answered, write_there = os.pipe()
    line = [sys.executable, "-c", AS_THREE_AND_FOUR, str(read_there), str(write_there), chromium]
    line += [*(f"--{flag}" for flag in FLAGS), f"--user-data-dir={folder / 'profile'}"]
    there = (read_there, write_there)
    with subprocess.Popen(line, pass_fds=there, stderr=subprocess.DEVNULL) as process:
        for end in there:
            os.close(end)
        try:
            yield Tab(asked, answered)
        finally:
            process.kill()
            os.close(asked)
            os.close(answered)
