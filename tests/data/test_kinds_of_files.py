"""Files are what they hold, not what they are named; what is no data is named, and never read as data."""

import gzip
import json
import os
import subprocess
import sys
import tarfile
import zipfile

import pytest

from samplewise.core.errors import SamplewiseError
from samplewise.data import ReadReport, read_documents, read_instructions

POINTER = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'07af' * 16}\nsize 98123\n"
ROWS = [{"text": f"row {i} ☃", "n": {"deep": [i]}} for i in range(4)]
TEXTS = [row["text"] for row in ROWS]


def lines(rows, **options) -> bytes:
    return b"".join(json.dumps(row, **options).encode() + b"\n" for row in rows)


def in_a_row(rows) -> bytes:
    return "\n".join(json.dumps(row, indent=2) for row in rows).encode()


def listed(rows) -> bytes:
    return b"[\n" + b",\n".join(json.dumps(row).encode() for row in rows) + b"\n]\n"


FORMS = {
    "lines": lines(ROWS),
    "lines after blank ones": b"\n \n" + lines(ROWS),
    "lines without an end": lines(ROWS).rstrip(),
    "lines that end as on Windows": lines(ROWS).replace(b"\n", b"\r\n"),
    "lines after a mark": b"\xef\xbb\xbf" + lines(ROWS),
    "a list": json.dumps(ROWS).encode(),
    "a list, indented": json.dumps(ROWS, indent=4).encode(),
    "a list, an object a line": listed(ROWS),
    "objects in a row, indented": in_a_row(ROWS),
    "UTF-16": json.dumps(ROWS, ensure_ascii=False, indent=1).encode("utf-16"),
    "UTF-16, big-endian": b"\xfe\xff" + lines(ROWS, ensure_ascii=False).decode().encode("utf-16-be"),
    "UTF-32": lines(ROWS, ensure_ascii=False).decode().encode("utf-32"),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ["a.json", "a.jsonl", "a.json.gz", "a.jsonl.zst"])
def test_json_is_read_by_what_it_holds(tmp_path, form, name):
    import zstandard

    pack = {"gz": gzip.compress, "zst": zstandard.compress}.get(name.rpartition(".")[2], bytes)
    (tmp_path / name).write_bytes(pack(FORMS[form]))
    found = list(read_documents(tmp_path))
    assert [(d.text, d.row) for d in found] == list(zip(TEXTS, range(4), strict=True))


def test_conversations_too_are_read_by_what_their_file_holds(tmp_path):
    rows = [{"prompt": f"p{i}", "completion": "c"} for i in range(3)]
    (tmp_path / "a.json").write_bytes(lines(rows))
    (tmp_path / "b.jsonl").write_bytes(json.dumps(rows, indent=1).encode())
    assert [(c.source, c.row) for c in read_instructions(tmp_path)] == [
        (name, row) for name in ("a.json", "b.jsonl") for row in range(3)
    ]


@pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
@pytest.mark.parametrize("bad", [b'{"text": "ro', b'{"text": ', b"\xff", b'{"text": 5}'])
@pytest.mark.parametrize("place", [0, 1, 3])
def test_a_damaged_line_costs_itself_wherever_it_stands(tmp_path, name, bad, place):
    rows = lines(ROWS).splitlines()
    (tmp_path / name).write_bytes(b"\n".join([*rows[:place], bad, *rows[place:]]))
    report = ReadReport()
    found = list(read_documents(tmp_path, on_error="skip", report=report))
    assert [d.text for d in found] == TEXTS
    assert [d.row for d in found] == [row for row in range(5) if row != place]
    assert report.skipped.total() == 1
    assert f"line {place + 1}" in report.places[0]


def test_a_list_that_breaks_off_is_one_damaged_file(tmp_path):
    (tmp_path / "a.json").write_bytes(listed(ROWS)[:-9])
    report = ReadReport()
    with pytest.raises(SamplewiseError, match="corrupt JSON"):
        list(read_documents(tmp_path, on_error="skip", report=report))
    assert (report.read, report.skipped.total()) == (0, 1)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be", "utf-32"])
def test_text_and_csv_are_read_by_their_byte_order_mark(tmp_path, encoding):
    mark = "" if encoding in ("utf-16", "utf-32") else "\ufeff"
    (tmp_path / "a.txt").write_bytes((mark + "naïve\r\n☃ 𝔘").encode(encoding))
    (tmp_path / "b.csv").write_bytes((mark + 'n,text\n1,"one, ☃"\n2,two\n').encode(encoding))
    assert [d.text for d in read_documents(tmp_path)] == ["naïve\r\n☃ 𝔘", "one, ☃", "two"]


