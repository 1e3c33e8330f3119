"""Every format gives the same documents; damage anywhere is named, or counted, and never lost."""

import contextlib
import csv
import gzip
import json
import sys
import types
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from samplewise.core.errors import SamplewiseError
from samplewise.data import ReadReport, read_documents, records

TEXTS = ["plain", 'two\nlines, "quoted"', "naïve — ☃ 𝔘", "  spaces kept ", "U+2028\u2028inside", "x" * 200_000]


def zst(data: bytes) -> bytes:
    import zstandard

    return zstandard.ZstdCompressor().compress(data)


def json_lines(texts, field="text") -> bytes:
    return b"".join(json.dumps({"n": 1, field: t}, ensure_ascii=False).encode() + b"\n" for t in texts)


def write_csv(path: Path, texts) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["n", "text"], *([i, t] for i, t in enumerate(texts))])


def write_parquet(path: Path, texts, field="text") -> None:
    import pyarrow
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.table({"n": range(len(texts)), field: texts}), path)


def write(path: Path, texts) -> Path:
    """The texts in the format of the path's name."""
    if ".jsonl" in path.name:
        data = json_lines(texts)
        path.write_bytes({".gz": gzip.compress, ".zst": zst}.get(path.suffix, bytes)(data))
    elif path.suffix == ".json":
        path.write_text(json.dumps([{"text": t} for t in texts]))
    elif path.suffix == ".csv":
        write_csv(path, texts)
    else:
        write_parquet(path, texts)
    return path


NAMES = ["a.jsonl", "a.jsonl.gz", "a.jsonl.zst", "a.json", "a.csv", "a.parquet"]


@pytest.mark.parametrize("name", NAMES)
def test_every_format_gives_the_same_documents(tmp_path, name):
    found = list(read_documents(write(tmp_path / name, TEXTS)))
    assert [d.text for d in found] == TEXTS
    assert [(d.source, d.row) for d in found] == [(name, i) for i in range(len(TEXTS))]


@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz", "a.txt.zst"])
def test_a_text_file_is_one_document_with_its_line_ends(tmp_path, name):
    data = "\ufeffone\r\ntwo\n".encode()
    (tmp_path / name).write_bytes({".gz": gzip.compress, ".zst": zst}.get(Path(name).suffix, bytes)(data))
    assert [d.text for d in read_documents(tmp_path / name)] == ["one\r\ntwo\n"]


def test_a_json_file_may_hold_one_object(tmp_path):
    (tmp_path / "a.json").write_text('{"body": "one"}')
    assert [d.text for d in read_documents(tmp_path / "a.json", text_field="body")] == ["one"]


def test_frames_of_zstd_follow_each_other(tmp_path):
    (tmp_path / "a.jsonl.zst").write_bytes(zst(json_lines(["one"])) + zst(json_lines(["two"])))
    assert [d.text for d in read_documents(tmp_path / "a.jsonl.zst")] == ["one", "two"]


def test_names_do_not_depend_on_where_the_corpus_lies_or_how_it_is_given(tmp_path, monkeypatch):
    seen = []
    for root in (tmp_path / "here", tmp_path / "there" / "deep"):
        (root / "b" / "c").mkdir(parents=True)
        for name in ("z.txt", "b/c/a.txt", "b/B.txt"):
            (root / name).write_text(name)
        (root / ".hidden.txt").write_text("hidden")
        (root / "picture.png").write_bytes(b"\x89PNG")
        monkeypatch.chdir(root)
        report = ReadReport()
        seen += [list(read_documents(root, report=report)), list(read_documents(f"{root}/**/*.txt"))]
        seen += [list(read_documents("**/*.txt")), list(read_documents("."))]
        assert report.ignored == 1
    assert all(found == seen[0] for found in seen)
    assert [d.source for d in seen[0]] == ["b/B.txt", "b/c/a.txt", "z.txt"]


def test_a_file_named_like_a_glob_is_that_file(tmp_path):
    (tmp_path / "a[1].txt").write_text("one")
    assert [d.text for d in read_documents(tmp_path / "a[1].txt")] == ["one"]


