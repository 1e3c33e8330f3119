"""WebDataset tars: samples by the names of their members; nothing in an archive is trusted."""

import gzip
import io
import subprocess
import sys
import tarfile

import pytest

from samplewise.core.errors import SamplewiseError
from samplewise.corpus.files import list_corpus
from samplewise.corpus.reader import Reader, Reading
from samplewise.data import ReadReport, read_documents, records
from samplewise.data.formats import FORMATS, read_records
from samplewise.data.records import Problem


def member(name: str, data: bytes = b"", **more: object) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for key, value in more.items():
        setattr(info, key, value)
    return info, data


def archive(path, *members, mode: str = "w", form: int = tarfile.USTAR_FORMAT):
    with tarfile.open(path, mode, format=form) as file:
        for info, data in members:
            file.addfile(info, io.BytesIO(data))
    return path


SAMPLES = (
    member("shard/0001.txt", b"one \xe2\x98\x83"), member("shard/0001.json", b'{"url": "a", "n": {"deep": [1]}}'),
    member("shard/0001.jpg", b"\xff\xd8"), member("shard/0002.json", b'{"text": "two", "url": "b"}'),
    member("shard/0002.txt", b"its own words"), member("shard/v1.0/0003.txt", b"three"),
)  # fmt: skip


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize(("name", "mode"), [("a.tar", "w"), ("a.tar.gz", "w:gz")])
def test_members_of_one_name_are_a_sample(tmp_path, form, name, mode):
    long = member(f"{'x' * 90}/{'y' * 90}/{'z' * 50}☃.txt" if form != tarfile.USTAR_FORMAT else "z.txt", b"four")
    archive(tmp_path / name, *SAMPLES, long, mode=mode, form=form)
    found = list(read_documents(tmp_path, keep=("url", "n.deep", "txt", "__key__")))
    assert [each.text for each in found] == ["one ☃", "two", "three", "four"]
    assert [(each.source, each.row) for each in found] == [(name, i) for i in range(4)]
    assert found[0].record == {"url": "a", "n.deep": [1], "txt": None, "__key__": "shard/0001"}
    assert found[1].record == {"url": "b", "n.deep": None, "txt": "its own words", "__key__": "shard/0002"}
    assert found[2].record["__key__"] == "shard/v1.0/0003"
    assert found[3].record["__key__"] == long[0].name.removesuffix(".txt")


def test_folders_links_and_other_kinds_are_passed_over(tmp_path):
    link = member("link.txt", type=tarfile.SYMTYPE, linkname="/etc/passwd")
    folder = member("a", type=tarfile.DIRTYPE)
    hard = member("hard.txt", type=tarfile.LNKTYPE, linkname="/etc/passwd")
    picture = member("0.jpg", b"no text")
    archive(tmp_path / "a.tar", folder, link, hard, picture, member("1.txt", b"one"))
    report = ReadReport()
    assert [each.text for each in read_documents(tmp_path, on_error="skip", report=report)] == ["one"]
    assert report.skipped == {"no text": 1}
    assert "0 with jpg" in report.places[0]


def test_bad_members_are_problems_of_their_own(tmp_path):
    archive(tmp_path / "a.tar", member("1.json", b'{"text": '), member("2.txt", b"\xff\xfe\xfa"),
            member("3.json", b"[1]"), member("4.txt", b"four"))  # fmt: skip
    report = ReadReport()
    assert [each.row for each in read_documents(tmp_path, on_error="skip", report=report)] == [3]
    assert report.skipped == {"corrupt JSON": 1, "bad encoding": 1, "no JSON object": 1}


def test_what_is_too_long_is_passed_over(tmp_path, monkeypatch):
    monkeypatch.setattr(records, "LONGEST", 5000)
    archive(tmp_path / "a.tar", member("1.txt", b"x" * 6000), member("2.jpg", b"x" * 9000), member("2.txt", b"two"))
    report = ReadReport()
    assert [each.text for each in read_documents(tmp_path, on_error="skip", report=report)] == ["two"]
    assert report.skipped == {"too long": 1}


@pytest.mark.parametrize(("cut", "texts"), [(700, []), (1024, ["one"]), (1200, []), (1636, ["one"])])
def test_an_archive_that_breaks_off_is_damaged_at_that_place(tmp_path, cut, texts):
    path = archive(tmp_path / "a.tar", member("1.txt", b"one"), member("2.txt", b"y" * 900))
    path.write_bytes(path.read_bytes()[:cut])
    found = list(read_records(path, None))
    assert [record["text"] for _, record in found if not isinstance(record, Problem)] == texts
    assert [record.reason for _, record in found if isinstance(record, Problem)] == (
        ["truncated or corrupt file"] if cut != 1024 else []  # between two members an archive may end
    )


@pytest.mark.parametrize("damage", [b"\x80" + b"\xff" * 11, b"\xff" * 12, b"not a number"])
def test_a_header_that_lies_about_its_size_is_damage(tmp_path, damage):
    path = archive(tmp_path / "a.tar", member("1.txt", b"one"))
    data = bytearray(path.read_bytes())
    data[124:136] = damage
    data[148:156] = b" " * 8
    data[148:156] = b"%06o\0 " % sum(data[:512])
    path.write_bytes(bytes(data))
    with pytest.raises(SamplewiseError, match="expected a whole file"):
        list(read_documents(path))


BOMB = """
import resource, sys
resource.setrlimit(resource.RLIMIT_AS, (2**30, 2**30))
from samplewise.data import ReadReport, read_documents
report = ReadReport()
print([each.text for each in read_documents(sys.argv[1], on_error="skip", report=report)], dict(report.skipped))
"""


@pytest.mark.parametrize("kind", [tarfile.GNUTYPE_LONGNAME, tarfile.REGTYPE])
def test_a_bomb_does_not_fill_the_memory(tmp_path, kind):
    """640 MB of zeros, as the name of a member or as its text, in 640 kB."""
    info = tarfile.TarInfo("bomb.txt")
    info.size, info.type = 40 * 2**24, kind
    own, data = member("1.txt", b"one")
    rest = own.tobuf() + data.ljust(512, b"\0") + bytes(1024)
    zeros = gzip.compress(bytes(2**24), 1)
    whole = gzip.compress(info.tobuf(tarfile.GNU_FORMAT)) + 40 * zeros + gzip.compress(rest)
    (tmp_path / "a.tar.gz").write_bytes(whole)
    done = subprocess.run([sys.executable, "-c", BOMB, tmp_path], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("['one']")
    assert ("too long" in done.stdout) == (kind == tarfile.REGTYPE)


def test_scoring_reads_whole_records_here_and_at_a_url(tmp_path):
    import fsspec

    path = archive(tmp_path / "a.tar", *SAMPLES)
    fsspec.filesystem("memory").pipe(f"/{tmp_path.name}/tars/a.tar", path.read_bytes())
    for place in (tmp_path, f"memory://{tmp_path.name}/tars"):
        files, _ = list_corpus(place, tuple(FORMATS))
        entries = Reader(files, Reading(keep=True)).block(2**20).entries
        assert [each.text for each in entries] == ["one ☃", "two", "three"]
        assert entries[0].record == {"__key__": "shard/0001", "jpg": None, "url": "a", "n": {"deep": [1]},
                                     "text": "one ☃"}  # fmt: skip
