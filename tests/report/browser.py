"""Chromium, driven: a page opened at a width and in a colour scheme, and what there is to see on it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import Select

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-dev-shm-usage",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--force-device-scale-factor=1",
    "--hide-scrollbars",
)  # fmt: skip


class Browser:
    """driver: selenium's, for what the methods do not cover."""

    def __init__(self, driver: webdriver.Chrome) -> None:
        self.driver = driver

    @staticmethod
    @contextmanager
    def started(profile: Path) -> Iterator[Browser]:
        options = webdriver.ChromeOptions()
        options.binary_location = shutil.which("chromium") or ""
        for flag in (*FLAGS, f"--user-data-dir={profile}"):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
        try:
            yield Browser(driver)
        finally:
            driver.quit()

    def open(self, path: Path, *, width: int = 1100, height: int = 900, scheme: str = "light") -> None:
        """Open a file in a window of that size and colour scheme. Errors: AssertionError if the page complains."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        self.driver.get(path.resolve().as_uri())
        self.check_console()

    def check_console(self) -> None:
        """Errors: AssertionError for anything on the console since the last check, refused requests included."""
        messages = [entry["message"] for entry in self.driver.get_log("browser")]
        assert not messages, messages

    def all(self, selector: str) -> list[WebElement]:
        """The elements there, drawn or not."""
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def one(self, selector: str) -> WebElement:
        """The first of them."""
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def script(self, code: str, *arguments: object):
        """What the JavaScript returns."""
        return self.driver.execute_script(code, *arguments)

    def texts(self, selector: str) -> list[str]:
        """The text of every element, hidden ones included."""
        return self.script("return [...document.querySelectorAll(arguments[0])].map(e => e.textContent)", selector)

    def drawn(self, selector: str) -> int:
        """How many elements have a box on the page."""
        code = "return [...document.querySelectorAll(arguments[0])].filter(e => e.getClientRects().length).length"
        return self.script(code, selector)

    def overflow(self) -> int:
        """By how many px the page is wider than its window."""
        return self.script("return document.documentElement.scrollWidth - innerWidth")

    def hover(self, element: WebElement) -> str:
        """Move the pointer to its middle; what the tooltip then says, or nothing."""
        code = """
            arguments[0].scrollIntoView({block: "center", behavior: "instant"});
            requestAnimationFrame(() => requestAnimationFrame(arguments[1]));
        """  # the scroll event comes with the next frame
        self.driver.execute_async_script(code, element)
        ActionChains(self.driver).move_to_element(element).perform()
        tip = self.one("#tip")
        return tip.text if tip.is_displayed() else ""

    def click(self, element: WebElement | None = None) -> None:
        """Press and release the button over the middle of an element, or where the pointer is."""
        if element is not None:
            self.script("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", element)
            ActionChains(self.driver).move_to_element(element).perform()
        ActionChains(self.driver).click().perform()

    def type(self, field: WebElement, text: str) -> None:
        """What the field holds from now on."""
        field.clear()
        field.send_keys(text)

    def choose(self, field: WebElement, text: str) -> None:
        """An option of a `select` by what it shows."""
        Select(field).select_by_visible_text(text)

    def picture(self, path: Path) -> Path:
        """The whole page as a PNG."""
        import base64

        found = self.driver.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": True})
        path.write_bytes(base64.b64decode(found["data"]))
        return path
