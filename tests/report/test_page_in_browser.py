"""Pages in Chromium: hostile text does nothing, marks are drawn, hovering, filtering and sorting work."""

import json

import pytest
from hostile import HOSTILE, hostile_page

from samplewise.report.page import Axis, Column, Point, figure, histogram, page, scatter, section, table

WIDTHS = pytest.mark.parametrize("width", [400, 1100])
SCHEMES = pytest.mark.parametrize("scheme", ["light", "dark"])


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "hostile.html"
    path.write_bytes(hostile_page().encode("utf-8", "replace"))
    return path


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    points = [Point(i % 10, i // 10, "even" if i % 2 == 0 else "odd", f"sample {i}") for i in range(100)]
    rows = [[(i * 7) % 10 + 0.5, f"name {i}", f"text {i} " * 40] for i in range(10)]
    path = tmp_path_factory.mktemp("page") / "plain.html"
    text = page(
        "A page",
        section("One", figure(scatter(points, Axis("x"), Axis("y"), label="points", group="kind"), "caption")),
        section("Two", table([Column("n"), Column("name", "word"), Column("text", "text")], rows)),
        section("Three", histogram([0, 1, 2, 3], {"all": [5, 10, 0]}, Axis(), Axis(), label="bars")),
    )
    path.write_text(text)
    return path


@WIDTHS
@SCHEMES
def test_hostile_text_does_nothing_and_is_shown_as_it_is(browser, hostile, width, scheme):
    browser.open(hostile, width=width, scheme=scheme)
    assert browser.driver.title == HOSTILE[0]
    assert browser.overflow() <= 0
    assert not browser.all("img, main script:not([type='application/json'])")
    for i in (0, 1, 5):
        tip = browser.hover(browser.all(".point")[i])
        assert f"{HOSTILE[i]} point" in tip
    browser.type(browser.one(".search"), "{{7*7}}")
    assert browser.drawn(".point") == 1
    assert browser.driver.title == HOSTILE[0]
    browser.check_console()


def test_hostile_text_does_nothing_when_it_is_pointed_at_clicked_and_copied(browser, hostile):
    browser.open(hostile)
    elements = "return document.querySelectorAll('body *').length"
    for mark in browser.all("[data-tip]")[::25]:
        browser.hover(mark)
        browser.click()
    for each in [*browser.all("th button"), *browser.all("summary")[:4], *browser.all("nav a")]:
        browser.click(each)
    there = browser.script(elements)
    rows = browser.texts("tbody tr")
    assert all(any(text.strip()[:20] in row for row in rows) for text in HOSTILE[:8])
    browser.check_console()
    pasted = copied_and_pasted(browser, "main")
    assert HOSTILE[0] in pasted
    assert "{{7*7}} {% raw %} ${7*7} <%= 7*7 %>" in pasted
    assert browser.script(elements) == there
    assert browser.driver.title == HOSTILE[0]
    complaints = [entry["message"] for entry in browser.driver.get_log("browser")]
    assert not [each for each in complaints if "Applying inline style" not in each], "those that Chromium copies along"


def copied_and_pasted(browser, selector: str) -> str:
    """What arrives in a rich-text field; the field is gone again, and what came with the text did nothing meanwhile."""
    code = """
        const field = document.createElement("div");
        field.contentEditable = "true";
        document.body.append(field);
        getSelection().selectAllChildren(document.querySelector(arguments[0]));
        const copied = document.execCommand("copy");
        field.focus();
        const pasted = document.execCommand("paste");
        return [copied, pasted, field];
    """
    copied, pasted, field = browser.script(code, selector)
    assert copied
    if not pasted:
        field.send_keys("\ue009v")  # Control and v
    found = browser.script("return arguments[0].textContent", field)
    assert not browser.script("return arguments[0].querySelectorAll('script, [onerror], [onload]').length", field)
    browser.script("arguments[0].remove()", field)
    return found


@WIDTHS
def test_points_are_drawn_filtered_and_tell_what_they_are(browser, plain, width):
    browser.open(plain, width=width)
    assert browser.drawn(".point") == 100
    box = browser.one(".scatter .area").rect
    dot = browser.all(".point")[57].rect  # (7, 5) on axes from 0 to 9, with 3% to spare at each end
    assert dot["x"] + dot["width"] / 2 == pytest.approx(box["x"] + box["width"] * (7 + 0.27) / 9.54, abs=2)
    assert "sample 57" in browser.hover(browser.all(".point")[57])
    assert "odd" in browser.one("#tip").text
    browser.choose(browser.one(".pick"), "even")
    assert browser.drawn(".point") == 50
    assert browser.one(".tools output").text == "50 shown"
    browser.type(browser.one(".search"), "SAMPLE 4")
    assert browser.drawn(".point") == 6  # 4, 40, 42, …, 48
    assert "sample 41" not in browser.hover(browser.all(".point")[40])
    browser.check_console()


def test_the_keyboard_walks_through_the_points(browser, plain):
    browser.open(plain)
    area = browser.one(".scatter .area")
    area.send_keys("\ue014\ue014")  # right, right
    assert browser.drawn(".point.on") == 1
    assert "sample 10" in browser.one("#tip").text
    browser.check_console()


def test_tables_sort_filter_and_open(browser, plain):
    browser.open(plain)
    number, name, _ = browser.all("th button")
    number.click()
    assert browser.texts("tbody td.number") == [f"{i + 0.5}" for i in range(9, -1, -1)]
    number.click()
    assert browser.texts("tbody td.number") == [f"{i + 0.5}" for i in range(10)]
    name.click()
    assert browser.texts("tbody td.word") == [f"name {i}" for i in range(10)]
    browser.type(browser.one(".sheet .search"), "name 3")
    assert browser.drawn("tbody tr") == 1
    browser.one("tbody tr:not([hidden]) summary").click()
    assert browser.one("tbody tr:not([hidden]) details > .quote").text.startswith("text 3 text 3")
    browser.check_console()


def test_bars_are_drawn_to_scale_and_tell_their_counts(browser, plain):
    browser.open(plain)
    heights = [bar.rect["height"] for bar in browser.all(".bar")]
    assert heights[1] == pytest.approx(2 * heights[0], abs=1.5)
    assert heights[2] == 0
    assert browser.hover(browser.all(".bar")[1]) == "1 to 2: 10"


def test_light_and_dark_are_readable(browser, plain):
    """Text of at least 4.5 to 1 on its ground, marks of at least 3 to 1 (WCAG 2.2, 1.4.3 and 1.4.11)."""
    for scheme in ("light", "dark"):
        browser.open(plain, scheme=scheme)
        paper = luminance(browser, "body", "backgroundColor")
        assert (paper > 0.5) == (scheme == "light")
        for selector, what in (("body", "color"), ("figcaption", "color"), (".xt", "fill"), ("nav a", "color")):
            assert contrast(paper, luminance(browser, selector, what)) >= 4.5, selector
        for selector in (".point.c0", ".point.c1", ".bar"):
            assert contrast(paper, luminance(browser, selector, "fill")) >= 3, selector


def luminance(browser, selector: str, what: str) -> float:
    code = "return getComputedStyle(document.querySelector(arguments[0]))[arguments[1]].match(/[\\d.]+/g)"
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4
              for c in (float(part) / 255 for part in browser.script(code, selector, what)[:3])]  # fmt: skip
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(a: float, b: float) -> float:
    return (max(a, b) + 0.05) / (min(a, b) + 0.05)


def test_letters_keep_their_size_and_the_list_of_sections_leads_to_them(browser, plain):
    for width in (400, 1100):
        browser.open(plain, width=width)
        size = browser.script("return parseFloat(getComputedStyle(document.querySelector('.xt')).fontSize)")
        assert size >= 12
        assert browser.script("return document.querySelector('.xt').getBoundingClientRect().height") >= 11
        targets = browser.script("return [...document.querySelectorAll('nav a')].map(a => a.getAttribute('href'))")
        assert browser.texts("nav a") == ["One", "Two", "Three"]
        assert all(browser.all(f"section[id={json.dumps(target[1:])}]") for target in targets)


def test_the_policy_forbids_what_was_not_on_the_page(browser, plain):
    browser.open(plain)
    code = """
        const script = document.createElement("script");
        script.textContent = "document.title = 'owned'";
        document.body.append(script);
        const done = arguments[arguments.length - 1];
        fetch("http://127.0.0.1:9/").then(() => done("fetched"), () => done("refused"));
    """
    assert browser.driver.execute_async_script(code) == "refused"
    assert browser.driver.title == "A page"
    complaints = [entry["message"] for entry in browser.driver.get_log("browser")]
    assert len(complaints) >= 2
    assert all("Content Security Policy" in each for each in complaints)


BOXES = """
    const found = [...document.querySelectorAll(".area .xt, .side .yt, .area .rt")];
    return found.map(e => { const b = e.getBoundingClientRect(); return [b.left, b.top, b.right, b.bottom]; });
"""
RANGES = ((10.81, 10.84), (0.0, 1e-5), (1e6, 9e6), (-3.0, 3.0), (12345.1, 12345.2))


@pytest.fixture(scope="module")
def narrow(tmp_path_factory):
    """Plots of narrow, wide and large ranges, a long table."""
    parts = []
    for low, high in RANGES:
        edges = [low + (high - low) * k / 10 for k in range(11)]
        marks = [((low + high) / 2, "median"), (low + 0.9 * (high - low), "hardest tenth from here")]
        parts.append(
            histogram(edges, {"all": list(range(10))}, Axis("x"), Axis("y", low, high), label="l", marks=marks)
        )
    ticks = tuple((float(2**k), f"{2**k:,}") for k in range(12))
    parts.append(histogram([1, 9, 2048], {"all": [1, 2]}, Axis("t", log=True, ticks=ticks), Axis(), label="l"))
    rows = [[i, f"text {i} " * 40] for i in range(60)]
    parts.append(table([Column("n"), Column("text", "text")], rows))
    path = tmp_path_factory.mktemp("page") / "narrow.html"
    path.write_text(page("A page", *[section(f"Part {i}", part) for i, part in enumerate(parts)]))
    return path


def overlapping(boxes):
    def meet(a, b):
        return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]

    return [(a, b) for i, a in enumerate(boxes) for b in boxes[:i] if meet(a, b)]


