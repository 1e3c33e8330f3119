"""What goes in comes out: every field of a record survives scoring, selection and training, and can divide a corpus."""

import datetime
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import world
from plain_scores import write_records, write_scores
from scoring import score, table
from transformers import AutoTokenizer

from samplewise.config import DataConfig
from samplewise.core.errors import SamplewiseError
from samplewise.corpus import open_scores
from samplewise.corpus.reread import read_again
from samplewise.corpus.select import Choice, select
from samplewise.data.instructions import read_instructions
from samplewise.evidence.run.prepare import prepare
from samplewise.rules import parse_rule

RECORDS = [
    {
        "text": f"text number {i}", "url": f"https://www.site{i % 3}.org:443/page?{i}",
        "timestamp": "2024-05-01T00:00:00Z",
        "meta": {"domain": ["web", "code"][i % 2], "tags": ["a", "b"][: i % 3], "deep": {"n": i, "x": i / 4}},
        "score": i / 10, "flag": bool(i % 2), "nothing": None if i % 5 else "here",
    }
    for i in range(40)
]  # fmt: skip


@pytest.fixture(scope="module")
def scores(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fields")
    data = write_records(folder / "data.jsonl", RECORDS)
    losses = np.random.default_rng(0).normal(3, 1, len(RECORDS)).tolist()
    return write_scores(folder / "scores", data, RECORDS, losses=losses, keep=("url", "meta.domain", "meta.tags"))


def selected(scores, out, *options: object) -> list[dict]:
    done = world.samplewise("select", scores, "--out", out, *options)
    assert done.returncode == 0, done.stderr
    return (
        pq.read_table(out).to_pylist()
        if out.suffix == ".parquet"
        else list(map(json.loads, out.read_text().splitlines()))
    )


def parts(scores, within: str, rule: str = "top_k(0.5)") -> dict[str, int]:
    """How many samples are kept of each part."""
    found = open_scores(scores)
    choice = Choice(parse_rule(rule), within=within)
    with select(found, choice, records=lambda: read_again(found.manifest)) as chosen:
        return {part: own.kept for part, own in chosen.totals().items()}


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
@pytest.mark.parametrize("unit", ["window", "document"])
def test_a_selection_has_the_records_whole(scores, tmp_path, suffix, unit):
    found = selected(scores, tmp_path / f"out{suffix}", "--rule", "band(drop_top=0.25)", "--unit", unit)
    assert len(found) == 30
    for each in found:
        record = RECORDS[each["row"]]
        assert {name: each[name] for name in record} == record
        assert each["source"] == "data.jsonl"


def test_fields_of_our_names_keep_theirs(tmp_path):
    records = [{"content": f"a {i}", "id": f"doc-{i}", "source": "dolma", "loss": "none"} for i in range(5)]
    data = write_records(tmp_path / "data.jsonl", [*records[:4], {"content": "a 4"}])
    scores = write_scores(tmp_path / "scores", data, records, field="content")
    done = world.samplewise("select", scores, "--above", 3, "--out", tmp_path / "out.jsonl")
    assert "renamed    id is samplewise_id in 1 records" in done.stdout
    first, second = map(json.loads, (tmp_path / "out.jsonl").read_text().splitlines())
    assert {name: first[name] for name in records[3]} == records[3]
    assert (first["samplewise_source"], first["samplewise_loss"], first["row"]) == ("data.jsonl", 3.0, 3)
    assert (second["content"], second["source"], second["loss"]) == ("a 4", "data.jsonl", 4.0)
    said = json.loads((tmp_path / "out.jsonl.statement.json").read_text())
    assert said["fields_of_the_same_name"] == {"id": 1, "source": 1, "loss": 1}


def test_times_and_bytes_of_a_table_come_out(tmp_path):
    when = [datetime.datetime(2024, 1, 1 + i, tzinfo=datetime.UTC) for i in range(3)]
    table = pa.table({"text": ["a b", "c d", "e f"], "when": when, "raw": [b"\0\1", None, b"x"]})
    pq.write_table(table, tmp_path / "data.parquet")
    scores = write_scores(tmp_path / "scores", tmp_path / "data.parquet", table.to_pylist())
    found = selected(scores, tmp_path / "out.parquet", "--above", 0)
    assert [(each["when"], each["raw"]) for each in found] == list(zip(when, [b"\0\1", None, b"x"], strict=True))
    pq.write_table(table.drop_columns("raw"), tmp_path / "data.parquet")
    lines = selected(scores, tmp_path / "out.jsonl", "--above", 0)
    assert lines[0]["when"] == "2024-01-01T00:00:00+00:00"


def test_fields_that_come_late_or_widen_are_in_a_table_too(tmp_path, monkeypatch):
    monkeypatch.setattr("samplewise.corpus.writers.tables.ROWS", 4)
    records = [{"text": "a", "n": i if i < 8 else i / 2, **({"late": {"x": i}} if i > 5 else {})} for i in range(12)]
    records[10]["late"]["y"] = "new"
    data = write_records(tmp_path / "data.jsonl", records)
    scores = write_scores(tmp_path / "scores", data, records)
    world.samplewise("select", scores, "--above", 0, "--out", tmp_path / "out.parquet")
    found = pq.read_table(tmp_path / "out.parquet").to_pylist()
    assert [each["n"] for each in found] == [record["n"] for record in records]
    assert [each["late"] for each in found][5:7] == [None, {"x": 6, "y": None}]
    assert found[10]["late"] == {"x": 10, "y": "new"}
    assert {path.name for path in tmp_path.iterdir()} == {
        "data.jsonl", "scores", "out.parquet", "out.parquet.statement.json"
    }  # fmt: skip


def test_a_field_of_two_types_is_refused_as_a_column_and_kept_in_lines(tmp_path):
    records = [{"text": "a", "tags": ["x"] if i % 2 else "x"} for i in range(4)]
    data = write_records(tmp_path / "data.jsonl", records)
    scores = write_scores(tmp_path / "scores", data, records)
    done = world.samplewise("select", scores, "--above", 0, "--out", tmp_path / "out.parquet")
    assert done.returncode == 1
    assert "field 'tags': expected values that one column can hold" in done.stderr
    assert not (tmp_path / "out.parquet").exists()
    found = selected(scores, tmp_path / "out.jsonl", "--above", 0)
    assert [each["tags"] for each in found] == ["x", ["x"], "x", ["x"]]


def test_conversations_keep_their_fields_and_the_weights_of_messages(tmp_path):
    rows = [
        {"instruction": "Add.", "input": "1, 2", "output": "3", "topic": "sums", "sample_id": 7},
        {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho", "weight": 0.5}],
         "meta": {"site": "a.org"}, "sample_id": 8},
        {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "no", "weight": 0},
                           {"from": "gpt", "value": "yes"}], "lang": "en", "sample_id": 9},
        {"prompt": "once", "completion": " upon", "url": "b.org", "sample_id": 10, "group": "tales"},
    ]  # fmt: skip
    data = write_records(tmp_path / "rows.jsonl", rows)
    scores = write_scores(tmp_path / "scores", data, rows, kind="instructions")
    found = selected(scores, tmp_path / "out.jsonl", "--above", 0)
    assert found[0]["topic"] == "sums"
    assert "output" not in found[0], "a row of two forms could not be read again"
    assert (found[1]["meta"], found[2]["lang"], found[3]["url"]) == ({"site": "a.org"}, "en", "b.org")
    before, after = (list(read_instructions(path)) for path in (data, tmp_path / "out.jsonl"))
    for one, other in zip(before, after, strict=True):
        assert (one.messages, one.id, one.group) == (other.messages, other.id, other.group)


