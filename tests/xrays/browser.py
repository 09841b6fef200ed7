"""Chromium, driven by its WebDriver (w3.org/TR/webdriver2): keys, scripts and pictures."""

import base64
import json
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from contextlib import contextmanager

__all__ = ["DOWN", "ENTER", "ESCAPE", "RIGHT", "SHIFT", "SPACE", "TAB", "Browser", "missing"]

TAB, SHIFT, ENTER, ESCAPE, SPACE = "\ue004", "\ue008", "\ue007", "\ue00c", " "
RIGHT, DOWN = "\ue014", "\ue015"
_PATIENCE = 60.0


def _chromium():
    return shutil.which("chromium") or shutil.which("chromium-browser")


def missing():
    """The programs that are not installed, in words; "" if all are."""
    found = {"chromium": _chromium(), "chromedriver": shutil.which("chromedriver")}
    return " and ".join(f"no {name} here" for name, path in found.items() if path is None)


class Browser:
    """A window.

    Args:
        port: of the driver.
        session: of the window.
    """

    def __init__(self, port, session):
        self._address, self._session = f"http://127.0.0.1:{port}", session

    @classmethod
    @contextmanager
    def opened(cls, profile, width, height, *, dark=False):
        """A window without a screen, of this size and colour scheme."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        driver = subprocess.Popen(  # noqa: S603 (the browser's own driver)
            [shutil.which("chromedriver"), f"--port={port}"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        words = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"]
        words += ["--disable-background-networking", "--disable-component-update"]
        words += ["--disable-dev-shm-usage", f"--user-data-dir={profile}"]
        words += [f"--window-size={width},{height}"]
        words += ["--blink-settings=preferredColorScheme=0"] if dark else []
        options = {"goog:chromeOptions": {"binary": _chromium(), "args": words}}
        window = cls(port, "")
        try:
            window._wait()
            made = window._ask("POST", "", {"capabilities": {"alwaysMatch": options}})
            window._session = f"/{made['sessionId']}"
            yield window
            window._ask("DELETE", "")
        finally:
            driver.terminate()
            driver.wait()

    def _wait(self):
        end = time.monotonic() + _PATIENCE
        while True:
            try:
                urllib.request.urlopen(f"{self._address}/status", timeout=5).close()  # noqa: S310
            except OSError:
                assert time.monotonic() < end
                time.sleep(0.05)
            else:
                return

    def _ask(self, method, path, data=None):
        request = urllib.request.Request(  # noqa: S310 (the driver on this machine)
            f"{self._address}/session{self._session}{path}",
            None if data is None else json.dumps(data).encode(),
            {"Content-Type": "application/json"},
            method=method,
        )
        try:
            with urllib.request.urlopen(request, timeout=_PATIENCE) as answer:  # noqa: S310
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            raise AssertionError(error.read().decode()) from error

    def show(self, path):
        """Open a file."""
        self._ask("POST", "/url", {"url": path.as_uri()})

    def press(self, key, *, shift=False):
        """Press and release a key."""
        held = [SHIFT] if shift else []
        actions = [{"type": "keyDown", "value": k} for k in [*held, key]]
        actions += [{"type": "keyUp", "value": k} for k in [key, *held]]
        keys = {"type": "key", "id": "keys", "actions": actions}
        self._ask("POST", "/actions", {"actions": [keys]})

    def run(self, script):
        """The value that a script returns."""
        return self._ask("POST", "/execute/sync", {"script": script, "args": []})

    def picture(self):
        """What the window shows, as a PNG."""
        return base64.b64decode(self._ask("GET", "/screenshot"))