BAD = {
    "corrupt JSON": ("a.jsonl", b'{"text": "one"}\n{"text": "tw\n{"text": "three"}\n', "a.jsonl, line 2"),
    "no JSON object": ("a.jsonl", b'{"text": "one"}\n["two"]\n{"text": "three"}\n', "a.jsonl, line 2"),
    "bad encoding": ("a.jsonl", b'{"text": "one"}\n{"text": "caf\xe9"}\n{"text": "three"}\n', "a.jsonl, line 2"),
    "no text": ("a.jsonl", b'{"text": "one"}\n{"text": 2}\n{"text": "three"}\n', "a.jsonl, line 2"),
    "missing field": ("a.jsonl", b'{"text": "one"}\n{"texts": "two"}\n{"text": "three"}\n', "'texts'"),
    "binary data": ("a.json", b'[{"text": "one"}, {"text": "\\u0000"}, {"text": "three"}]', "a.json, record 1"),
    "corrupt CSV": ("a.csv", b"n,text\n1,one\n2\n3,three\n", "a.csv, line 3"),
}


@pytest.mark.parametrize("reason", BAD)
def test_a_bad_record_is_named_or_counted(tmp_path, reason):
    name, data, place = BAD[reason]
    (tmp_path / name).write_bytes(data)
    with pytest.raises(SamplewiseError, match=place):
        list(read_documents(tmp_path))
    report = ReadReport()
    assert [(d.text, d.row) for d in read_documents(tmp_path, on_error="skip", report=report)] == [
        ("one", 0),
        ("three", 2),
    ]
    assert (report.records, report.read, dict(report.skipped)) == (3, 2, {reason: 1})
    assert len(report.places) == 1


OTHER = [
    ("latin1.csv", b"text\ncaf\xe9\nplain\n", "bad encoding", ["plain"]),
    ("surrogate.jsonl", b'{"text": "\\ud800"}\n{"text": "plain"}\n', "bad encoding", ["plain"]),
    ("utf16.txt", "text".encode("utf-16-le"), "binary data", []),
    ("cut.txt", "text".encode("utf-16")[:-1], "bad encoding", []),
    ("digits.jsonl", b'{"n": ' + b"9" * 5000 + b', "text": "x"}\n{"text": "plain"}\n', "corrupt JSON", ["plain"]),
    ("deep.jsonl", b"[" * 100_000 + b'\n{"text": "plain"}\n', "corrupt JSON", ["plain"]),
    ("quote.csv", b'text\nplain\n"open\n', "corrupt CSV", ["plain"]),
    ("not.parquet", b"PAR1 nothing", "truncated or corrupt file", []),
    ("not.jsonl.gz", b"plain text", "truncated or corrupt file", []),
    ("not.jsonl.zst", b"plain text", "truncated or corrupt file", []),
    ("empty.jsonl.zst", b"", None, []),
    ("empty.json", b"", "corrupt JSON", []),
    ("nothing.csv", b"", None, []),
]


@pytest.mark.parametrize(("name", "data", "reason", "texts"), OTHER, ids=[case[0] for case in OTHER])
def test_other_damage(tmp_path, name, data, reason, texts):
    (tmp_path / name).write_bytes(data)
    (tmp_path / "z.txt").write_text("last")
    report = ReadReport()
    found = [d.text for d in read_documents(tmp_path, on_error="skip", report=report)]
    assert found == [*texts, "last"]
    assert dict(report.skipped) == ({reason: 1} if reason else {})
    if reason:
        with pytest.raises(SamplewiseError, match=name):
            list(read_documents(tmp_path))


