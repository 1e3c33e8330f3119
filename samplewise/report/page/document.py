"""The page around the components: one file, its style and script inside, and a policy that forbids any other."""

from __future__ import annotations

import base64
import hashlib
import re
from functools import cache
from importlib.resources import files
from pathlib import Path

from markupsafe import Markup

from samplewise.core.errors import missing_extra
from samplewise.core.replaced import write_whole
from samplewise.report.page.element import Child, element


def page(title: str, *parts: Child, lead: str = "") -> str:
    """The whole HTML of a page. parts: mostly sections, in order; lead: one paragraph under the title."""
    try:
        from jinja2 import Environment, StrictUndefined
    except ModuleNotFoundError:
        raise missing_extra("jinja2", "report", "pages") from None
    style, script = _asset("page.css"), _asset("page.js")
    policy = (
        f"default-src 'none'; script-src '{_digest(script)}'; style-src '{_digest(style)}'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    template = Environment(autoescape=True, undefined=StrictUndefined).from_string(_asset("page.html"))
    return template.render(
        title=title, lead=lead, parts=parts, policy=policy, style=Markup(style), script=Markup(script)
    )


def write_page(path: Path, title: str, *parts: Child, lead: str = "") -> None:
    """Write the page, whole or not at all."""
    write_whole(path, page(title, *parts, lead=lead).encode("utf-8", "replace"))


def section(title: str, *parts: Child) -> Markup:
    """A heading and what belongs to it; the page lists its sections at the top."""
    name = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-") or "section"
    return element("section", element("h2", title), *parts, id=name)


def paragraph(*parts: Child) -> Markup:
    """Prose. Parts that are text are escaped."""
    return element("p", *parts)


def warning(*parts: Child) -> Markup:
    """Prose that must not be overlooked."""
    return element("p", *parts, class_="warning", role="note")


def figure(drawing: Markup, caption: str) -> Markup:
    """A drawing (of `histogram`, `lines`, `intervals`, `bars`, `scatter` or `table`) and what it says, in words."""
    return element("figure", drawing, element("figcaption", caption))


def columns(*parts: Child) -> Markup:
    """Parts beside each other where there is room."""
    return element("div", *parts, class_="columns")


@cache
def _asset(name: str) -> str:
    return files("samplewise.report.page").joinpath(name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    """As the browser computes it: of the bytes between the tags."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
