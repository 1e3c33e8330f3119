"""A headless Chromium for the pages: the one on PATH; without it these tests are skipped, unless it is required."""

import os
import shutil
from collections.abc import Iterator

import pytest
from browser import Browser

MISSING = "no chromium and chromedriver on PATH (Debian: apt-get install chromium chromium-driver)"


@pytest.fixture(scope="session")
def browser(tmp_path_factory) -> Iterator[Browser]:
    if not (shutil.which("chromium") and shutil.which("chromedriver")):
        if os.environ.get("SAMPLEWISE_REQUIRE_CHROMIUM") == "1":
            pytest.fail(MISSING)
        pytest.skip(MISSING)
    with Browser.started(tmp_path_factory.mktemp("chromium")) as browser:
        yield browser