def test_missing_columns_name_the_nearest(tmp_path):
    write_parquet(tmp_path / "a.parquet", ["one"], field="content")
    write_csv(tmp_path / "b.csv", ["one"])
    with pytest.raises(SamplewiseError, match=r"the fields n, content.*text_field='content'"):
        list(read_documents(tmp_path / "a.parquet", text_field="contents"))
    with pytest.raises(SamplewiseError, match="text_field='text'"):
        list(read_documents(tmp_path / "b.csv", text_field="test"))


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.jsonl.zst", "a.parquet", "a.json"])
@given(cut=st.floats(0.01, 0.99))
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_truncated_file_is_never_taken_for_a_whole_one(tmp_path, name, cut):
    path = write(tmp_path / name, [f"text {i * i} " * (i % 7) + "end" for i in range(200)])
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * cut)])
    report = ReadReport()
    try:
        found = list(read_documents(path, on_error="skip", report=report))
    except SamplewiseError:
        found = []
    assert sum(report.skipped.values()) == 1
    assert [d.row for d in found] == list(range(len(found)))
    with pytest.raises(SamplewiseError):
        list(read_documents(path))


@given(
    st.lists(
        st.one_of(
            st.binary(max_size=30).map(lambda b: b.replace(b"\n", b"")),
            st.dictionaries(st.sampled_from(["text", "other"]), st.one_of(st.text(max_size=9), st.integers())).map(
                lambda d: json.dumps(d).encode()
            ),
        ),
        max_size=20,
    )
)
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_counts_add_up_on_damaged_lines(tmp_path, lines):
    lines = [b'{"other": 1}', *lines]  # the first line must not look like the start of another kind of file
    (tmp_path / "a.jsonl").write_bytes(b"\n".join(lines))
    report = ReadReport()
    try:
        found = list(read_documents(tmp_path / "a.jsonl", on_error="skip", report=report))
    except SamplewiseError:
        found = []
    assert len(found) == report.read
    assert report.records == sum(bool(line.strip()) for line in lines)
    for document in found:
        assert json.loads(lines_with_content(lines)[document.row])["text"] == document.text


def lines_with_content(lines):
    return [line for line in lines if line.strip()]


@given(data=st.binary(max_size=200), name=st.sampled_from([*NAMES, "a.txt", "a.txt.gz", "a.csv.zst"]))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_bytes_raise_anything_but_our_error(tmp_path, data, name):
    (tmp_path / name).write_bytes(data)
    for on_error in ("raise", "skip"):
        with contextlib.suppress(SamplewiseError):
            list(read_documents(tmp_path / name, on_error=on_error))


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.jsonl.zst", "a.parquet"])
def test_a_bomb_is_left_out_and_what_follows_is_read(tmp_path, monkeypatch, name):
    monkeypatch.setattr("samplewise.data.formats.LONGEST", 1000)
    monkeypatch.setattr(records, "LONGEST", 1000)
    report = ReadReport()
    path = write(tmp_path / name, ["one", "x" * 100_000, "x" * 1001, "two"])
    assert [(d.text, d.row) for d in read_documents(path, on_error="skip", report=report)] == [("one", 0), ("two", 3)]
    assert dict(report.skipped) == {"too long": 2}
    (tmp_path / "a.txt").write_text("x" * 1001)
    (tmp_path / "b.json").write_text(json.dumps([{"text": "x" * 1001}]))
    for name in ("a.txt", "b.json"):
        with pytest.raises(SamplewiseError, match="at most 1000 bytes"):
            list(read_documents(tmp_path / name))


def test_a_table_that_unpacks_to_gigabytes_is_read_a_few_rows_at_a_time(tmp_path):
    """A text that is stored once and stands in 100 rows: 256 kB of memory for each, in a file of some kilobytes."""
    import pyarrow as pa

    path = write(tmp_path / "a.parquet", ["x" * 2**18] * 100)
    assert path.stat().st_size < 2**16
    before, pool = pa.default_memory_pool(), pa.system_memory_pool()
    pa.set_memory_pool(pool)
    try:
        assert sum(len(document.text) for document in read_documents(path)) == 100 * 2**18
    finally:
        pa.set_memory_pool(before)
    assert pool.max_memory() < 50 * 2**18


def test_empty_documents_are_counted_and_an_empty_corpus_is_an_error(tmp_path):
    (tmp_path / "a.txt").write_text(" \n")
    report = ReadReport()
    with pytest.raises(SamplewiseError, match="at least one document"):
        list(read_documents(tmp_path, report=report))
    assert (report.read, report.empty) == (0, 1)
    (tmp_path / "b.txt").write_text("one")
    assert len(list(read_documents(tmp_path))) == 1


