"""The command: the selected text is the corpus's own, byte for byte, and what is refused leaves no file."""

import gzip
import json
import random
import shutil
from dataclasses import replace
from itertools import pairwise

import pyarrow.parquet as pq
import pytest
import world
import zstandard

from samplewise.core.errors import SamplewiseError
from samplewise.corpus.files import fingerprint, list_corpus
from samplewise.corpus.manifest import Manifest, read_manifest, write_manifest
from samplewise.corpus.place import Place
from samplewise.corpus.store import open_scores
from samplewise.corpus.table import COLUMNS, OPTIONAL, write_shard
from samplewise.data.ids import document_id, window_id

ALPHABET = "abc é漢\U0001f600 \n"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """A folder of two files of documents in several alphabets, and its scores: (folder, scores, texts by window id)."""
    folder = tmp_path_factory.mktemp("corpus")
    draw = random.Random(0)
    texts = {("b.jsonl", i): "".join(draw.choices(ALPHABET, k=draw.randint(2, 90))) + "." for i in range(40)}
    texts |= {("a/deep.jsonl", i): "".join(draw.choices(ALPHABET, k=30)) + "." for i in range(25)}
    (folder / "data" / "a").mkdir(parents=True)
    for name in ("b.jsonl", "a/deep.jsonl"):
        records = [json.dumps({"text": text}) for (source, _), text in texts.items() if source == name]
        (folder / "data" / name).write_text("\n".join(records))
    rows = [row for place, text in sorted(texts.items()) for row in windows_of(*place, text, draw)]
    types = {name: kind for name, kind in COLUMNS.items() if name not in OPTIONAL}
    place = Place(folder / "scores")
    columns = {name: [row.get(name, 1.0) for row in rows] for name in types}
    shard = write_shard(place, "shard-00000.parquet", columns, types)
    tokens = sum(columns["n_tokens"])
    made = {"data": str(folder / "data")}
    write_manifest(place, Manifest(len(texts), len(texts), 0, len(rows), tokens, [shard], types, made=made))
    return folder / "data", folder / "scores", {row["id"]: row for row in rows}


def windows_of(source: str, row: int, text: str, draw: random.Random) -> list[dict]:
    """A document cut at random between characters, without its last one, as if a short end had been left out."""
    edges = sorted({0, len(text) - 1, *draw.sample(range(len(text)), k=min(2, len(text) - 1))})
    pieces = [text[a:b] for a, b in pairwise(edges)]
    return [
        {"id": window_id(source, row, i), "doc_id": document_id(source, row), "source": source, "row": row, "window": i,
         "n_tokens": draw.randint(1, 9), "n_bytes": len(piece.encode()), "loss": draw.gauss(3, 1), "text": piece}
        for i, piece in enumerate(pieces)
    ]  # fmt: skip


