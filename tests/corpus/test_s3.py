"""An S3 bucket, on a server in this process (moto): dedup, score, select, report and train read it and write to it."""

import json
import logging
import signal
import subprocess
import sys
import time

import pytest
import world
from scoring import digests, table

from samplewise.corpus import open_scores
from samplewise.corpus.place import Place

moto = pytest.importorskip("moto.server", reason="moto is not installed")
s3fs = pytest.importorskip("s3fs", reason="s3fs is not installed")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

SMALL = ("--max-length", 32, "--min-tokens", 4, "--shard-bytes", 4000, "--dtype", "float32")


@pytest.fixture(scope="module")
def bucket():
    """(the file system, its bucket), with the variables by which every client of this process and below finds it."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # a line for each request
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("AWS_ACCESS_KEY_ID", "anyone")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "anything")
        patch.setenv("NO_PROXY", "127.0.0.1")
        files = s3fs.S3FileSystem(use_listings_cache=False)
        files.mkdir("bucket")
        yield files
    server.stop()


@pytest.fixture(scope="module")
def given(bucket, corpus):
    """A corpus of two files in the bucket, and the same here."""
    lines = corpus.read_text().splitlines(keepends=True)
    here = corpus.parent / "parts"
    here.mkdir(exist_ok=True)
    for name, part in (("a.jsonl", lines[:60]), ("b.jsonl", lines[60:])):
        (here / name).write_text("".join(part))
        bucket.pipe(f"bucket/corpus/{name}", "".join(part).encode())
    return here


@pytest.fixture(scope="module")
def scores(bucket, given, tiny_model):
    """The corpus in the bucket, scored into the bucket."""
    run("score", "--model", tiny_model, "--data", "s3://bucket/corpus", "--out", "s3://bucket/scores", *SMALL)
    return "s3://bucket/scores"


@pytest.fixture(scope="module")
def scores_here(given, tiny_model, tmp_path_factory):
    out = tmp_path_factory.mktemp("scores") / "out"
    run("score", "--model", tiny_model, "--data", given, "--out", out, *SMALL)
    return out


def run(*words):
    done = world.samplewise(*words)
    assert done.returncode == 0, done.stderr
    return done.stdout


def lines(data):
    return [json.loads(line) for line in data.splitlines()]


def test_scores_are_those_of_a_folder_here(scores, scores_here):
    assert open_scores(scores).manifest.rows_in == 120
    assert table(scores).equals(table(scores_here))


def test_a_listing_changes_no_state(scores):
    place = Place(scores)
    before = place.state("shard-00000.parquet")
    assert "shard-00000.parquet" in place.names()
    assert place.state("shard-00000.parquet") == before


def test_a_killed_score_resumes_in_the_bucket(bucket, scores_here, given, tiny_model, tmp_path):
    words = ["score", "--model", tiny_model, "--data", "s3://bucket/corpus", "--out", "s3://bucket/killed", *SMALL]
    command = [sys.executable, "-m", "samplewise", *map(str, words)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=world.ROOT)
    first = "bucket/killed/.parts/00000.done.json"
    while process.poll() is None and not bucket.exists(first):
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL, said
    assert not bucket.exists("bucket/killed/manifest.json")
    before = bucket.info("bucket/killed/shard-00000.parquet")["LastModified"]
    run(*words)
    assert bucket.info("bucket/killed/shard-00000.parquet")["LastModified"] == before
    bucket.get("bucket/killed/", str(tmp_path / "out"), recursive=True)
    ours, theirs = digests(tmp_path / "out"), digests(scores_here)
    shards = [name for name in theirs if name.endswith(".parquet")]
    assert len(shards) > 2
    assert {name: ours.get(name) for name in shards} == {name: theirs[name] for name in shards}


def test_select_asks_once_for_the_size_of_a_shard(bucket, scores, tmp_path, caplog):
    if bucket.exists("bucket/scores/.verified.json"):
        bucket.rm_file("bucket/scores/.verified.json")  # as when they are read for the first time
    with caplog.at_level(logging.INFO, logger="werkzeug"):
        run("select", scores, "--rule", "band(drop_top=0.25)", "--ids", "--out", tmp_path / "ids.parquet")
    asked = [record.getMessage() for record in caplog.records]
    assert any("GET /bucket/scores/shard-" in each for each in asked)
    shards = len(open_scores(scores).manifest.shards)
    assert sum("HEAD /bucket/scores/shard-" in each for each in asked) <= shards  # DuckDB wants a size at each opening


def test_select_writes_several_files_and_their_statement(bucket, scores, scores_here, tmp_path):
    rule = ("--rule", "band(drop_top=0.25)")
    run("select", scores, *rule, "--out", "s3://bucket/kept", "--format", "jsonl", "--shard-size", "5kB")
    run("select", scores_here, *rule, "--out", tmp_path / "kept.jsonl")
    names = sorted(name for name in bucket.ls("bucket/kept") if name.endswith(".jsonl"))
    assert len(names) > 1
    kept = [record for name in names for record in lines(bucket.cat_file(name))]
    assert kept == lines((tmp_path / "kept.jsonl").read_bytes())
    assert 0 < len(kept) < table(scores).num_rows
    run("select", scores, *rule, "--out", "s3://bucket/kept.parquet", "--control", "s3://bucket/control.parquet")
    assert json.loads(bucket.cat_file("bucket/kept.parquet.statement.json"))["all"]["kept"] == len(kept)


def test_report_reads_scores_and_texts_there(scores, tmp_path):
    run("report", scores, "--out", tmp_path / "report.html")
    assert "120" in (tmp_path / "report.html").read_text()


def test_dedup_reads_and_writes_there(bucket, corpus):
    twice = corpus.read_bytes().splitlines(keepends=True)
    bucket.pipe("bucket/twice/a.jsonl", b"".join(twice + twice[:10]))
    run("dedup", "s3://bucket/twice", "--out", "s3://bucket/deduped")
    (name,) = (name for name in bucket.ls("bucket/deduped") if name.endswith(".jsonl"))
    assert lines(bucket.cat_file(name)) == lines(corpus.read_bytes())


def test_train_reads_there(bucket, given, tiny_model, tmp_path):
    run("train", world.write_run(tmp_path / "run.yaml", tiny_model, "s3://bucket/corpus", tmp_path / "out"),
        "training.max_steps=2")  # fmt: skip
    assert (tmp_path / "out" / "model").is_dir()


@pytest.mark.parametrize("words", [
    ("dedup", "s3://no-such-bucket/a", "--out", "s3://bucket/o"),
    ("dedup", "s3://bucket/corpus", "--out", "s3://no-such-bucket/o"),
    ("dedup", "s3://bucket/corpus", "--out", "s3://no-such-bucket/folder/o.jsonl"),
    ("score", "--model", "{model}", "--data", "s3://bucket/corpus", "--out", "s3://no-such-bucket/o", *SMALL),
    ("report", "s3://bucket/no-such-folder", "--out", "{model}/report.html"),
])  # fmt: skip
def test_what_is_not_there_is_one_sentence(bucket, given, tiny_model, words):
    done = world.samplewise(*(str(word).replace("{model}", str(tiny_model)) for word in words))
    assert done.returncode == 1
    assert done.stderr.startswith("samplewise: ")
    assert done.stderr.count("\n") == 1, done.stderr
    assert "bucket" in done.stderr
    assert [name.rstrip("/") for name in bucket.ls("")] == ["bucket"]  # none is created
