"""The page about a scored corpus: its numbers are those of the scores, and in Chromium it can be looked into."""

import random

import numpy as np
import pytest
import world
from hostile import HOSTILE
from scored_texts import write_scored_texts

from samplewise.corpus import open_scores
from samplewise.corpus.survey import even_edges, survey
from samplewise.report.corpus import write_corpus_report
from samplewise.report.corpus.looked import look

WORDS = [
    "river",
    "harbour",
    "letter",
    "house",
    "snow",
    "bread",
    "winter",
    "captain",
    "garden",
    "train",
    "quiet",
    "long",
]


def made_rows(count: int = 900) -> list[tuple[str, float, int, str]]:
    """Prose with losses about 3, boilerplate below, garbling above, and hostile texts among them."""
    draw = random.Random(0)
    rows = []
    for i in range(count):
        text = " ".join(draw.choices(WORDS, k=40))
        loss = draw.gauss(3, 0.4)
        if i % 15 == 0:
            text, loss = "Home | About | Contact | Privacy\n" * 8, 0.5 + 0.1 * draw.random()
        elif i % 15 == 1:
            text, loss = draw.randbytes(90).hex(), 5 + draw.random()
        elif i % 15 == 2:
            text = HOSTILE[i // 15 % len(HOSTILE)] + text
        rows.append((f"part-{i % 3}.jsonl" if i % 9 else HOSTILE[0], loss, draw.randint(8, 500), text))
    return rows


@pytest.fixture(scope="module")
def rows():
    return made_rows()


@pytest.fixture(scope="module")
def scores(tmp_path_factory, rows):
    return open_scores(write_scored_texts(tmp_path_factory.mktemp("scores"), rows))


@pytest.fixture(scope="module")
def page(tmp_path_factory, scores):
    path = tmp_path_factory.mktemp("page") / "report.html"
    write_corpus_report(path, scores)
    return path


def test_counts_and_quantiles_are_exact(scores, rows):
    loss, tokens = np.float32([row[1] for row in rows]).astype(float), np.array([row[2] for row in rows])
    edges = even_edges(0.0, 7.0)
    with survey(scores) as asked:
        facts, quantiles = asked.facts(), asked.quantiles()
        assert facts["samples"] == len(rows)
        assert facts["tokens"] == tokens.sum()
        assert facts["token_mean"] == pytest.approx((loss * tokens).sum() / tokens.sum())
        size = sum(len(row[3].encode()) + 1 for row in rows)
        assert facts["bits_per_byte"] == pytest.approx((loss * tokens).sum() / np.log(2) / size)
        for share, value in quantiles.items():
            assert value == np.quantile(loss, share, method="inverted_cdf")
        assert asked.histogram(edges)["all"].tolist() == np.histogram(loss, edges)[0].tolist()
        by_place = asked.histogram(edges, "place")
        assert sum(own.sum() for own in by_place.values()) == len(rows)
        assert asked.length_correlation() == pytest.approx(np.corrcoef(loss, np.log(tokens))[0, 1])
        assert asked.kept(2.5, 3.5)[:2] == (
            ((loss >= 2.5) & (loss <= 3.5)).sum(),
            tokens[(loss >= 2.5) & (loss <= 3.5)].sum(),
        )
        assert [row.loss for row in asked.hardest(5)] == sorted(loss)[::-1][:5]
        assert [row.loss for row in asked.easiest(5)] == sorted(loss)[:5]
        assert len(asked.sample(10**6)) == len(rows)
        extra, repeated = asked.repeated(10)
        assert repeated[0][0] == extra + 1 == sum("Home" in row[3] for row in rows)


def test_junk_is_found_at_both_ends(scores, rows):
    with survey(scores) as asked:
        looked = look(asked, 3.0)
    low = [each for each in looked.sampled if "Home" in each.row.text]
    high = [each for each in looked.sampled if each.row.loss > 4.99]
    assert len(low) == len(high) == 60
    assert all(each.low_junk for each in low)
    assert all(each.high_junk for each in high)
    assert len(looked.groups[0]) == 60


def test_many_sources_are_told_apart_by_their_first_folder(tmp_path):
    rows = [(f"{'abc'[i % 3]}/file-{i}.txt", 1.0 + i / 100, 10, f"text {i}") for i in range(100)]
    with survey(open_scores(write_scored_texts(tmp_path, rows))) as asked:
        assert asked.places == ["a", "b", "c"]
        assert {name: own.sum() for name, own in asked.histogram(even_edges(1, 2), "place").items()} == {
            "a": 34, "b": 33, "c": 33
        }  # fmt: skip


@pytest.mark.parametrize("count", [1, 2, 30])
def test_few_samples_of_one_loss_and_length_have_a_page(tmp_path, count):
    rows = [("a.txt", 2.0, 16, "the same text, some twenty characters long")] * count
    write_corpus_report(tmp_path / "r.html", open_scores(write_scored_texts(tmp_path / "scores", rows)))
    assert "All samples are equally long." in (tmp_path / "r.html").read_text()


def test_without_texts_the_page_says_so(tmp_path, rows):
    folder = write_scored_texts(tmp_path / "scores", rows, text=False)
    done = world.samplewise("report", folder, "--out", tmp_path / "r.html", "--title", "{{7*7}}")
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "r.html").read_text()
    assert "The scores hold no text" in text
    assert "<h1>{{7*7}}</h1>" in text
    assert "boilerplate" in text
    for name in ("r.pdf", "no/such/r.html"):
        done = world.samplewise("report", folder, "--out", tmp_path / name)
        assert done.returncode == 1
        assert "--out" in done.stderr


@pytest.mark.parametrize("width", [400, 1100])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_is_drawn_and_inert(browser, page, rows, width, scheme):
    browser.open(page, width=width, scheme=scheme)
    assert browser.overflow() <= 0
    assert browser.driver.title == "A scored corpus"
    first, second = browser.all(".scatter")
    for plot in (first, second):
        assert browser.script("return arguments[0].querySelectorAll('.point').length", plot) == len(rows)
    assert browser.drawn(".histogram .bar") > 20
    assert browser.texts("section h2") == [
        "Overview", "Losses", "Bands", "Length", "Samples", "Junk", "Hardest, typical, easiest", "Duplicates"
    ]  # fmt: skip
    assert "2 of 902 records are not in here: 2 bad encoding." in browser.texts(".warning")[0]
    assert not browser.all("main script:not([type='application/json']), img")
    browser.check_console()


def test_hovering_shows_the_sample_and_filters_leave_what_matches(browser, page, rows):
    browser.open(page)
    tip = browser.hover(browser.one(".scatter .point"))
    assert any(f"{source}:{i}" in tip and " ".join(text.split())[:20] in " ".join(tip.split())
               for i, (source, _, _, text) in enumerate(rows))  # fmt: skip
    filtered = browser.one(".filtered:has(.scatter)")
    browser.choose(filtered.find_element("css selector", ".pick"), "part-1.jsonl")
    own = sum(source == "part-1.jsonl" for source, *_ in rows)
    assert browser.script("return arguments[0].querySelectorAll('.point:not(.off)').length", filtered) == own
    browser.type(filtered.find_element("css selector", ".search"), "home | about")
    both = sum(source == "part-1.jsonl" and "Home" in text for source, _, _, text in rows)
    assert filtered.find_element("css selector", "output").text == f"{both} shown"
    browser.check_console()


def test_the_verdict_on_the_band_is_that_of_its_texts(page):
    assert "There is a moderately high band that is cleaner than what lies above it" in page.read_text()