def test_any_field_divides_a_corpus(scores):
    by = {name: len([r for r in RECORDS if r["meta"]["domain"] == name]) for name in ("web", "code")}
    assert parts(scores, "meta.domain") == {name: n // 2 for name, n in by.items()}, "kept beside the loss"
    assert parts(scores, "record.meta.domain") == parts(scores, "meta.domain"), "read from the corpus"
    assert parts(scores, "host(url)") == {"www.site0.org": 7, "www.site1.org": 6, "www.site2.org": 6}
    assert parts(scores, "host(record.url)") == parts(scores, "host(url)")
    assert parts(scores, "flag") == {"false": 10, "true": 10}
    assert parts(scores, "nothing") == {"here": 4, "none": 16}
    assert parts(scores, "meta.deep.n", "uniform()") == {str(i): 1 for i in range(40)}


@pytest.mark.parametrize(("url", "host"), [
    ("https://A.org/x", "a.org"), ("http://user:pw@b.org:80", "b.org"), ("c.org/x?q=d.org", "c.org"),
    ("ftp://[::1]:21/x", "[::1]"), ("", "none"), ("s3://bucket/key", "bucket"),
])  # fmt: skip
def test_hosts_of_urls(tmp_path, url, host):
    records = [{"text": "a", "url": url}, {"text": "b", "url": None}]
    scores = write_scores(tmp_path / "scores", write_records(tmp_path / "data.jsonl", records), records)
    assert parts(scores, "host(url)", "uniform()") == ({host: 1, "none": 1} if host != "none" else {"none": 2})


@pytest.mark.parametrize(
    ("within", "words"),
    [
        ("meta.tags", "expected one value in each record, got a list in data.jsonl, record"),
        ("record.meta.tags", "got a list in data.jsonl, record 0"),
        ("meta", "got a dict in data.jsonl, record 0"),
        ("domain", "Did you mean meta.domain?"),
    ],
)
def test_fields_that_cannot_divide_a_corpus(scores, tmp_path, within, words):
    done = world.samplewise("select", scores, "--above", 0, "--within", within, "--out", tmp_path / "out.jsonl")
    assert done.returncode == 1
    assert f"parts by {within}: expected" in done.stderr
    assert words in done.stderr
    assert "another model" not in done.stderr
    assert not list(tmp_path.iterdir())


def test_scores_keep_the_fields_that_are_named(tiny_model, tmp_path):
    draw = np.random.default_rng(1)
    records = [{"text": " ".join(draw.choice(world.WORDS, 40)), "url": f"u{i}", "meta": {"n": i, "when": None}}
               for i in range(20)]  # fmt: skip
    data = write_records(tmp_path / "data.jsonl", records)
    fields = ["url", "meta.n", "meta.when", "meta"]
    score(tiny_model, data, tmp_path / "scores", keep_fields=fields)
    score(tiny_model, data, tmp_path / "scores", keep_fields=fields, column="again")
    found = table(tmp_path / "scores")
    assert len(found) > len(records)
    for each in found.to_pylist():
        record = records[each["row"]]
        assert (each["url"], each["meta.n"], each["meta.when"]) == (record["url"], str(record["meta"]["n"]), None)
        assert json.loads(each["meta"]) == record["meta"]
        assert each["loss"] == each["again"]
    highest = selected(tmp_path / "scores", tmp_path / "out.jsonl", "--by", "meta.n", "--above", 17)
    assert {each["url"] for each in highest} == {"u17", "u18", "u19"}


@pytest.mark.parametrize("names", [["loss"], ["a", "a"], [""], ['a"b']])
def test_names_that_cannot_be_kept(tiny_model, corpus, tmp_path, names):
    with pytest.raises(SamplewiseError, match="--keep-fields"):
        score(tiny_model, corpus, tmp_path / "scores", keep_fields=names)
    assert not (tmp_path / "scores").exists()


def test_a_field_that_no_record_has_is_said_before_the_scoring(tiny_model, corpus, tmp_path):
    done = world.samplewise("score", "--model", tiny_model, "--data", corpus, "--out", tmp_path / "scores",
                            "--max-length", 32, "--keep-fields", "text,domian")  # fmt: skip
    assert done.returncode == 1, "text is the scores' own"
    done = world.samplewise("score", "--model", tiny_model, "--data", corpus, "--out", tmp_path / "scores",
                            "--max-length", 32, "--keep-fields", "domian")  # fmt: skip
    assert "records has domian; their fields: text" in done.stdout


def test_weights_and_groups_of_records_reach_training(tiny_model, tmp_path):
    """What select writes with a rule that weighs is what column_weights() trains on."""
    draw = np.random.default_rng(2)
    records = [{"text": " ".join(draw.choice(world.WORDS, 60)), "domain": ["web", "code"][i % 2]} for i in range(30)]
    data = write_records(tmp_path / "data.jsonl", records)
    scores = write_scores(tmp_path / "scores", data, records, losses=draw.normal(3, 1, 30).tolist())
    found = selected(scores, tmp_path / "out.jsonl", "--rule", "ir_dro(r=1)", "--unit", "document")
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    config = DataConfig(path=str(tmp_path / "out.jsonl"), max_length=32, min_tokens=4, held_out=0.2, groups="domain")
    prepared = prepare(config, tokenizer)
    rows = list(prepared.train)
    assert len(rows) > 30
    numbers = {"code": 0, "web": 1}
    for row, window in zip(rows, prepared.train.windows, strict=True):
        assert row["sample_weight"] == found[window.row]["sample_weight"]
        assert row["group"] == numbers[found[window.row]["domain"]]
    assert prepared.counts["groups"] == numbers
    assert any("sample_weight of every document" in line for line in prepared.lines)


@pytest.mark.parametrize(("change", "words"), [
    ({"sample_weight": None}, "record 3: expected a finite number in sample_weight"),
    ({"sample_weight": "much"}, "got 'much'"),
    ({"domain": ["web"]}, "expected one value in domain, which data.groups names, got a list"),
])  # fmt: skip
def test_records_without_a_weight_or_group_among_others(tiny_model, tmp_path, change, words):
    records = [{"text": f"w{i} " * 40, "domain": "web", "sample_weight": 1.0} for i in range(30)]
    records[3] |= change
    data = write_records(tmp_path / "data.jsonl", records)
    config = DataConfig(path=str(data), max_length=32, min_tokens=4, duplicates="keep", groups="domain")
    with pytest.raises(SamplewiseError, match=words):
        prepare(config, AutoTokenizer.from_pretrained(tiny_model))


@pytest.mark.parametrize(("within", "parts"), [("host(url)", 3), ("meta.domain", 2), ("score", 40)])
def test_the_report_shows_what_is_kept_of_any_field(scores, tmp_path, within, parts):
    done = world.samplewise("report", scores, "--out", tmp_path / "r.html", "--within", within)
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "r.html").read_text()
    assert f"By {within}: {parts} parts." in page
    if within == "host(url)":
        assert "www.site1.org" in page


def test_a_field_of_lists_is_refused_in_the_report_too(scores, tmp_path):
    done = world.samplewise("report", scores, "--out", tmp_path / "r.html", "--within", "meta.tags")
    assert done.returncode == 1
    assert "parts by meta.tags: expected one value in each record" in done.stderr
    assert not (tmp_path / "r.html").exists()
