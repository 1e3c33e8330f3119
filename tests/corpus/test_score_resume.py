"""A run that is killed at any moment and resumed ends with the bytes of an uninterrupted one."""

import multiprocessing
import os
import random
import signal
import time

import pytest
import world
from scoring import digests, score, table

from samplewise.core.errors import SamplewiseError
from samplewise.corpus import open_scores
from samplewise.corpus import score as scoring_module
from samplewise.corpus.claims import alone_in, folder_claimed, take_away
from samplewise.corpus.place import Place


@pytest.fixture(scope="module")
def processes():
    """Children that start in a fraction of a second, torch and transformers imported already."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["scoring", "samplewise.corpus.job", "transformers"])
    return context


def child(arguments, given, environment=None):
    os.environ.update(environment or {})
    score(*arguments, **given)


def start(processes, arguments, given=None, environment=None):
    process = processes.Process(target=child, args=(tuple(map(str, arguments)), given or {}, environment))
    process.start()
    return process


@pytest.fixture(scope="module")
def whole(tiny_model, corpus, tmp_path_factory, processes):
    """An uninterrupted run's folder, made by a child as the others are, and how long it took."""
    out = tmp_path_factory.mktemp("whole") / "out"
    start(processes, (tiny_model, corpus, out.parent / "first")).join()  # imports
    begun = time.monotonic()
    process = start(processes, (tiny_model, corpus, out))
    process.join()
    assert process.exitcode == 0
    return out, time.monotonic() - begun


def kill_and_go_on(processes, tiny_model, corpus, whole, out, kills, seed):
    """Runs, each killed at a random moment of its life, and a last one that is left alone."""
    draw = random.Random(seed)
    killed = 0
    for _ in range(kills):
        process = start(processes, (tiny_model, corpus, out))
        process.join(draw.uniform(0.1, 0.9) * whole[1])
        if process.is_alive():
            os.kill(process.pid, signal.SIGKILL)
            process.join()
            killed += 1
    process = start(processes, (tiny_model, corpus, out))
    process.join()
    assert process.exitcode == 0
    assert digests(out) == digests(whole[0])
    return killed


@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_same_bytes(processes, tiny_model, corpus, whole, tmp_path):
    kill_and_go_on(processes, tiny_model, corpus, whole, tmp_path / "out", 2, seed=0)


@pytest.mark.slow
def test_twenty_killed_runs_go_on_to_the_same_bytes(processes, tiny_model, corpus, whole, tmp_path):
    killed = runs = 0
    while killed < 20:
        runs += 1
        killed += kill_and_go_on(processes, tiny_model, corpus, whole, tmp_path / f"out{runs}", 2, seed=runs)
        assert runs < 60, "most runs end before they are killed"


class Killed(BaseException):
    """In place of SIGKILL: nothing may catch it to tidy up, and after it only the disk speaks."""


@pytest.mark.parametrize("moment", [1, 2, 3, 4, 5, 13, 14, -2, -1])
def test_killed_at_any_write(tiny_model, corpus, tmp_path, monkeypatch, moment):
    """Every file that is written is a moment to die before: run.json, marks, shards, entries, the manifest."""
    write, written = Place.write, []

    def dying(self, name, data):
        written.append(name)
        if len(written) == last:
            raise Killed
        write(self, name, data)

    monkeypatch.setattr(Place, "write", dying)
    last = None
    score(tiny_model, corpus, tmp_path / "plain")
    last = moment if moment > 0 else len(written) + 1 + moment
    written.clear()
    with pytest.raises(Killed):
        score(tiny_model, corpus, tmp_path / "out")
    last = None
    (tmp_path / "out").mkdir(exist_ok=True)
    (tmp_path / "out" / ".shard-00001.parquet.77").write_bytes(b"half of it")  # as SIGKILL leaves it
    score(tiny_model, corpus, tmp_path / "out")
    assert digests(tmp_path / "out") == digests(tmp_path / "plain")


