"""The documentation site: it builds offline without a warning, and every public name has its docstring there."""

import importlib
import re
import subprocess
import sys
from pathlib import Path

import api_page
import pytest

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    out = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-q", "--site-dir", str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env={**api_environment()}, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return out


def api_environment() -> dict[str, str]:
    import os

    return {**os.environ, "NO_MKDOCS_2_WARNING": "1"}


def test_every_public_name_has_its_docstring(site):
    seen: set[int] = set()
    for module in api_page.PUBLIC:
        found = importlib.import_module(module)
        new = [name for name in api_page.names_of(module) if id(getattr(found, name)) not in seen]
        seen |= {id(getattr(found, name)) for name in new}
        if new:
            page = (site / "api" / f"{module}.html").read_text(encoding="utf-8")
            missing = [name for name in new if f'id="{module}.{name}"' not in page]
            assert not missing, f"{module}: {missing}"


def test_doctests_are_code_and_arguments_are_lists(site):
    page = (site / "api" / "samplewise.html").read_text(encoding="utf-8")
    part = page[page.index('id="samplewise.weights"') :][:12000]
    assert "<strong>losses</strong>: [N] nats/token" in part
    assert "gp" in part  # the prompt of a highlighted doctest
    assert "&gt;&gt;&gt; sw" not in re.sub(r"<code>.*?</code>", "", part, flags=re.DOTALL)


def test_pages_load_nothing_from_elsewhere(site):
    for page in [site / "index.html", site / "api" / "samplewise.html"]:
        text = page.read_text(encoding="utf-8")
        loaded = re.findall(r'<(?:script|img|iframe)[^>]*src="([^"]+)"', text)
        loaded += re.findall(r'<link[^>]*rel="(?:stylesheet|preconnect)"[^>]*href="([^"]+)"', text)
        assert not [each for each in loaded if "://" in each]


def test_the_first_page_is_the_readme_and_its_links_are_pages(site):
    text = (site / "index.html").read_text(encoding="utf-8")
    links = [link for link in re.findall(r'<a href="([^"#:]+)', text) if link.endswith(".html")]
    assert "five-minutes.html" in links
    assert "results/index.html" in links
    assert all((site / link).is_file() for link in links)
