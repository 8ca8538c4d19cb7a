"""A real browser, driven from a test: Chromium through its own driver, with a profile that is thrown away.

    with browser() as chromium:
        chromium.get("http://127.0.0.1:8000/")

Nothing is downloaded: both programs are the operating system's, and the driver is named outright.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

HOW_TO_INSTALL = "no Chromium here: install the packages chromium and chromium-driver"
SWITCHES = (
    "--headless",
    "--no-sandbox",  # it refuses to be run by root with one; it opens pages of our own alone
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)
PAGE_SECONDS = 30


def programs() -> tuple[str, str] | None:
    """Where the browser and its driver are installed; None where one of them is not."""
    found = shutil.which("chromium"), shutil.which("chromedriver")
    return (found[0], found[1]) if found[0] and found[1] else None


@contextlib.contextmanager
def browser() -> Iterator[Chrome]:
    """Start a browser with an empty profile; stop it at the end."""
    from selenium.webdriver import Chrome, ChromeOptions
    from selenium.webdriver.chrome.service import Service

    found = programs()
    assert found is not None, HOW_TO_INSTALL
    profile = tempfile.mkdtemp(prefix="openbook-browser-")
    options: Any = ChromeOptions()
    options.binary_location = found[0]
    for switch in (*SWITCHES, f"--user-data-dir={profile}"):
        options.add_argument(switch)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    try:
        running = Chrome(options=options, service=Service(executable_path=found[1]))
        try:
            running.set_page_load_timeout(PAGE_SECONDS)
            yield running
        finally:
            running.quit()
    finally:
        shutil.rmtree(profile, ignore_errors=True)