def test_compression_and_parquet_are_told_by_their_content(tmp_path):
    import pyarrow
    import pyarrow.parquet
    import zstandard

    (tmp_path / "a.jsonl").write_bytes(gzip.compress(lines(ROWS)))
    (tmp_path / "b.jsonl.gz").write_bytes(lines(ROWS))  # a download that was decompressed on the way
    (tmp_path / "c.txt.gz").write_bytes(zstandard.compress(b"one"))
    pyarrow.parquet.write_table(pyarrow.table({"text": ["two"]}), tmp_path / "d.json")
    assert [d.text for d in read_documents(tmp_path)] == [*TEXTS, *TEXTS, "one", "two"]


@pytest.mark.parametrize("log", [28, 31])
def test_zstd_looks_back_as_far_as_it_may(tmp_path, log):
    import zstandard

    options = zstandard.ZstdCompressionParameters.from_level(1, window_log=log, enable_ldm=True)
    frame = zstandard.ZstdCompressor(compression_params=options).compressobj()
    (tmp_path / "a.jsonl.zst").write_bytes(frame.compress(lines(ROWS)) + frame.flush())
    assert [d.text for d in read_documents(tmp_path)] == TEXTS


@pytest.mark.parametrize("on_error", ["raise", "skip"])
@pytest.mark.parametrize("name", ["a.jsonl", "a.json.gz", "a.jsonl.zst", "a.txt", "a.csv", "a.parquet"])
def test_pointers_of_git_lfs_are_named_and_never_read(tmp_path, name, on_error):
    (tmp_path / name).write_text(POINTER)
    (tmp_path / "b.txt").write_text("a file that was downloaded")
    for path in (tmp_path, tmp_path / name, f"{tmp_path}/*"):
        with pytest.raises(SamplewiseError, match=r"Git LFS pointer.*git lfs pull"):
            list(read_documents(path, on_error=on_error))


def test_a_long_pointer_is_no_document(tmp_path):
    (tmp_path / "a.txt").write_text(POINTER + "ext-0-foo sha256:" + "a" * 500)
    with pytest.raises(SamplewiseError, match="git lfs pull"):
        list(read_documents(tmp_path))


def test_a_clone_from_the_hub_gives_its_data_alone(tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    (data / "train-00000-of-00001.jsonl").write_bytes(lines(ROWS))
    (tmp_path / "dataset_infos.json").write_text('{"default": {}}')
    for name in ("README.md", "README.txt", "LICENSE", "license.txt", "picture.png", "script.py", "old.py"):
        (tmp_path / name).write_text("no data")
    (tmp_path / "raw.tar.gz").write_bytes(b"\x1f\x8b")
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "x.json").write_text("{}")
    report = ReadReport()
    assert [d.text for d in read_documents(tmp_path, report=report)] == TEXTS
    assert report.left_out == {
        "dataset_infos.json": 1, ".md": 1, "README.txt": 1, "LICENSE": 1, "license.txt": 1, ".png": 1, ".py": 2,
        "archives": 1,
    }  # fmt: skip
    assert report.ignored == 9
    assert report.others.startswith("; left out, as no data: 2 .py, 1 .md,")
    assert [d.text for d in read_documents(f"{tmp_path}/**/*.json*", report=report)] == TEXTS
    assert report.left_out == {"dataset_infos.json": 1}
    with pytest.raises(SamplewiseError, match="a field 'text'"):  # named by itself, it is read
        list(read_documents(tmp_path / "dataset_infos.json"))


def test_a_folder_of_save_to_disk_is_read(tmp_path):
    import datasets

    rows = datasets.Dataset.from_list(ROWS)
    rows.save_to_disk(tmp_path / "saved", num_shards=2)
    (tmp_path / "saved" / "cache-0f3a.arrow").write_bytes(next((tmp_path / "saved").glob("*.arrow")).read_bytes())
    found = list(read_documents(tmp_path / "saved"))
    assert [document.text for document in found] == [row["text"] for row in ROWS]
    assert found[0].source == "data-00000-of-00002.arrow"
    first = tmp_path / "saved" / found[0].source
    half = [document.text for document in found if document.source == first.name]
    assert [document.text for document in read_documents(first)] == half
    (tmp_path / "a.jsonl").write_bytes(first.read_bytes())
    assert [document.text for document in read_documents(tmp_path / "a.jsonl")] == half, "by content, not by name"
    first.write_bytes(first.read_bytes()[:-200])
    with pytest.raises(SamplewiseError, match=r"data-00000.*a whole file"):
        list(read_documents(first))
    with pytest.raises(SamplewiseError, match=r"a field 'body', got the fields text"):
        list(read_documents(tmp_path / "a.jsonl", text_field="body"))


def test_splits_of_save_to_disk_are_not_mixed(tmp_path):
    import datasets

    rows = datasets.Dataset.from_list(ROWS)
    datasets.DatasetDict({"train": rows, "test": rows.select([0])}).save_to_disk(tmp_path / "saved")
    for path in (tmp_path / "saved", tmp_path):
        with pytest.raises(
            SamplewiseError,
            match=r"a DatasetDict.save_to_disk with the splits test, train\. Give the folder of one.*saved/test",
        ):
            read_documents(path)
    assert len(list(read_documents(tmp_path / "saved" / "train"))) == len(ROWS)