def read(path) -> list[dict]:
    if path.suffix == ".parquet":
        return pq.read_table(path).to_pylist()
    data = path.read_bytes()
    if path.suffix == ".zst":
        data = zstandard.ZstdDecompressor().decompressobj().decompress(data)
    elif path.suffix == ".gz":
        data = gzip.decompress(data)
    return [json.loads(line) for line in data.decode().split("\n")[:-1]]


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.zst", ".jsonl.gz", ".parquet"])
def test_windows_have_the_text_that_their_tokens_cover(corpus, tmp_path, suffix):
    _, scores, rows = corpus
    out = tmp_path / f"chosen{suffix}"
    done = world.samplewise("select", scores, "--rule", "band(drop_top=0.2)", "--out", out)
    assert done.returncode == 0, done.stderr
    found = read(out)
    expected = sorted(rows.values(), key=lambda row: -row["loss"])[len(rows) // 5 :]
    assert {each["id"]: each["text"] for each in found} == {row["id"]: row["text"] for row in expected}
    places = [(each["source"], each["row"], each["window"]) for each in found]
    assert places == sorted(places)
    assert {path.name for path in tmp_path.iterdir()} == {out.name, f"{out.name}.statement.json"}
    said = json.loads((tmp_path / f"{out.name}.statement.json").read_text())
    assert said["all"]["kept"] == len(found)
    assert f"{len(found):,} of {len(rows):,} windows" in done.stdout


def test_documents_come_whole_and_the_control_is_as_large(corpus, tmp_path):
    data, scores, _ = corpus
    out, control = tmp_path / "chosen.jsonl", tmp_path / "control.jsonl"
    options = ["--rule", "top_k(0.4)", "--unit", "document", "--control", control, "--seed", 3]
    done = world.samplewise("select", scores, "--out", out, *options)
    assert done.returncode == 0, done.stderr
    assert len(read(out)) == len(read(control)) == 26
    whole = {}
    for name in ("b.jsonl", "a/deep.jsonl"):
        for row, line in enumerate((data / name).read_text().split("\n")):
            whole[name, row] = json.loads(line)["text"]
    for each in read(out) + read(control):
        assert each["text"] == whole[each["source"], each["row"]]
        assert "window" not in each
    assert {each["doc_id"] for each in read(out)} != {each["doc_id"] for each in read(control)}


def test_weights_go_with_the_texts_where_a_rule_weighs(corpus, tmp_path):
    out = tmp_path / "chosen.jsonl"
    done = world.samplewise("select", corpus[1], "--rule", "ir_dro(r=1)", "--out", out)
    assert done.returncode == 0, done.stderr
    weights = [each["sample_weight"] for each in read(out)]
    assert sum(weights) / len(weights) == pytest.approx(1)
    assert len(set(weights)) > 10
    done = world.samplewise("select", corpus[1], "--rule", "ir_dro(r=1)", "--ids", "--out", tmp_path / "ids.txt")
    assert "--weights writes them" in done.stdout


def test_a_budget_in_words_and_ids_alone(corpus, tmp_path):
    out = tmp_path / "ids.txt"
    done = world.samplewise("select", corpus[1], "--tokens", "0.1k", "--take", "lowest", "--ids", "--out", out)
    assert done.returncode == 0, done.stderr
    chosen = [corpus[2][int(line)] for line in out.read_text().split()]
    assert 91 < sum(row["n_tokens"] for row in chosen) <= 100
    assert max(row["loss"] for row in chosen) < sorted(row["loss"] for row in corpus[2].values())[len(chosen) + 1]


@pytest.mark.parametrize(("options", "words"), [
    (["--out", "x.jsonl"], ["--rule, --drop-junk, --drop-shared, --above, --below or --tokens"]),
    (["--out", "x.doc", "--below", 3], [".jsonl", "x.doc"]),
    (["--out", "x.jsonl", "--ids", "--below", 3], [".parquet or .txt", "x.jsonl"]),
    (["--out", "no/such/x.jsonl", "--below", 3], ["no folder"]),
    (["--out", "x.jsonl", "--rule", "bnd(0.1)"], ["Did you mean band?"]),
    (["--out", "x.jsonl", "--tokens", "lots"], ["--tokens", "2B, 500M"]),
    (["--out", "x.jsonl", "--below", 3, "--data", "no/such"], ["no/such"]),
    (["--out", "x.parquet", "--ids", "--weights", "--below", 3], ["one kind of output"]),
    (["--out", "x.jsonl", "--control", "./x.jsonl", "--below", 3], ["another file than --out"]),
    (["--out", "x.jsonl", "--memory", "lots", "--below", 3], ["--memory", "2GB"]),
    (["--out", "x.jsonl", "--by", "source", "--below", 3], ["--by", "column of numbers"]),
])  # fmt: skip
def test_refusals_leave_no_file(corpus, tmp_path, monkeypatch, options, words):
    monkeypatch.chdir(tmp_path)
    done = world.samplewise("select", corpus[1], *options)
    assert done.returncode == 1, done.stdout
    for word in words:
        assert word in done.stderr
    assert not list(tmp_path.iterdir())


def test_a_corpus_that_has_changed_is_refused(corpus, tmp_path):
    """Also where places and sizes still fit, and a sample would only be given another text than its loss is of."""
    lines = (corpus[0] / "b.jsonl").read_text().split("\n")
    scores = tmp_path / "scores"
    shutil.copytree(corpus[1], scores)
    manifest = read_manifest(Place(scores))
    files, _ = list_corpus(corpus[0], (".jsonl",))
    write_manifest(Place(scores), replace(manifest, fingerprints={"corpus": fingerprint(files)}))
    for change, changed in (("same", lines), ("one letter", [lines[0].replace(".", "!"), *lines[1:]])):
        other = tmp_path / change
        shutil.copytree(corpus[0], other)
        (other / "b.jsonl").write_text("\n".join(changed))
        out = tmp_path / "x.jsonl"
        done = world.samplewise("select", scores, "--below", 99, "--data", other, "--out", out)
        assert done.returncode == (change != "same"), done.stderr
        assert out.exists() == (change == "same")
        out.unlink(missing_ok=True)
    assert "the corpus as it was scored" in done.stderr
    for change in ("shorter", "gone"):
        other = tmp_path / change
        (other / "a").mkdir(parents=True)
        for name in ("b.jsonl", "a/deep.jsonl"):
            lines = (corpus[0] / name).read_text().split("\n")
            changed = [json.dumps({"text": "."}), *lines[1:]] if change == "shorter" else lines[:5]
            (other / name).write_text("\n".join(changed))
        out = tmp_path / "x.jsonl"
        done = world.samplewise("select", corpus[1], "--below", 99, "--data", other, "--out", out)
        assert done.returncode == 1, change
        assert "the corpus as it was scored" in done.stderr
        assert not out.exists()


@pytest.mark.parametrize("place", ["data/b.jsonl", "data/a/new.jsonl", "scores/shard-00000.parquet"])
def test_nothing_that_is_read_is_replaced(corpus, place):
    out = corpus[0].parent / place
    before = out.read_bytes() if out.exists() else None
    options = ["--ids"] if out.suffix == ".parquet" else []
    done = world.samplewise("select", corpus[1], "--below", 99, "--out", out, *options)
    assert done.returncode == 1
    assert "outside the scores and the corpus" in done.stderr
    assert (out.read_bytes() if out.exists() else None) == before


@pytest.mark.parametrize("change", ["gone", "changed"])
def test_scores_that_lost_a_file_are_refused(corpus, tmp_path, change):
    shutil.copytree(corpus[1], tmp_path / "scores")
    shard = tmp_path / "scores" / "shard-00000.parquet"
    if change == "gone":
        shard.unlink()
    else:
        shard.write_bytes(shard.read_bytes()[:-9])
    with pytest.raises(SamplewiseError, match=rf"shard-00000.parquet {change}"):
        open_scores(tmp_path / "scores")


def test_instructions_come_as_messages(tmp_path):
    """Rows that were scored as instructions are written as conversations, in the form that trainers read."""
    turns = ("user", "assistant")
    rows: list[dict] = [{"messages": [{"role": turn, "content": f"{turn} {i}"} for turn in turns]} for i in range(9)]
    rows.append({"prompt": "once", "completion": " upon"})
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows))
    types = {name: kind for name, kind in COLUMNS.items() if name not in OPTIONAL}
    columns = {name: [1.0] * len(rows) for name in types} | {
        "id": list(range(10)), "doc_id": list(range(10)), "source": ["rows.jsonl"] * 10, "row": list(range(10)),
        "window": [0] * 10, "n_tokens": [4] * 10, "n_bytes": [20] * 10, "loss": [i / 10 for i in range(10)],
    }  # fmt: skip
    shard = write_shard(Place(tmp_path / "scores"), "shard-00000.parquet", columns, types)
    facts = {"settings": {"kind": "instructions", "format": "auto"}}
    manifest = Manifest(10, 10, 0, 10, 40, [shard], types, fingerprints=facts, made={"data": str(path)})
    write_manifest(Place(tmp_path / "scores"), manifest)
    done = world.samplewise("select", tmp_path / "scores", "--rule", "top_k(0.2)", "--out", tmp_path / "out.jsonl")
    assert done.returncode == 0, done.stderr
    first, second = read(tmp_path / "out.jsonl")
    assert first["messages"] == rows[8]["messages"]
    assert (second["prompt"], second["completion"]) == ("once", " upon")
