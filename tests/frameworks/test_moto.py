"""An S3 bucket, on a server of this machine (moto): a corpus there is scored, selected, deduplicated and trained on.

Needs `moto[server]` and `s3fs`, which pin many packages; without them the tests are skipped:

    python -m venv --system-site-packages build/s3 && build/s3/bin/pip install "moto[server]" s3fs
    build/s3/bin/python -m pytest tests/corpus/test_s3.py
"""

import json
import os
import subprocess
import sys
import time

import pytest
import world

fsspec = pytest.importorskip("fsspec")
pytest.importorskip("s3fs", reason="s3fs is not installed")
pytest.importorskip("moto", reason="moto is not installed")
pytestmark = pytest.mark.slow
BUCKET = "bucket"


@pytest.fixture(scope="module")
def environment():
    """A bucket on a server of its own, and the variables by which every client finds it."""
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-p", "0"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        assert server.stdout is not None
        address = next(line.split()[-1] for line in server.stdout if "http://" in line)
        known = {
            "AWS_ENDPOINT_URL": address, "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b",
            "AWS_DEFAULT_REGION": "us-east-1",
        }  # fmt: skip
        os.environ.update(known)
        files = fsspec.filesystem("s3")
        for _ in range(50):
            try:
                files.mkdir(f"s3://{BUCKET}")
                break
            except OSError:
                time.sleep(0.2)
        yield {**world.ENVIRONMENT, **known}
    finally:
        for name in known:
            os.environ.pop(name, None)
        server.kill()
        server.wait()


def run(environment, *words: object) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "samplewise", *map(str, words)], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.timeout(500)
def test_a_corpus_in_a_bucket_goes_all_the_way(environment, tiny_model, tmp_path):
    here = world.save_corpus(tmp_path / "corpus.jsonl")
    files = fsspec.filesystem("s3")
    files.pipe(f"{BUCKET}/corpus/part.jsonl", here.read_bytes())
    place = f"s3://{BUCKET}"
    run(environment, "dedup", f"{place}/corpus", "--out", f"{place}/deduped/part.jsonl")
    small = ("--max-length", 32, "--min-tokens", 4, "--shard-bytes", 4000, "--dtype", "float32")
    run(environment, "score", "--model", tiny_model, "--data", f"{place}/corpus", "--out", f"{place}/scores", *small)
    out = f"{place}/selected.jsonl.zst"
    said = run(environment, "select", f"{place}/scores", "--rule", "band(drop_top=0.5)", "--out", out)
    assert "kept" in said
    assert json.loads(files.cat(f"{BUCKET}/selected.jsonl.zst.statement.json"))["all"]["kept"] > 0
    run_file = world.write_run(tmp_path / "run.yaml", tiny_model, out, tmp_path / "trained")
    run(environment, "train", run_file, "training.max_steps=2")
    assert (tmp_path / "trained" / "model").is_dir()


def test_a_bucket_that_is_not_there_is_one_sentence(environment, tmp_path):
    command = [sys.executable, "-m", "samplewise", "dedup", "s3://no-such-bucket/a", "--out", str(tmp_path / "o.jsonl")]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 1
    assert done.stderr.startswith("samplewise: s3://no-such-bucket/a: expected ")
    assert done.stderr.count("\n") == 1
