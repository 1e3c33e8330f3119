"""Lines that many documents share: counted whatever their case and numbers, shown, and left out where a text is made
of them.
"""

import json

import pytest
import world
from junk_texts import PROSE
from scored_texts import write_scored_texts

from samplewise.core.errors import SamplewiseError
from samplewise.corpus import open_scores
from samplewise.corpus.select import Choice, select
from samplewise.corpus.shared_lines import shared_lines

NOTICE = "We use cookies on this site, {} of them."
FOOTER = "COPYRIGHT 19{} the authors of this page"


def text_of(i: int) -> str:
    own = f"{PROSE[10 * i : 10 * i + 150]} {i}"
    if i < 12:
        return f"{own}\n{NOTICE.format(i)}"
    if i < 24:
        notice = NOTICE.format(i).upper() if i % 2 else NOTICE.format(i)
        return f"  {notice}\n{FOOTER.format(i)}  \nMenu\nPage {i}"
    return f"{own}\nMenu\nA line that nine documents have, as it is" if i < 33 else own


@pytest.fixture(scope="module")
def scores(tmp_path_factory):
    rows = [(f"part-{i % 2}.jsonl", 2 + i / 50, 100, text_of(i)) for i in range(40)]
    return write_scored_texts(tmp_path_factory.mktemp("scores"), rows)


def test_what_ten_documents_have_is_counted(scores):
    with open_scores(scores).connect() as connection:
        found = shared_lines(connection, "SELECT id, doc_id, loss, text FROM scores", 5)
    assert found.lines == 2, "neither what nine have, nor lines of few characters"
    assert [count for count, *_ in found.most] == [24, 12]
    assert found.most[1][1] == pytest.approx(2 + sum(range(12, 24)) / 12 / 50)
    assert found.samples == 12
    texts = [text_of(i) for i in range(40)]
    shared = sum(len(NOTICE.format(i)) for i in range(24)) + sum(len(FOOTER.format(i)) for i in range(12, 24))
    assert found.characters == pytest.approx(shared / sum(map(len, texts)))


def test_texts_made_of_them_are_left_out_and_counted(scores, tmp_path):
    done = world.samplewise("select", scores, "--drop-shared", "0.5", "--ids", "--out", tmp_path / "ids.txt")
    assert done.returncode == 0, done.stderr
    kept = {int(own) for own in (tmp_path / "ids.txt").read_text().split()}
    rows = dict(open_scores(scores).connect().sql("SELECT id, row FROM scores").fetchall())
    assert {rows[own] for own in kept} == {i for i in range(40) if not 12 <= i < 24}
    assert "shared     12 windows of which 50% or more are lines of many documents left out" in done.stdout
    assert json.loads((tmp_path / "ids.txt.statement.json").read_text())["shared"] == 12


def test_whole_documents_are_left_out_by_the_mean_of_their_windows(scores):
    with select(open_scores(scores), Choice(drop_shared=0.5, unit="document"), memory="200MB") as chosen:
        assert chosen.totals()[0].kept == 28


def test_a_share_outside_of_0_to_1_and_scores_without_texts_are_refused(scores, tmp_path):
    with pytest.raises(SamplewiseError, match=r"--drop-shared: expected a share above 0"):
        with select(open_scores(scores), Choice(drop_shared=1.5)):
            pass
    folder = write_scored_texts(tmp_path, [("a", 1.0, 10, "text")] * 3, text=False)
    with pytest.raises(SamplewiseError, match=r"--drop-shared.*--text 0"):
        with select(open_scores(folder), Choice(drop_shared=0.5)):
            pass


def test_the_page_shows_them_with_the_command(scores, tmp_path):
    done = world.samplewise("report", scores, "--out", tmp_path / "r.html")
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "r.html").read_text()
    assert "Shared lines" in page
    assert "--drop-shared 0.5" in page
    assert NOTICE.format(0) in page
