"""A corpus on disk without its duplicates: as in memory, with every field of the rest, and a list of what went."""

import gzip
import json
import random

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import world
from datasets import load_from_disk
from hypothesis import given, settings
from hypothesis import strategies as st

from samplewise.core.errors import SamplewiseError
from samplewise.corpus import leaders
from samplewise.corpus.dedup import dedup_output, deduplicate_corpus
from samplewise.corpus.dedup_read import Corpus
from samplewise.data import Document, deduplicate
from samplewise.data.ids import document_id
from samplewise.data.sketch import BANDS, WORDS

VOCABULARY = [f"word{i}" for i in range(3000)]


def words(seed: int, count: int = 120) -> list[str]:
    return random.Random(seed).choices(VOCABULARY, k=count)


def varied(seed: int, changes: int, cut: int) -> str:
    """One of twelve texts, changed in some places and cut off, so that there are clusters of every similarity."""
    draw = random.Random(seed)
    own = words(seed % 12)
    for place in draw.sample(range(len(own)), changes):
        own[place] = "changed"
    return " ".join(own[: len(own) - cut])


def jaccard(a: str, b: str) -> float:
    one, two = ({tuple(t[i : i + WORDS]) for i in range(len(t) - WORDS + 1)} for t in (a.split(), b.split()))
    return len(one & two) / len(one | two)


def run(data, out, **options):
    given = {name: options.pop(name) for name in ("kind", "text_field") if name in options}
    output = dedup_output(str(out), options.pop("format", None), options.pop("shard_size", None))
    return deduplicate_corpus(Corpus(str(data), **given), output, say=lambda line: None, **options)


def lines(path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def write(path, texts) -> None:
    path.write_text("".join(json.dumps({"text": text, "n": n}) + "\n" for n, text in enumerate(texts)))


variant = st.builds(varied, st.integers(0, 10**6), st.integers(0, 8), st.integers(0, 30)) | st.sampled_from(
    ["short one", "Short  ONE", "two", "one two three four five six"]
)


@settings(max_examples=40, deadline=None)
@given(st.lists(variant, min_size=1, max_size=40), st.sampled_from([0.7, 0.8, 0.95]))
def test_what_goes_is_what_goes_in_memory(tmp_path_factory, texts, similarity):
    folder = tmp_path_factory.mktemp("dedup")
    write(folder / "a.jsonl", texts)
    said = run(folder / "a.jsonl", folder / "out.jsonl", similarity=similarity)
    kept = [record["n"] for record in lines(folder / "out.jsonl")]
    if similarity == 0.8:
        expected = deduplicate(Document(text, "a.jsonl", row) for row, text in enumerate(texts))
        assert kept == [document.row for document in expected.kept]
    listed = pq.read_table(folder / "out.jsonl.removed.parquet").to_pylist()
    assert sorted([row["row"] for row in listed] + kept) == list(range(len(texts)))
    for row in listed:
        assert row["kept_row"] in kept
        assert row["kept_row"] < row["row"]
        assert (row["id"], row["kept_id"]) == tuple(document_id("a.jsonl", row[n]) for n in ("row", "kept_row"))
        if row["similarity"] < 1:
            alike = jaccard(texts[row["row"]].lower(), texts[row["kept_row"]].lower())
            first = next(n for n, text in enumerate(texts) if text.lower().split() == texts[row["row"]].lower().split())
            exact_of_near = first != row["row"]  # the same text as one that went before it
            assert exact_of_near or row["similarity"] == pytest.approx(alike)
            assert row["similarity"] >= similarity - 1e-6
    counts = said["records"]
    assert (counts["in"], counts["kept"], counts["exact"] + counts["near"]) == (len(texts), len(kept), len(listed))
    assert said == json.loads((folder / "out.jsonl.statement.json").read_text())


def test_files_keep_their_names_formats_and_fields(tmp_path):
    one, two = " ".join(words(1)), " ".join(words(2))
    data = tmp_path / "data"
    (data / "deep").mkdir(parents=True)
    (data / "a.txt").write_text(one, newline="")
    (data / "deep" / "b.jsonl.gz").write_bytes(gzip.compress(json.dumps({"text": one, "u": 1}).encode() + b"\n"
        + json.dumps({"text": two, "meta": {"url": "x", "tags": [1, 2]}}).encode() + b"\n"))  # fmt: skip
    (data / "c.csv").write_text(f"text,lang\n{two} and more,en\nown text,fr\n")
    pq.write_table(pa.table({"text": [one.upper(), "last"], "day": pa.array([1, 2], pa.date32())}), data / "z.parquet")
    said = run(data, tmp_path / "out")
    found = {path.relative_to(tmp_path / "out").as_posix(): path for path in (tmp_path / "out").rglob("*.*")}
    assert set(found) == {"a.txt", "c.csv.jsonl", "z.parquet"}, "nothing is left of deep/b.jsonl.gz"
    assert found["a.txt"].read_text() == one
    assert lines(found["c.csv.jsonl"]) == [
        {"text": f"{two} and more", "lang": "en"},
        {"text": "own text", "lang": "fr"},
    ]
    table = pq.read_table(found["z.parquet"])
    assert table.to_pylist() == pq.read_table(data / "z.parquet").to_pylist()[1:]
    assert table.schema.field("day").type == pa.date32()
    assert said["records"] == {"in": 7, "kept": 4, "exact": 2, "near": 1, "without_text": 0}


def test_one_file_a_folder_and_a_url_hold_the_same_records(tmp_path):
    write(tmp_path / "a.jsonl", [varied(seed, seed % 6, 0) for seed in range(60)])
    run(tmp_path / "a.jsonl", tmp_path / "out.jsonl")
    expected = lines(tmp_path / "out.jsonl")
    assert 12 <= len(expected) < 60
    run(tmp_path / "a.jsonl", tmp_path / "saved", format="datasets")
    assert load_from_disk(tmp_path / "saved").to_list() == expected
    memory = fsspec.filesystem("memory")
    memory.put_file(str(tmp_path / "a.jsonl"), "/dedup/in/a.jsonl")
    run("memory://dedup/in", "memory://dedup/out")
    assert [json.loads(line) for line in memory.cat("/dedup/out/a.jsonl").splitlines()] == expected
    assert memory.exists("/dedup/out.removed.parquet")
    assert json.loads(memory.cat("/dedup/out.statement.json"))["records"]["kept"] == len(expected)
    with pytest.raises(SamplewiseError, match="outside the scores and the corpus"):
        run("memory://dedup/in/*.jsonl", "memory://dedup/in/out.jsonl")


def test_instructions_are_compared_by_all_that_is_said(tmp_path):
    question, answer = " ".join(words(1)), " ".join(words(2))
    rows = [
        {"prompt": question, "completion": answer, "sample_id": 7},
        {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]},
        {"prompt": question, "completion": " ".join(words(3))},
        {"prompt": question},
    ]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    said = run(tmp_path / "a.jsonl", tmp_path / "out.jsonl", kind="instructions")
    assert lines(tmp_path / "out.jsonl") == [rows[0], rows[2]]
    assert said["without_text"] == {"no known form": 1}
    assert said["without_text_first"][0].startswith("a.jsonl, line 4")
    assert pq.read_table(tmp_path / "out.jsonl.removed.parquet")["kept_id"].to_pylist() == [7]


