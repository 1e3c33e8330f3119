"""Scoring on a device: no wait for a document, the next block read ahead, memory that runs out, compiled layers."""

import json
import logging
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest
import tiny
import torch
from scoring import digests, score, table

from samplewise.core.errors import SamplewiseError
from samplewise.core.host import copying
from samplewise.corpus import device, job, losses, take
from samplewise.corpus.batching import MAX_TOKENS, MIN_TOKENS, Budget, Measured, batches, measured_tokens
from samplewise.corpus.losses import score_pieces, token_losses
from samplewise.corpus.pieces import Piece
from samplewise.corpus.score import score_corpus
from samplewise.corpus.settings import ScoreSettings, Target
from samplewise.evidence.doctor.memory import LiveBytes
from samplewise.evidence.doctor.stand_ins import on_device, waits


def pieces_of(lengths, vocabulary=tiny.VOCABULARY):
    draw = np.random.default_rng(0)
    return [Piece(draw.integers(3, vocabulary, n), 1, i, i, "x", i, 0, n, "") for i, n in enumerate(lengths)]


PIECES = pieces_of([5, 40, 17, 33, 40, 8, 21, 40, 12, 30, 9, 40])


@pytest.fixture(scope="module")
def model():
    return tiny.model("llama", attn_implementation="eager")


def test_the_host_reads_a_device_once_a_batch(model):
    want = score_pieces(model, PIECES, batch_tokens=90)
    with waits() as reads:
        found = score_pieces(on_device(tiny.model("llama", attn_implementation="eager")), PIECES, batch_tokens=90)
    ours = {where: count for where, count in reads.items() if not where.startswith("elsewhere")}
    assert sum(ours.values()) == len(list(batches([len(each.ids) for each in PIECES], 90))) == 8, ours
    for name, values in want.items():
        np.testing.assert_array_equal(found[name], values)


def test_a_device_has_the_next_batch_before_it_is_waited_for(model, monkeypatch):
    log = []

    def logged(model, batch):
        wait, number = token_losses(model, batch), sum(kind == "given" for kind, _ in log)
        log.append(("given", number))
        return lambda: (log.append(("waited", number)), wait())[1]

    monkeypatch.setattr(losses, "token_losses", logged)
    score_pieces(model, PIECES[:6], batch_tokens=90)
    given, waited = ("given", "waited")
    assert log[:5] == [(given, 0), (given, 1), (waited, 0), (given, 2), (waited, 1)]
    assert log[-1] == (waited, sum(kind == given for kind, _ in log) - 1)


class Elsewhere(torch.Tensor):
    """Numbers that say they are on a GPU."""

    device = torch.device("cuda", 0)


def test_a_copy_from_cuda_is_pinned_and_waited_for_alone(monkeypatch):
    asked, empty = [], torch.empty

    def pinned(*args, pin_memory, **kwargs):
        asked.append(("pinned", pin_memory))
        return empty(*args, **kwargs)

    event = SimpleNamespace(record=lambda stream: asked.append(stream), synchronize=lambda: asked.append("waited"))
    monkeypatch.setattr(torch, "empty", pinned)
    monkeypatch.setattr(torch.cuda, "Event", lambda: event)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: f"stream of {device}")
    wait = copying(torch.tensor([1.0, 2.0]).as_subclass(Elsewhere))
    assert asked == [("pinned", True), "stream of cuda:0"]
    assert wait().tolist() == [1.0, 2.0]
    assert asked[2:] == ["waited"]


class Full:
    """Plants an end of memory in batches of more than `limit` ids."""

    def __init__(self, limit, error):
        self.limit, self.error, self.refused = limit, error, 0

    def __call__(self, model, batch):
        if len(batch) * max(len(each.ids) for each in batch) > self.limit:
            self.refused += 1
            raise self.error
        return token_losses(model, batch)


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory."), RuntimeError("DefaultCPUAllocator: can't allocate memory")]
)
def test_where_memory_runs_out_a_batch_is_halved_and_no_number_changes(model, monkeypatch, caplog, error):
    want = score_pieces(model, PIECES, batch_tokens=400)
    monkeypatch.setattr(losses, "token_losses", full := Full(100, error))
    budget, told = Budget(400), []
    with caplog.at_level(logging.WARNING, "samplewise"):
        found = score_pieces(model, PIECES, batch_tokens=budget, done=told.append)
    for name, values in want.items():
        np.testing.assert_allclose(found[name], values, rtol=0, atol=1e-6)
    assert sum(told) == sum(each.n_tokens for each in PIECES)
    assert 1 <= budget.halved == full.refused == sum("scored in halves" in each.message for each in caplog.records)
    assert 40 <= budget.tokens <= 100
    refused = full.refused
    score_pieces(model, PIECES, batch_tokens=budget)
    assert full.refused == refused, "later batches fit at once"


