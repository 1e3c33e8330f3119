"""Pages without a browser: what is escaped, what is drawn where, and that nothing points outside."""

import json
import math
import re
from html.parser import HTMLParser

import pytest
from hostile import HOSTILE, hostile_page
from hypothesis import given
from hypothesis import strategies as st

from samplewise.report.page import (
    MOST,
    Axis,
    Column,
    Interval,
    Line,
    Point,
    data,
    element,
    histogram,
    intervals,
    lines,
    number,
    page,
    scatter,
    section,
    table,
    write_page,
)
from samplewise.report.page.axis import round_numbers

finite = st.floats(-1e12, 1e12)


class Reader(HTMLParser):
    """What an HTML parser makes of a page: (tag, attributes), the text, and what stands in script elements."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.scripts: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append("")

    def handle_data(self, data):
        if self.tags and self.tags[-1][0] == "script" and self.cdata_elem == "script":
            self.scripts[-1] += data
        else:
            self.words.append(data)

    def found(self, tag: str, class_: str = "") -> list[dict[str, str | None]]:
        return [a for t, a in self.tags if t == tag and class_ in [*(a.get("class") or "").split(), ""]]


@given(st.text(), st.text())
def test_any_text_comes_back_as_it_was(text, attribute):
    reader = Reader(element("p", text, data_tip=attribute))
    assert [tag for tag, _ in reader.tags] == ["p"]
    plain = str.maketrans({"\r": "\n"})  # as the HTML standard says
    assert "".join(reader.words).translate(plain) == text.translate(plain)
    assert reader.tags[0][1] == {"data-tip": attribute}


@given(
    st.recursive(
        st.text() | st.integers() | st.none(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
def test_data_is_json_in_one_script_element(value):
    reader = Reader(data(value))
    assert reader.tags == [("script", {"type": "application/json"})]
    assert json.loads(reader.scripts[0]) == value
    assert data(value).isascii()


def test_numbers_that_json_has_not_are_refused():
    with pytest.raises(ValueError, match="JSON"):
        data([math.nan])


def test_hostile_text_is_inert_in_every_component():
    text = hostile_page()
    reader = Reader(text)
    assert {"img", "textarea"}.isdisjoint(tag for tag, _ in reader.tags)
    assert len(reader.found("style")) == 1
    kinds = [attributes.get("type") for attributes in reader.found("script")]
    assert kinds == ["application/json", None]
    names = {name for _, attributes in reader.tags for name in attributes}
    assert not [name for name in names if name.startswith("on")]
    assert "style" not in names, "the policy forbids it"
    assert "{{7*7}}" in "".join(reader.words)
    points = json.loads(reader.scripts[0])
    assert points["text"] == [f"{each} point" for each in HOSTILE]
    assert sorted(points["names"]) == sorted(HOSTILE)


def test_nothing_points_outside_the_page():
    reader = Reader(hostile_page())
    places = [
        v for _, attributes in reader.tags for k, v in attributes.items() if k in ("src", "href", "srcset", "action")
    ]
    assert places == ["data:,"]
    styles = re.findall(r"<style>(.*?)</style>", hostile_page(), re.DOTALL)
    assert "url(" not in styles[0]
    assert "@import" not in styles[0]
    policy = next(a["content"] for a in reader.found("meta") if a.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe" not in policy
    assert "http" not in policy


@given(st.lists(finite, min_size=1), st.floats(0, 1))
def test_an_axis_holds_its_values_in_order(values, pad):
    axis = Axis().fitted(values, pad=pad)
    places = [axis.place(value) for value in sorted(values)]
    assert places == sorted(places)
    assert all(0 <= place <= 1 for place in places)
    if max(values) - min(values) > 1e-6 * max(map(abs, values)) and pad == 0:
        assert places[0] == 0
        assert places[-1] == 1


@given(st.floats(1e-6, 1e6), st.floats(1.001, 1e6))
def test_labels_stand_where_their_numbers_are(low, factor):
    for axis in (Axis(low=low, high=low * factor), Axis(low=low, high=low * factor, log=True)):
        labels = axis.fitted([]).labels()
        assert len(labels) <= 12
        assert [place for place, _ in labels] == sorted(place for place, _ in labels)
    for value in round_numbers(low, low * factor):
        assert low * (1 - 1e-6) <= value <= low * factor * (1 + 1e-6)


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=40))
def test_bars_are_as_high_as_their_counts(counts):
    edges = [float(i) for i in range(len(counts) + 1)]
    bars = Reader(histogram(edges, {"all": counts}, Axis(), Axis(), label="")).found("rect", "bar")
    heights = [float(bar["height"] or 0) for bar in bars]
    assert len(bars) == len(counts)
    most = max(counts)
    for height, count in zip(heights, counts, strict=True):
        assert height == pytest.approx(max(heights) * count / most if most else 0, abs=0.011)
    assert sum(float((bar["width"] or "")[:-1]) for bar in bars) == pytest.approx(100, abs=0.05)


def test_series_are_told_apart_by_a_legend():
    reader = Reader(histogram([0, 1, 2], {"a": [1, 2], "b": [2, 1]}, Axis(), Axis(), label=""))
    assert [a["class"] for a in reader.found("li")] == ["c0", "c1"]
    assert len(reader.found("polyline", "line")) == 2
    assert not reader.found("rect", "bar")


def test_curves_and_intervals_are_where_their_values_are():
    drawn = Reader(
        lines([Line("a", [0, 1, 2], [0, 5, 10], [0, 4, 9], [0, 6, 11])], Axis(), Axis(low=0, high=20), label="")
    )
    assert [dot["cx"] for dot in drawn.found("circle", "dot")] == ["0.000%", "50.000%", "100.000%"]
    assert len(drawn.found("polygon", "spread")) == 1
    drawn = Reader(intervals([Interval("a", 1, 0, 2)], Axis(low=0, high=4), label="", zero=None))
    line = drawn.found("line", "interval")[0]
    assert (line["x1"], line["x2"]) == ("0.000%", "50.000%")


def test_too_many_points_are_refused():
    with pytest.raises(ValueError, match="at most 5000"):
        scatter([Point(0, 0)] * (MOST + 1), Axis(), Axis(), label="")


def test_tables_sort_by_number_and_shorten_texts():
    long = "word " * 100
    reader = Reader(table([Column("n"), Column("t", "text")], [[(0.5, "half"), long], [None, "short"]]))
    assert [cell.get("data-value") for cell in reader.found("td", "number")] == ["0.5", None]
    assert len(reader.found("details")) == 1
    assert long in reader.words


def test_a_page_is_written_whole_and_lists_its_sections(tmp_path):
    write_page(tmp_path / "p.html", "title", section("One", "text"), lead="lead")
    assert [path.name for path in tmp_path.iterdir()] == ["p.html"]
    text = (tmp_path / "p.html").read_text()
    assert text == page("title", section("One", "text"), lead="lead")
    assert [a["id"] for a in Reader(text).found("section")] == ["one"]


@pytest.mark.parametrize(
    ("value", "text"), [(1234567, "1,234,567"), (0.1, "0.1"), (float("nan"), "–"), (1e-9, "1e−09")]
)
def test_numbers_are_for_people(value, text):
    assert number(value) == text