def test_an_all_skipped_corpus_says_why(tmp_path):
    (tmp_path / "a.jsonl").write_text("{\n{\n")
    with pytest.raises(SamplewiseError, match=r"2 skipped \(corrupt JSON\).*First: a.jsonl, line 1"):
        list(read_documents(tmp_path, on_error="skip"))


@pytest.mark.parametrize(
    ("path", "match"),
    [("gone.txt", "nothing of that name"), ("*.txt", "no match"), ("empty", "none"), ("other", "1 files of other")],
)
def test_a_path_without_files_is_an_error_at_once(tmp_path, path, match):
    (tmp_path / "empty").mkdir()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "a.doc").write_text("one")
    with pytest.raises(SamplewiseError, match=match):
        read_documents(f"{tmp_path}/{path}")


def test_a_named_file_of_unknown_suffix_is_an_error(tmp_path):
    (tmp_path / "a.doc").write_text("one")
    (tmp_path / "b.txt").write_text("two")
    for path in ("a.doc", "*"):
        with pytest.raises(SamplewiseError, match=r"a.doc.*suffix '.doc'"):
            list(read_documents(f"{tmp_path}/{path}"))
    assert [d.text for d in read_documents(f"{tmp_path}/*", on_error="skip")] == ["two"]


def test_an_unreadable_file_is_an_error(tmp_path):
    (tmp_path / "a.txt").symlink_to(tmp_path / "gone")
    with pytest.raises(SamplewiseError, match="No such file"):
        list(read_documents(tmp_path))


def test_on_error_is_checked(tmp_path):
    with pytest.raises(SamplewiseError, match="on_error"):
        read_documents(tmp_path, on_error="ignore")  # type: ignore[arg-type]


@pytest.mark.parametrize("streaming", [False, True])
def test_a_datasets_name(monkeypatch, streaming):
    import datasets

    def load(name, config, *, split, streaming):
        assert (name, config, split) == ("org/name", "en", "validation")
        rows = datasets.Dataset.from_dict({"text": ["one", None, "two"]})
        return rows.to_iterable_dataset() if streaming else rows

    monkeypatch.setattr(datasets, "load_dataset", load)
    where = {"config": "en", "split": "validation", "streaming": streaming}
    found = list(read_documents("org/name", on_error="skip", **where))
    assert [(d.text, d.source, d.row) for d in found] == [
        ("one", "org/name/en/validation", 0),
        ("two", "org/name/en/validation", 2),
    ]


def test_an_unreachable_dataset_is_our_error(monkeypatch):
    import datasets

    def load(*_, **__):
        raise ConnectionError("Couldn't reach the hub")

    monkeypatch.setattr(datasets, "load_dataset", load)
    with pytest.raises(SamplewiseError, match="ConnectionError: Couldn't reach"):
        list(read_documents("org/name"))


@pytest.mark.parametrize(
    ("module", "name", "extra"),
    [
        ("pyarrow.parquet", "a.parquet", "corpus"),
        ("zstandard", "a.jsonl.zst", "corpus"),
        ("datasets", "org/name", "hf"),
    ],
)
def test_a_missing_extra_is_named(tmp_path, monkeypatch, module, name, extra):
    path = name if "/" in name else write(tmp_path / name, ["one"])
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(SamplewiseError, match=rf"pip install \"samplewise\[{extra}\]\""):
        list(read_documents(path))


def test_reading_is_streamed(tmp_path):
    """The first document comes before the damage at the end is met."""
    (tmp_path / "a.jsonl").write_bytes(b'{"text": "one"}\n' * 1000 + b"{")
    documents = read_documents(tmp_path / "a.jsonl")
    assert isinstance(documents, types.GeneratorType)
    assert next(documents).text == "one"


def test_the_limit_of_csv_fields_is_put_back(tmp_path):
    before = csv.field_size_limit()
    assert len(next(read_documents(write(tmp_path / "a.csv", ["x" * 200_000]))).text) == 200_000
    assert csv.field_size_limit() == before
