"""Places, limits and settings of a machine that a command meets: one sentence each, and data is not blamed for them."""

import errno
import subprocess
import sys

import pytest
import typer
import world
from fake_scores import write_fake_scores

from samplewise.cli.shell import reported
from samplewise.core.errors import SamplewiseError
from samplewise.core.paths import expanded
from samplewise.data.formats import read_records
from samplewise.models import load_model


def assert_said(done, *words: str) -> None:
    assert done.returncode == 1, done.stdout + done.stderr
    assert done.stderr.count("samplewise: ") == 1
    assert "unexpected" not in done.stderr
    assert len(done.stderr) < 2000
    for word in words:
        assert word in done.stderr


def test_a_current_folder_that_was_removed(tmp_path, monkeypatch):
    """torch's linear algebra would end the process with a message of its own."""
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert_said(world.samplewise("rules"), "current folder: expected one that is there, got one that was removed")


def started(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *words]
    return subprocess.run(command, capture_output=True, text=True, cwd=world.ROOT, env=world.ENVIRONMENT | environment)


def test_python_without_docstrings():
    assert_said(started("-OO", "-m", "samplewise", "rules"), "expected docstrings", "Run it without -OO")


def test_a_terminal_of_ascii():
    ascii = {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "POSIX", "PYTHONIOENCODING": ""}
    done = started("-m", "samplewise", "rules", **ascii)
    assert (done.returncode, done.stderr) == (0, "")
    assert "\\u2212" in done.stdout or "\\xd7" in done.stdout


@pytest.mark.parametrize("path", ["~no-such-user/out", "~no-such-user"])
def test_a_home_folder_that_is_not_known(tmp_path, path):
    with pytest.raises(SamplewiseError, match=r"^~no-such-user\S*: expected a path whose ~ .* Set HOME"):
        expanded(path)
    run = world.write_run(tmp_path / "run.yaml", tmp_path, tmp_path, tmp_path)
    assert_said(world.samplewise("train", run, f"output={path}"), "Set HOME, or write the path in full")


@pytest.mark.parametrize("path", ["/tmp/" + 300 * "n", "/tmp/" + 3000 * "n/"], ids=["a name", "a path"])
def test_places_whose_names_are_too_long(tmp_path, path):
    scores = write_fake_scores(tmp_path / "scores", 20)
    run = world.write_run(tmp_path / "run.yaml", tmp_path, tmp_path, tmp_path)
    for words in [
        ("select", scores, "--above", "1", "--ids", "--out", f"{path}.txt"), ("train", run, f"output={path}"),
        ("score", "--model", "m", "--data", "d", "--out", path),
    ]:  # fmt: skip
        assert_said(world.samplewise(*words), "expected ")


def test_names_of_several_lines(tmp_path):
    scores = write_fake_scores(tmp_path / "of\nscores", 20)
    out = tmp_path / "a\nb.txt"
    assert world.samplewise("select", scores, "--above", "1", "--ids", "--out", out).returncode == 0
    assert out.exists()


def test_a_link_to_itself(tmp_path):
    scores = write_fake_scores(tmp_path / "scores", 20)
    (tmp_path / "me.txt").symlink_to("me.txt")
    done = world.samplewise("select", scores, "--above", "1", "--ids", "--out", tmp_path / "me.txt")
    assert done.returncode == 0 or "unexpected" not in done.stderr


def test_scores_within_their_corpus_would_be_read_as_text(tmp_path):
    """A run that was killed could not be resumed: the corpus would have changed."""
    world.save_corpus(tmp_path / "corpus.jsonl")
    words = ("score", "--model", tmp_path, "--data", tmp_path, "--out", tmp_path / "scores")
    assert_said(world.samplewise(*words), "--out: expected a place outside the scores and the corpus")
    assert [path.name for path in tmp_path.iterdir()] == ["corpus.jsonl"]


UNMAPPED = ImportError("_duckdb.so: failed to map segment from shared object")


@pytest.mark.parametrize("error", [MemoryError(), MemoryError("std::bad_alloc"), UNMAPPED], ids=repr)
def test_too_little_memory_is_said(error, capsys, monkeypatch, tmp_path):
    with pytest.raises(typer.Exit), reported(debug=False):
        raise error
    said = capsys.readouterr().err
    assert said.startswith("samplewise: memory: expected enough of it for this work, got ")
    assert "raise the limit of the process (ulimit -v)" in said


def test_too_few_threads_are_said(capsys):
    with pytest.raises(typer.Exit), reported(debug=False):
        raise RuntimeError("can't start new thread")
    assert capsys.readouterr().err.startswith("samplewise: threads: expected enough threads, got all in use")


@pytest.mark.parametrize(
    ("error", "word"), [(MemoryError(), "enough memory"), (RuntimeError("can't start new thread"), "enough threads")]
)
def test_a_model_is_not_blamed_for_the_machine(tmp_path, monkeypatch, error, word):
    def failing(*args, **kwargs):
        raise error

    monkeypatch.setattr("transformers.AutoConfig.from_pretrained", failing)
    with pytest.raises(SamplewiseError, match=word):
        load_model(world.save_model(tmp_path / "model"))


@pytest.mark.parametrize("error", [MemoryError(), OSError(errno.EMFILE, "Too many open files")], ids=repr)
def test_a_record_is_not_blamed_for_the_machine(tmp_path, monkeypatch, error):
    """It would be quarantined as damaged, and the scores would be those of a smaller corpus."""

    def failing(*args):
        raise error

    monkeypatch.setattr("samplewise.data.formats.decompressed", failing)
    with pytest.raises(type(error)):
        list(read_records(world.save_corpus(tmp_path / "a.jsonl"), "text"))
