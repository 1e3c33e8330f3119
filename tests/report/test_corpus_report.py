"""The page about a scored corpus: its numbers are those of the scores, and in Chromium it can be looked into."""

import html
import random
import re
import shlex

import numpy as np
import pytest
import world
from hostile import HOSTILE
from scored_texts import write_scored_texts

from samplewise.corpus import open_scores
from samplewise.corpus.survey import even_edges, survey
from samplewise.report.corpus import write_corpus_report
from samplewise.report.corpus.looked import look

SENTENCES = [
    "The house stood at the end of a long road, and nobody had lived there since the great storm.",
    "When the children asked about it, their mother said that it belonged to a man who had gone to sea.",
    "They never saw a light in the windows, but every spring the garden was full of flowers.",
    "In the evening they would walk along the fence and listen to the wind in the old trees.",
    "It was many years before they learned what had happened to the captain and his ship.",
    "He had sold the boat in a small town on the coast and then walked home over the hills.",
    "She found a letter in the kitchen, and it said that the money would arrive before the winter.",
    "We met him at the station in the morning, because the train from the city was late again.",
]


def made_rows(count: int = 900) -> list[tuple[str, float, int, str]]:
    """Prose with losses about 3, boilerplate below, garbling above, and hostile texts among them."""
    draw = random.Random(0)
    rows = []
    for i in range(count):
        text = " ".join([*draw.sample(SENTENCES, k=4), f"That was on day {i} of the journey."])
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


def test_junk_is_found_wherever_on_the_scale_of_losses_it_lies(scores):
    with survey(scores) as asked:
        looked = look(asked, 3.0)
    low = [each for each in looked.sampled if "Home" in each.row.text]
    high = [each for each in looked.sampled if each.row.loss > 4.99]
    rest = [each for each in looked.sampled if 1 < each.row.loss < 4.99]
    assert len(low) == len(high) == 60
    assert all(each.is_junk and "repetitive" in each.looks for each in low)
    assert all(each.is_junk and "encoded" in each.looks for each in high)
    assert sum(each.is_junk for each in rest) <= len(rest) / 50
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
    second, first = browser.all(".scatter")
    for plot in (first, second):
        assert browser.script("return arguments[0].querySelectorAll('.point').length", plot) == len(rows)
    assert browser.drawn(".histogram .bar") > 20
    assert browser.texts("section h2") == [
        "Overview", "Junk", "Losses", "Bands", "What selections keep", "Length", "Samples",
        "Hardest, typical, easiest", "Duplicates", "Shared lines",
    ]  # fmt: skip
    assert "2 of 902 records are not in here: 2 bad encoding." in " ".join(browser.texts(".warning"))
    assert not browser.all("main script:not([type='application/json']), img")
    browser.check_console()


def test_hovering_shows_the_sample_and_filters_leave_what_matches(browser, page, rows):
    browser.open(page)
    tip = browser.hover(browser.one(".scatter .point"))
    assert any(f"{source}:{i}" in tip and " ".join(text.split())[:20] in " ".join(tip.split())
               for i, (source, _, _, text) in enumerate(rows))  # fmt: skip
    filtered = browser.all(".filtered:has(.scatter)")[-1]
    browser.choose(filtered.find_element("css selector", ".pick"), "part-1.jsonl")
    own = sum(source == "part-1.jsonl" for source, *_ in rows)
    assert browser.script("return arguments[0].querySelectorAll('.point:not(.off)').length", filtered) == own
    browser.type(filtered.find_element("css selector", ".search"), "home | about")
    both = sum(source == "part-1.jsonl" and "Home" in text for source, _, _, text in rows)
    assert filtered.find_element("css selector", "output").text == f"{both} shown"
    browser.check_console()


def test_the_page_prints_the_command_that_leaves_the_junk_out(page, scores, tmp_path):
    """The very words: run, they leave out what the page counted, at both ends of the losses."""
    text = html.unescape(re.search(r"<code>(.*?)</code>", page.read_text())[1])
    words = shlex.split(text)
    assert words[:3] == ["samplewise", "select", str(scores.place)]
    done = world.samplewise(*words[1:-1], tmp_path / "ids.txt", "--ids")
    assert done.returncode == 0, done.stderr
    left = set((tmp_path / "ids.txt").read_text().split())
    with survey(scores) as asked:
        looked = look(asked, 3.0)
    assert left == {str(each.row.id) for each in looked.sampled if not each.is_junk}
    assert f"{len(looked.sampled) - len(left)} windows of a junk score" in done.stdout


def test_the_page_says_what_is_not_seen_and_advises_on_no_cut(page):
    text = page.read_text()
    assert "What these measures do not see" in text
    assert "no reason for or against a cut by loss" in text
    assert "would leave that out" not in text


def test_documents_are_counted_where_the_count_is_known(page, rows):
    text = page.read_text()
    assert f"<dt>documents</dt><dd>{len(rows)}</dd>" in text
    assert "documents, about" not in text


def test_a_small_corpus_is_told_what_cannot_be_said_of_it(tmp_path):
    rows = [("a.txt", 2.0 + i / 50, 16 + i, f"{SENTENCES[i % 8]} {SENTENCES[i % 7]}") for i in range(40)]
    write_corpus_report(tmp_path / "r.html", open_scores(write_scored_texts(tmp_path / "scores", rows)))
    text = (tmp_path / "r.html").read_text()
    assert "40 samples are few: a tenth of them is 4" in text
    assert "too few to say at which losses junk lies" in text


def test_a_source_that_a_cut_removes_is_named_with_the_remedy(tmp_path):
    """A source of high losses: a cut of the hardest tenth takes most of it."""
    rows = [("web.jsonl", 2 + i / 1e3, 16 + i % 64, SENTENCES[i % 8]) for i in range(810)]
    rows += [("code.jsonl", 5 + i / 1e4, 16 + i % 64, SENTENCES[i % 8]) for i in range(90)]
    write_corpus_report(tmp_path / "r.html", open_scores(write_scored_texts(tmp_path / "scores", rows)))
    text = html.unescape((tmp_path / "r.html").read_text())
    assert "band(drop_top=0.1): Of code.jsonl, 0 of 90 samples are kept (0.0%); of all, 90.0%." in text
    assert "--within source" in text