def test_a_shard_that_changed_after_it_was_written_is_named_and_scored_again(tiny_model, corpus, tmp_path, monkeypatch):
    """One byte, the size as it was: between a kill and the resume."""
    score(tiny_model, corpus, tmp_path / "plain")
    write = Place.write

    def dying(self, name, data):
        if name.endswith("00001.done.json"):
            raise Killed
        write(self, name, data)

    monkeypatch.setattr(Place, "write", dying)
    with pytest.raises(Killed):
        score(tiny_model, corpus, tmp_path / "out")
    monkeypatch.setattr(Place, "write", write)
    shard = tmp_path / "out" / "shard-00000.parquet"
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)
    with pytest.raises(
        SamplewiseError,
        match=r"shard-00000\.parquet: expected the shard as it was written.*scores what is damaged anew",
    ):
        score(tiny_model, corpus, tmp_path / "out")
    score(tiny_model, corpus, tmp_path / "out")
    assert digests(tmp_path / "out") == digests(tmp_path / "plain")
    shard.write_bytes(data)  # and once it has finished
    with pytest.raises(SamplewiseError, match=r"shard-00000\.parquet: expected the shard as it was written"):
        score(tiny_model, corpus, tmp_path / "out")


def test_a_second_run_is_refused_while_the_first_lives_and_only_then(tiny_model, corpus, tmp_path):
    out = tmp_path / "out"
    for ranks in (1, 2):
        with folder_claimed(out / ".parts", 0, ranks), pytest.raises(SamplewiseError, match="in use"):
            score(tiny_model, corpus, out)
    score(tiny_model, corpus, out)
    assert not (out / ".parts").exists()


def test_ranks_of_one_run_share_the_folder(tmp_path):
    with folder_claimed(tmp_path / "a", 0, 2), folder_claimed(tmp_path / "a", 1, 2):
        with pytest.raises(SamplewiseError, match="in use"), folder_claimed(tmp_path / "a", 1, 2):
            pass


def test_a_folder_is_taken_away_at_once_and_the_next_run_begins_anew(tmp_path):
    """Not file by file, under the eyes of a run that begins and would miss what it has just seen."""
    folder = tmp_path / ".parts"
    with folder_claimed(folder, 0, 1):
        (folder / "run.json").write_text("{}")
    with alone_in(folder) as ours:
        assert ours
        take_away(folder)
        with folder_claimed(folder, 0, 1), alone_in(folder) as theirs:
            assert not theirs
            assert not (folder / "run.json").exists()
    assert [path.name for path in tmp_path.iterdir()] == [".parts"]