def test_pages_of_one_template_do_not_fill_the_buckets(tmp_path, monkeypatch):
    """More of them share a band than a bucket holds; each near-duplicate is found by its other bands."""
    monkeypatch.setattr("samplewise.corpus.leaders.FULL", 4)
    compared = []
    like = leaders.first_like

    def counted(own, minima, *more):
        compared.append(len(minima))
        return like(own, minima, *more)

    monkeypatch.setattr(leaders, "first_like", counted)
    template = words(0, 300)
    pages = [" ".join([*template, *words(seed + 1, 100)]) for seed in range(120)]
    copies = [f"{pages[i]} and a new end" for i in range(0, len(pages), 7)]
    write(tmp_path / "a.jsonl", pages + copies)
    said = run(tmp_path / "a.jsonl", tmp_path / "out.jsonl")
    assert [record["n"] for record in lines(tmp_path / "out.jsonl")] == list(range(len(pages)))
    assert said["records"]["near"] == len(copies)
    assert 20 < max(compared) <= 4 * BANDS


def test_a_corpus_that_changes_meanwhile_is_refused(tmp_path, monkeypatch):
    write(tmp_path / "a.jsonl", ["one", "two"])
    whole, calls = Corpus.records, []

    def records(self, *arguments, **more):
        calls.append(more)
        found = list(whole(self, *arguments, **more))
        yield from found if len(calls) == 1 else [*found, *[each._replace(row=2) for each in found[:1]]]

    monkeypatch.setattr(Corpus, "records", records)
    with pytest.raises(SamplewiseError, match="as it was read a moment ago"):
        run(tmp_path / "a.jsonl", tmp_path / "out.jsonl")
    assert [path.name for path in tmp_path.iterdir()] == ["a.jsonl"]


@pytest.mark.parametrize(("options", "said"), [
    (["a.jsonl", "--out", "out.jsonl", "--similarity", "0.5"], ["--similarity", "0.7 to 1"]),
    (["a.jsonl", "--out", "out.jsonl", "--text-field", "body"], ["got none, 2 missing field", "--text-field"]),
    (["a.jsonl", "--out", "a.jsonl"], ["one of them"]),
    (["a.jsonl", "--out", "no/such/out.jsonl"], ["no folder"]),
    (["a.jsonl", "--out", "out", "--format", "megatron"], ["--format", "Score the corpus first"]),
    (["nothing.jsonl", "--out", "out"], ["nothing.jsonl"]),
])  # fmt: skip
def test_bad_arguments_end_in_one_sentence(tmp_path, monkeypatch, options, said):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "a.jsonl", ["one", "two"])
    done = world.samplewise("dedup", *options)
    assert done.returncode == 1, done.stdout
    for word in said:
        assert word in done.stderr
    assert done.stderr.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["a.jsonl"]


def test_the_command_says_what_went(tmp_path):
    one = " ".join(words(1))
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in [
        {"text": one, "u": 1}, {"text": f" {one.upper()}"}, {"text": f"{one} and more"}, {"u": 2}, {"text": "  "},
    ]))  # fmt: skip
    done = world.samplewise("dedup", tmp_path / "a.jsonl", "--out", tmp_path / "out.jsonl")
    assert done.returncode == 0, done.stderr
    assert "1 of 5 records (20.0%)" in done.stdout
    assert "1 with the same text as a kept one, 1 near-duplicates" in done.stdout
    assert "2 records (1 missing field, 1 empty), the first in a.jsonl, line 4" in done.stdout
    assert lines(tmp_path / "out.jsonl") == [{"text": one, "u": 1}]
    said = json.loads((tmp_path / "out.jsonl.statement.json").read_text())
    assert said["largest"] == [{"id": document_id("a.jsonl", 0), "source": "a.jsonl", "row": 0, "removed": 2}]
    assert (said["lowest_similarity"][0]["row"], said["lowest_similarity"][0]["kept_row"]) == (2, 0)
    done = world.samplewise("dedup", tmp_path / "a.jsonl", "--out", tmp_path / "same.jsonl", "--similarity", 1)
    assert "1 with the same text as a kept one, 0 near" in done.stdout