def test_one_piece_beyond_memory_is_an_error_and_so_is_any_other_fault(model, monkeypatch):
    monkeypatch.setattr(losses, "token_losses", Full(30, torch.OutOfMemoryError("CUDA out of memory.")))
    with pytest.raises(SamplewiseError, match=r"--max-length.*out of memory in one of 40 tokens.*smaller --max-length"):
        score_pieces(model, PIECES, batch_tokens=400)
    monkeypatch.setattr(losses, "token_losses", Full(30, RuntimeError("a shape")))
    with pytest.raises(RuntimeError, match="a shape"):
        score_pieces(model, PIECES, batch_tokens=400)


def test_a_run_says_that_memory_ran_out_and_ends_with_the_same_scores(tiny_model, corpus, tmp_path, monkeypatch):
    score(tiny_model, corpus, tmp_path / "plain", batch_tokens=400)
    monkeypatch.setattr(losses, "token_losses", Full(250, torch.OutOfMemoryError("CUDA out of memory.")))
    said, target = [], Target(str(tiny_model), str(corpus), str(tmp_path / "out"), dtype="float32")
    given = {"max_length": 32, "min_tokens": 4, "shard_bytes": 4000, "batch_tokens": 400}
    score_corpus(target, say=said.append, **given)
    ours, theirs = table(tmp_path / "out"), table(tmp_path / "plain")
    assert ours["id"] == theirs["id"]
    np.testing.assert_allclose(ours["loss"], theirs["loss"], rtol=0, atol=1e-6)
    assert [line for line in said if line.startswith("memory")] == [
        "memory     ran out once; batches were halved, in the end to 192 tokens"
    ]


def live(work, _):
    with LiveBytes() as found:
        work()
    return found.peak


@pytest.mark.parametrize("free", [40 * 10**6, 80 * 10**6])
def test_a_batch_of_the_measured_size_fits_and_uses_what_is_free(model, monkeypatch, free):
    monkeypatch.setattr(device, "peak_bytes", live)
    monkeypatch.setattr(device, "free_bytes", lambda _: free)
    found = device.measured(model, longest=64)
    assert MIN_TOKENS < found.tokens < MAX_TOKENS
    rows = [device.random_piece(model, 64)] * (found.tokens // 64)
    with torch.no_grad():
        taken = live(lambda: token_losses(model, rows)(), None)
    assert 0.7 * free <= taken <= 0.85 * free


def test_the_measured_size_has_bounds():
    def full(rows):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    assert measured_tokens(full, 10**9, 512).tokens == MIN_TOKENS
    assert measured_tokens(lambda rows: 10**9 + rows, 10**8, 512).tokens == MIN_TOKENS
    assert measured_tokens(lambda rows: 10**3, 10**9, 512).tokens == MAX_TOKENS
    with pytest.raises(ValueError, match="another"):
        measured_tokens(lambda rows: (_ for _ in ()).throw(ValueError("another")), 1, 2)


def test_memory_is_measured_on_a_gpu_where_nobody_gave_a_budget(monkeypatch):
    asked = []

    def measured(model, longest):
        asked.append(longest)
        return Measured(5000, 2e6, 0.0, 16 * 10**9)

    monkeypatch.setattr(job, "measured", measured)

    def on(kind, budget):
        place = SimpleNamespace(device=torch.device(kind))
        model = SimpleNamespace(parameters=lambda: iter([place]))
        return SimpleNamespace(settings=ScoreSettings(stride=9), budget=Budget(budget), model=model)

    gpu = on("cuda", None)
    assert job.measure(gpu) == "batches    of at most 5,000 tokens: 16.0 GB are free, 2.00 MB a token"
    assert (gpu.budget.tokens, asked) == (5000, [512 + 8])
    assert job.measure(gpu) is job.measure(on("cuda", 300)) is None
    begun_on_a_gpu = on("cpu", None)
    assert job.measure(begun_on_a_gpu) is None
    assert begun_on_a_gpu.budget.tokens == ScoreSettings().batch_tokens
    assert asked == [520]


def test_the_next_block_is_read_while_one_is_scored_and_no_other(tiny_model, corpus, tmp_path, monkeypatch):
    read, scored, ahead, lock = [], [], [], threading.Condition()
    original, scoring = take.Taker._read, job.score_block

    def reading(self, index, claim):
        taken = original(self, index, claim)
        with lock:
            read.append((index, threading.current_thread() is threading.main_thread()))
            lock.notify()
        return taken

    def waiting(*args, **kwargs):
        with lock:
            ahead.append(lock.wait_for(lambda: len(read) > len(scored) + 1, timeout=5 if len(scored) < 2 else 0.01))
        scored.append(len(read))
        return scoring(*args, **kwargs)

    monkeypatch.setattr(take.Taker, "_read", reading)
    monkeypatch.setattr(job, "score_block", waiting)
    score(tiny_model, corpus, tmp_path / "out")
    assert ahead[:2] == [True, True]
    assert all(there <= number + 2 for number, there in enumerate(scored))
    assert [index for index, _ in read] == list(range(len(scored)))
    assert [main for _, main in read] == [True] + [False] * (len(read) - 1)


def test_a_run_that_fails_gives_back_what_it_took_ahead(tiny_model, corpus, tmp_path, monkeypatch):
    score(tiny_model, corpus, tmp_path / "plain")
    scoring, calls = job.score_block, []

    def failing(*args, **kwargs):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return scoring(*args, **kwargs)

    monkeypatch.setattr(job, "score_block", failing)
    with pytest.raises(KeyboardInterrupt):
        score(tiny_model, corpus, tmp_path / "out")
    score(tiny_model, corpus, tmp_path / "out")  # in this process, which held the locks
    assert digests(tmp_path / "out") == digests(tmp_path / "plain")


@pytest.mark.parametrize(("shards", "taken_ahead"), [(3, False), (12, True)])
def test_ranks_take_ahead_only_where_enough_is_left_for_all(tiny_model, tmp_path, shards, taken_ahead):
    data = tmp_path / "data.jsonl"
    data.write_text("".join(json.dumps({"text": "w1 w2 w3 w4 " * 10}) + "\n" for _ in range(shards)))
    target = Target(str(tiny_model), str(data), str(tmp_path / "out"), dtype="float32")
    ready = job.prepare(target, {"max_length": 32, "min_tokens": 4, "shard_bytes": 100})
    blocks = take.each_taken(ready, 0, 2)
    assert next(blocks).index == 0
    until = time.monotonic() + 60
    while taken_ahead and ready.parts.mark(1) is None:  # the thread has the claim once its mark is there
        assert time.monotonic() < until
        time.sleep(0.01)
    later = 2  # of two shards that two ranks have to themselves
    again = take.Taker(ready, 1, 2)
    found = [again.take().index]
    blocks.close()
    assert found == [later if taken_ahead else later - 1]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch's own, as it imports its compiler
def test_compiled_layers_give_the_same_scores(tiny_model, corpus, tmp_path):
    score(tiny_model, corpus, tmp_path / "plain")
    manifest = score(tiny_model, corpus, tmp_path / "out", compiled=True)
    ours, theirs = table(tmp_path / "out"), table(tmp_path / "plain")
    assert ours["id"] == theirs["id"]
    np.testing.assert_allclose(ours["loss"], theirs["loss"], rtol=0, atol=2e-6)
    assert manifest.fingerprints["settings"]["compiled"] is True


def test_every_layer_is_compiled_and_nothing_else(model, monkeypatch):
    own, calls = tiny.model("llama"), []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self, **given: calls.append((self, given)))
    device.compile_layers(own)
    assert calls == [(layer, {"dynamic": True}) for layer in own.model.layers]
    own._no_split_modules = None
    with pytest.raises(SamplewiseError, match=r"--compile.*names its layers"):
        device.compile_layers(own)


