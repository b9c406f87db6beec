"""A real headless Chromium, where there is one."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --hide-scrollbars "
    "--disable-background-networking --disable-component-update --disable-sync "
    "--disable-dev-shm-usage --force-device-scale-factor=1"
)


def missing() -> str:
    """Why no browser can be started, "" when one can."""
    for name in ("chromium", "chromedriver"):
        if shutil.which(name) is None:
            return f"needs Debian's package {name.replace('driver', '-driver')}: no {name} on PATH"
    return ""


@contextmanager
def browser(folder: Path, width: int = 1280, height: int = 900) -> Iterator[Any]:
    """Chromium with an empty profile in `folder`, driven by Debian's chromedriver."""
    from selenium.webdriver import Chrome, ChromeOptions, ChromeService

    options = ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    for flag in (*_FLAGS.split(), f"--user-data-dir={folder}", f"--window-size={width},{height}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = Chrome(options=options, service=ChromeService(shutil.which("chromedriver")))
    try:
        yield driver
    finally:
        driver.quit()


def open_page(driver: Any, page: Path) -> None:
    """Open a page of `superscaler view` and wait until it is drawn."""
    from selenium.webdriver.support.ui import WebDriverWait

    driver.get(page.as_uri())
    ready = "return !!(window.superscaler && window.superscaler.drawnMs)"
    WebDriverWait(driver, 60).until(lambda d: d.execute_script(ready))


def errors(driver: Any) -> list[str]:
    """What the console complained of so far."""
    return [e["message"] for e in driver.get_log("browser") if e["level"] in ("SEVERE", "WARNING")]
