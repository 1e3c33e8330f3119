"""Markup that cannot be broken out of: every text and every attribute is escaped on the way in."""

from __future__ import annotations

import json
from collections.abc import Iterable

from markupsafe import Markup, escape

Child = str | Markup
VOID = {"br", "input", "meta", "link"}


def element(name: str, *children: Child, **attributes: object) -> Markup:
    """One element. Plain text among the children is escaped; what `element` made is not escaped again.

    attributes: `class_` is written class, `data_tip` data-tip; None and False leave one out, True gives its name only.

    >>> element("p", "1 < 2 ", element("b", "&"), class_="note")
    Markup('<p class="note">1 &lt; 2 <b>&amp;</b></p>')
    """
    pairs = (_attribute(key.rstrip("_").replace("_", "-"), value) for key, value in attributes.items())
    start = f"<{name}{''.join(pairs)}>"
    return Markup(start if name in VOID else f"{start}{together(children)}</{name}>")


def together(children: Iterable[Child]) -> Markup:
    """The children one after the other."""
    return Markup("".join(escape(child) for child in children))


def _attribute(name: str, value: object) -> str:
    if value is None or value is False:
        return ""
    return f" {name}" if value is True else f' {name}="{escape(str(value))}"'


def data(value: object) -> Markup:
    """A value for the page's script, as JSON that the browser never runs and that no text in it can end.

    >>> print(data({"text": "</script>&"}))
    <script type="application/json">{"text":"\\u003c/script\\u003e\\u0026"}</script>
    """
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)  # ASCII: U+2028 comes out escaped as well
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(f'<script type="application/json">{text}</script>')