def test_state_json_is_data_where_nothing_says_otherwise(tmp_path):
    (tmp_path / "state.json").write_bytes(lines(ROWS))
    assert len(list(read_documents(tmp_path))) == 4


def test_archives_are_named_by_suffix_and_by_content(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        file.writestr("x.txt", "text")
    with tarfile.open(tmp_path / "b.tar.gz", "w:gz") as file:
        file.add(tmp_path / "a.zip", arcname="a.zip")
    with pytest.raises(SamplewiseError, match=r"b.tar.gz.*a .txt or .json member.*got a with zip\. Unpack it"):
        list(read_documents(tmp_path))
    (tmp_path / "only").mkdir()
    (tmp_path / "only" / "a.zip").write_bytes((tmp_path / "a.zip").read_bytes())
    with pytest.raises(SamplewiseError, match=r"1 archives.*Unpack"):
        read_documents(tmp_path / "only")
    for name in ("a.zip", "b.tar.gz"):
        with pytest.raises(SamplewiseError, match="Unpack it"):
            list(read_documents(tmp_path / name))
    (tmp_path / "a.zip").rename(tmp_path / "a.csv")
    (tmp_path / "b.tar.gz").rename(tmp_path / "b.jsonl.gz")
    for name, got in (("a.csv", "a zip archive"), ("b.jsonl.gz", "a tar archive")):
        with pytest.raises(SamplewiseError, match=got):
            list(read_documents(tmp_path / name))


def test_what_is_no_regular_file_is_never_opened(tmp_path):
    os.mkfifo(tmp_path / "b.jsonl")
    (tmp_path / "c.txt").symlink_to("/dev/zero")
    (tmp_path / "a.txt").write_text("one")
    report = ReadReport()
    assert [d.text for d in read_documents(tmp_path, on_error="skip", report=report)] == ["one"]
    assert report.skipped == {"no regular file": 2}
    for path in (tmp_path, f"{tmp_path}/*"):
        with pytest.raises(SamplewiseError, match=r"b.jsonl.*a FIFO"):
            list(read_documents(path))
    with pytest.raises(SamplewiseError, match="a FIFO"):
        read_documents(tmp_path / "b.jsonl")
    with pytest.raises(SamplewiseError, match="a device"):
        read_documents("/dev/zero")


def test_loops_of_links_give_each_file_once(tmp_path):
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "a.txt").write_text("one")
    for name in ("loop", "again"):
        (tmp_path / "d" / name).symlink_to(tmp_path, target_is_directory=True)
    report = ReadReport()
    for path in (tmp_path, f"{tmp_path}/**/*.txt", f"{tmp_path}/**"):
        assert [d.source for d in read_documents(path, report=report)] == ["d/a.txt"]
    read_documents(tmp_path, report=report)
    assert report.left_out == {"links to folders": 2}


def test_a_name_that_is_no_utf8_is_written_out(tmp_path):
    folder = os.fsencode(tmp_path) + b"/caf\xe9"
    os.mkdir(folder)
    with open(folder + b"/\xff.txt", "wb") as file:
        file.write(b"one")
    for path in (tmp_path, f"{tmp_path}/**/*.txt"):
        (found,) = list(read_documents(path))
        assert (found.text, found.source) == ("one", r"caf\xe9/\xff.txt")
        found.source.encode()


_PEAK = """
import gzip, json, resource, sys
from samplewise.data import ReadReport, read_documents
report = ReadReport()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
found = [d.text for d in read_documents(sys.argv[1], on_error="skip", report=report)]
print(json.dumps([found, dict(report.skipped), (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 2**10]))
"""


@pytest.mark.parametrize("name", ["a.json.gz", "a.csv.gz"])
@pytest.mark.fast_cases("a.json.gz")
def test_a_line_of_400_mb_costs_no_more_than_the_longest_record(tmp_path, name):
    """Some 3 s: the promise is of real sizes."""
    first, start, end = (
        (b'{"text": "one"}\n', b'{"text": "', b'"}\n') if "json" in name else (b"text\none\n", b"", b"\n")
    )
    members = [first + start, *[b"x" * 2**20] * 400, end + first]
    packed = {member: gzip.compress(member) for member in set(members)}
    (tmp_path / name).write_bytes(b"".join(packed[member] for member in members))
    done = subprocess.run([sys.executable, "-c", _PEAK, str(tmp_path)], capture_output=True, text=True, check=True)
    found, skipped, peak = json.loads(done.stdout)
    assert found == (["one"] * 2 if "json" in name else ["one", "text", "one"])
    assert skipped == {"too long": 1}
    assert peak < 320  # MiB: 256 and what a buffer that grows holds beyond