@pytest.mark.parametrize(
    ("result", "words"),
    [
        (RuntimeError("no C++ compiler found"), "RuntimeError: no C.. compiler found"),
        (0.05, "the losses of the model as it is, got others, by"),
    ],
)
def test_layers_that_cannot_be_compiled_are_refused_before_the_folder_begins(
    tiny_model, corpus, tmp_path, monkeypatch, result, words
):
    def broken(self, **_):
        plain = self.forward

        def forward(hidden, **given):
            if isinstance(result, Exception):
                raise result
            return plain(hidden, **given) * (1 + result)

        self.forward = forward

    monkeypatch.setattr(torch.nn.Module, "compile", broken)
    with pytest.raises(SamplewiseError, match=rf"--compile.*{words}.*without --compile"):
        score(tiny_model, corpus, tmp_path / "out", compiled=True)
    assert not (tmp_path / "out").exists()


def test_a_folder_remembers_whether_layers_were_compiled(tiny_model, corpus, tmp_path, monkeypatch):
    compiled = []
    monkeypatch.setattr(job, "compile_layers", compiled.append)
    score(tiny_model, corpus, tmp_path / "out", limit=10)
    with pytest.raises(SamplewiseError, match=r"settings\.compiled was False and is now True"):
        score(tiny_model, corpus, tmp_path / "out", limit=10, compiled=True)
    score(tiny_model, corpus, tmp_path / "out", limit=10, column="again", compiled=True)
    assert len(compiled) == 1, "of the column; a finished folder needs none"
    monkeypatch.setattr(job, "score_block", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        score(tiny_model, corpus, tmp_path / "other", limit=10, compiled=True)
    monkeypatch.undo()
    monkeypatch.setattr(job, "compile_layers", compiled.append)
    score(tiny_model, corpus, tmp_path / "other", limit=10)  # resumed without the option: as it was begun
    assert len(compiled) == 3