@pytest.mark.parametrize("lose", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.slow
def test_two_processes_share_the_work(processes, tiny_model, corpus, whole, tmp_path, lose):
    """Ids, counts and order as of one; and where one dies, the other or the next start takes up its shards."""
    out = tmp_path / "out"
    ranks = [
        start(processes, (tiny_model, corpus, out), environment={"RANK": str(rank), "WORLD_SIZE": "2"})
        for rank in range(2)
    ]
    if lose:
        ranks[0].join(whole[1] * 0.7)
        ranks[0].kill()
    for rank in ranks:
        rank.join()
    score(tiny_model, corpus, out)
    ours, theirs = table(out), table(whole[0])
    assert ours.drop_columns(["loss", "loss_q10", "loss_q50", "loss_q90", "loss_change"]) == theirs.drop_columns(
        ["loss", "loss_q10", "loss_q50", "loss_q90", "loss_change"]
    )
    assert ours["loss"].to_numpy() == pytest.approx(theirs["loss"].to_numpy(), abs=1e-5)
    assert open_scores(out).manifest.rows_in == 120


@pytest.mark.slow
def test_three_processes_write_the_bytes_of_one(processes, tiny_model, corpus, whole, tmp_path):
    """With one thread each, whoever has which shard."""
    environments = [{"RANK": str(rank), "WORLD_SIZE": "3"} for rank in range(3)]
    ranks = [start(processes, (tiny_model, corpus, tmp_path / "out"), environment=own) for own in environments]
    for rank in ranks:
        rank.join()
    assert digests(tmp_path / "out") == digests(whole[0])


@pytest.mark.parametrize(
    ("changed", "word"), [({"max_length": 16}, "settings.max_length was 32 and is now 16"), ({"stride": 4}, "stride")]
)
def test_changed_settings_are_refused_by_name(tiny_model, corpus, tmp_path, changed, word):
    score(tiny_model, corpus, tmp_path / "out", limit=10)
    with pytest.raises(SamplewiseError, match=word):
        score(tiny_model, corpus, tmp_path / "out", limit=10, **changed)


def test_a_changed_corpus_or_model_is_refused_by_name(tiny_model, corpus, tmp_path):
    data = tmp_path / "data.jsonl"
    data.write_text(corpus.read_text())
    score(tiny_model, data, tmp_path / "out")
    data.write_text(corpus.read_text().replace("w3", "w4", 1))
    with pytest.raises(SamplewiseError, match="where corpus was"):
        score(tiny_model, data, tmp_path / "out")
    data.write_text(corpus.read_text())
    score(tiny_model, data, tmp_path / "out")
    other = world.save_model(tmp_path / "gpt2", "gpt2")
    with pytest.raises(SamplewiseError, match="where model was"):
        score(other, data, tmp_path / "out")


def test_a_folder_of_other_files_is_left_alone(tiny_model, corpus, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(SamplewiseError, match=r"notes\.txt"):
        score(tiny_model, corpus, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
    with pytest.raises(SamplewiseError):
        score(tiny_model, tmp_path / "nothing.jsonl", tmp_path / "deep" / "out")
    assert not (tmp_path / "deep").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_scoring_that_is_ended_says_that_the_same_command_resumes(tiny_model, tmp_path, monkeypatch, number):
    data = tmp_path / "data.jsonl"
    data.write_text("".join(f'{{"text": "w1 w2 w3 w{i} w5"}}\n' for i in range(30)))
    words = ("score", "--model", tiny_model, "--data", data, "--shard-bytes", 100, "--max-length", 16)
    work, begun = scoring_module.work, []

    def ended(*arguments):
        begun.append(arguments[1])
        if len(begun) == 3:
            signal.raise_signal(number)
        return work(*arguments)

    monkeypatch.setattr(scoring_module, "work", ended)
    before = signal.getsignal(number)
    stopped = world.samplewise(*words, "--out", tmp_path / "out")
    assert stopped.returncode == 130
    assert stopped.stderr.splitlines()[-1] == "stopped: the same command resumes"
    assert signal.getsignal(number) is before
    kept = {path.name: path.stat().st_ino for path in (tmp_path / "out").glob("*.parquet")}
    assert len(kept) == 2
    assert world.samplewise(*words, "--out", tmp_path / "out").returncode == 0
    assert {name: (tmp_path / "out" / name).stat().st_ino for name in kept} == kept


def test_a_ray_that_does_not_start_is_one_sentence_and_the_command_resumes(tiny_model, corpus, tmp_path, monkeypatch):
    from types import SimpleNamespace

    from samplewise.corpus import ray_driver, ray_engine

    starts = []

    def late(**options):
        starts.append(options)
        raise Exception("The current node timed out during startup.")

    errors = SimpleNamespace(RayError=KeyError, RayTaskError=KeyError)
    cluster = SimpleNamespace(init=late, shutdown=lambda: None, exceptions=errors)
    monkeypatch.setattr(ray_driver, "import_module", lambda name: cluster)
    monkeypatch.setattr(ray_engine, "drive_apart", ray_driver.drive)
    with pytest.raises(SamplewiseError, match=r"--engine ray: expected a Ray cluster .* timed out during startup"):
        score(tiny_model, corpus, tmp_path / "out", engine="ray", workers=2)
    assert len(starts) == ray_engine.TRIES
    score(tiny_model, corpus, tmp_path / "out")
    score(tiny_model, corpus, tmp_path / "plain")
    assert digests(tmp_path / "out") == digests(tmp_path / "plain")
