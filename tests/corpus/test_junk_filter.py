"""`select --drop-junk`: what it leaves out, what it says, what it refuses; and what selections keep of every group."""

import codecs
import json

import pytest
import world
from junk_texts import CLEAN, PROSE
from scored_texts import write_scored_texts

from samplewise.core.errors import SamplewiseError
from samplewise.corpus import open_scores
from samplewise.corpus.losses_by_group import Group, warned
from samplewise.corpus.select import Choice, select


@pytest.fixture(scope="module")
def scores(tmp_path_factory):
    """Forty texts, a quarter of them noise, at all losses; German ones and one too short to judge among them."""
    rows = []
    for i in range(40):
        text = PROSE[i:] if i % 5 else CLEAN["German"]
        if i % 4 == 3:
            text = codecs.encode(PROSE[i:], "rot13")
        rows.append((f"part-{i % 2}.jsonl", 2 + (i * 7 % 40) / 20, 100, "Too short." if i == 0 else text))
    return write_scored_texts(tmp_path_factory.mktemp("scores"), rows)


def test_junk_of_all_losses_is_left_out_and_counted(scores, tmp_path):
    done = world.samplewise("select", scores, "--drop-junk", "0.5", "--ids", "--out", tmp_path / "ids.txt")
    assert done.returncode == 0, done.stderr
    kept = {int(own) for own in (tmp_path / "ids.txt").read_text().split()}
    rows = dict(open_scores(scores).connect().sql("SELECT id, row FROM scores").fetchall())
    assert {rows[own] for own in kept} == {i for i in range(40) if i % 4 != 3}
    assert "junk       10 windows of a junk score of 0.5 or more left out" in done.stdout
    said = json.loads((tmp_path / "ids.txt.statement.json").read_text())
    assert said["junk"] == 10
    language = {own["name"]: (own["samples"], own["kept"]) for own in said["kept_by"]["groups"]["language"]}
    assert language["de"][0] == language["de"][1] > 0
    assert language["en"][1] == language["en"][0]


def test_other_filters_see_what_is_left(scores):
    with select(open_scores(scores), Choice(drop_junk=0.5, tokens=1000), memory="200MB") as chosen:
        assert chosen.totals()[0].kept_tokens == 1000
        kept = chosen.connection.sql(f"SELECT row FROM {chosen.view} WHERE kept").fetchall()
    assert all(row % 4 != 3 for (row,) in kept)


def test_documents_are_judged_by_the_mean_of_their_windows(scores):
    with select(open_scores(scores), Choice(drop_junk=0.5, unit="document"), memory="200MB") as chosen:
        assert chosen.totals()[0].kept == 30


@pytest.mark.parametrize("border", ["0", "1.5", "nan"])
def test_a_border_that_is_no_score_is_refused(scores, tmp_path, border):
    done = world.samplewise("select", scores, "--drop-junk", border, "--out", tmp_path / "o.jsonl")
    assert done.returncode == 1
    assert "--drop-junk" in done.stderr
    assert not (tmp_path / "o.jsonl").exists()


def test_scores_without_texts_are_refused_with_the_remedy(tmp_path):
    folder = write_scored_texts(tmp_path, [("a", 1.0, 10, "text")] * 3, text=False)
    with pytest.raises(SamplewiseError, match="--text 600"), select(open_scores(folder), Choice(drop_junk=0.5)):
        pass


def test_groups_that_lose_far_more_are_named_worst_first():
    groups = [Group("web", 1000, 950), Group("code", 200, 2), Group("math", 100, 45), Group("few", 5, 0)]
    said = warned(groups, "source")
    assert [text.split(",")[0] for text in said] == ["Of code", "Of math"]
    assert "2 of 200 samples are kept (1.0%)" in said[0]
    assert all("--within source" in text for text in said)
    assert warned([Group("a", 1000, 600), Group("b", 1000, 600)], "source") == []
    assert len(warned([Group("a", 5000, 3100), Group("b", 200, 2)], "length")) == 1, (
        "a band of 60% that removes a group"
    )
    assert "--within" not in warned(groups, None)[0]
    assert "--within 'host(url)'" in warned(groups, "host(url)")[0]


def test_select_warns_of_a_source_that_a_rule_removes(tmp_path):
    rows = [("web.jsonl", 2 + i / 1e3, 64, "text") for i in range(300)]
    rows += [("code.jsonl", 5 + i / 1e3, 64, "text") for i in range(30)]
    folder = write_scored_texts(tmp_path / "scores", rows)
    command = ("select", folder, "--rule", "band(drop_top=0.1)", "--ids", "--out", tmp_path / "ids.txt")
    done = world.samplewise(*command)
    assert "warning    Of code.jsonl, 0 of 30 samples are kept (0.0%)" in done.stdout
    assert "--within source" in done.stdout
    (tmp_path / "ids.txt").unlink()
    done = world.samplewise(*command, "--within", "source")
    assert "warning" not in done.stdout
