"""A headless Chromium for tests of the leaderboard page."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from vfm_isbench.leaderboard.page import write_page

LOCAL = ("file:", "data:", "blob:", "about:")
"""Addresses that need no network."""
REQUIRED = "VFM_ISBENCH_REQUIRE_BROWSER"
"""Environment variable: if set, a missing browser fails the tests that need it; otherwise they are skipped."""
ARGUMENTS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
)


class Browser:
    """One browser process; it writes every page to disk and loads it from there."""

    def __init__(self, folder: Path) -> None:
        chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
        driver = shutil.which("chromedriver")
        if chromium is None or driver is None:
            _give_up("Chromium and its driver (Debian: chromium, chromium-driver) are not installed")
        try:
            from selenium import webdriver
        except ImportError:
            _give_up("selenium is not installed: pip install 'vfm_isbench[test]'")
        self.folder = folder
        self.downloads = folder / "downloads"
        self.downloads.mkdir()
        options = webdriver.ChromeOptions()
        options.binary_location = chromium
        for argument in (*ARGUMENTS, f"--user-data-dir={folder / 'profile'}"):
            options.add_argument(argument)
        options.add_experimental_option("prefs", {"download.default_directory": str(self.downloads)})
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        self.driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
        self.driver.set_script_timeout(30)

    def open(
        self, data: Mapping[str, Any], address: str = "", *, width: int = 1280, height: int = 900, dark: bool = False
    ) -> None:
        """Write the page and load it in a window of this size in pixels; ``address`` is its hash."""
        self.resize(width, height)
        self.system_theme(dark)
        path = write_page(data, self.folder / "site")
        self.driver.get("about:blank")
        self.console()
        self.requests()
        self.driver.get(path.as_uri() + address)

    def resize(self, width: int, height: int) -> None:
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)

    def system_theme(self, dark: bool) -> None:
        self.media(**{"prefers-color-scheme": "dark" if dark else "light"})

    def media(self, kind: str = "", **features: str) -> None:
        """Set media features; always with reduced motion, so that tests never see half-faded elements."""
        wanted = {"prefers-reduced-motion": "reduce"} | features
        listed = [{"name": name, "value": value} for name, value in wanted.items()]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": kind, "features": listed})

    def console(self) -> list[str]:
        """Console messages of every level since the last call."""
        return [str(line["message"]) for line in self.driver.get_log("browser")]

    def requests(self) -> list[str]:
        """Addresses requested since the last call, including blocked ones."""
        return list(self._requests().values())

    def blocked(self) -> list[str]:
        """Addresses that the page's policy refused since the last call; fails if any other was requested."""
        messages = self._messages()
        asked = self._requests(messages)
        refused = {
            message["params"]["requestId"]
            for message in messages
            if message["method"] == "Network.loadingFailed" and message["params"].get("blockedReason") == "csp"
        }
        foreign = {number: url for number, url in asked.items() if not url.startswith(LOCAL)}
        assert set(foreign) <= refused, f"not refused: {foreign}"
        return list(foreign.values())

    def _messages(self) -> list[dict[str, Any]]:
        return [json.loads(line["message"])["message"] for line in self.driver.get_log("performance")]

    def _requests(self, messages: list[dict[str, Any]] | None = None) -> dict[str, str]:
        return {
            message["params"]["requestId"]: unquote(message["params"]["request"]["url"])
            for message in (self._messages() if messages is None else messages)
            if message["method"] == "Network.requestWillBeSent"
        }

    def all(self, selector: str) -> list[Any]:
        return list(self.driver.find_elements("css selector", selector))

    def one(self, selector: str) -> Any:
        (found,) = self.all(selector)
        return found

    def texts(self, selector: str) -> list[str]:
        return [found.text for found in self.all(selector)]

    def run(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(script, *arguments)

    def choose(self, identity: str, value: str) -> None:
        """Choose an option of a select by its value, in the filters opened for it."""
        self.open_filters()
        self.one(f"#{identity} option[value={json.dumps(value)}]").click()

    def open_filters(self) -> None:
        self.run("document.getElementById('choices').open = true")

    def press(self, *keys: str) -> None:
        """Press keys in the focused element."""
        from selenium.webdriver import ActionChains

        ActionChains(self.driver).send_keys(*keys).perform()

    def downloaded(self, name: str) -> str:
        """Wait for a download, remove it from the folder, and return its text with unchanged line ends."""
        path = self.downloads / name
        until = time.monotonic() + 20
        while not path.is_file() and time.monotonic() < until:
            time.sleep(0.05)
        text = path.read_bytes().decode("utf-8")
        path.unlink()
        return text


def _give_up(reason: str) -> None:
    if os.environ.get(REQUIRED):
        pytest.fail(f"{reason}, but {REQUIRED} is set")
    pytest.skip(reason)