@WIDTHS
def test_no_two_labels_collide_and_none_leaves_the_page(browser, narrow, width):
    browser.open(narrow, width=width)
    boxes = browser.script(BOXES)
    assert len(boxes) > 50
    assert overlapping(boxes) == []
    assert min(left for left, *_ in boxes) >= 0
    assert max(right for _, _, right, _ in boxes) <= width
    for plot in browser.all(".plot"):
        shown = browser.script("return [...arguments[0].querySelectorAll('.xt')].map(e => e.textContent)", plot)
        assert len(shown) == len(set(shown)) > 1, "ticks that all read the same"


def test_dark_mode_moves_nothing_and_print_is_light_and_whole(browser, narrow):
    browser.open(narrow, width=800)
    light = browser.script(BOXES)
    browser.open(narrow, width=800, scheme="dark")
    assert browser.script(BOXES) == light
    colour = "return getComputedStyle(document.body).backgroundColor"
    dark = browser.script(colour)
    features = [{"name": "prefers-color-scheme", "value": "dark"}]
    browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print", "features": features})
    assert browser.script(colour) == "rgb(255, 255, 255)" != dark
    code = "const e = document.querySelector('.tall'); return [e.clientHeight, e.scrollHeight]"
    shown, whole = browser.script(code)
    assert shown >= whole, "rows of a long table are cut off in print"
    assert not browser.drawn(".tools")
    browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "", "features": []})
