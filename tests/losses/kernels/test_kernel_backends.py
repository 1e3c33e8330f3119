"""Which kernels are used: those asked for, or an error; else Triton's where they can run, or the chunked ones."""

import logging
from dataclasses import replace
from types import SimpleNamespace

import pytest
import tiny
import torch

from samplewise.core.errors import SamplewiseError
from samplewise.engine.observers import StatelessObserver
from samplewise.losses.kernels import api, backends, fallbacks
from samplewise.losses.kernels.inputs import Inputs
from samplewise.trainers import WeightedStep, WeightedTrainer


class OnCuda(torch.Tensor):
    """Numbers that say they are on a GPU."""

    device = torch.device("cuda", 0)


@pytest.fixture
def machine(monkeypatch):
    """A GPU with a triton, both as a test says."""

    def put(*, version=(3, 9), capability=(9, 0), fault=None):
        monkeypatch.setattr(backends, "find_spec", lambda name: None if version is None else SimpleNamespace())
        monkeypatch.setattr(backends, "_triton", lambda: version)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
        monkeypatch.setattr(backends, "fault", lambda device: fault)
        fallbacks._say.cache_clear()

    yield put
    fallbacks._say.cache_clear()


def inputs(vocabulary=32, dtype=torch.float32) -> Inputs:
    hidden = torch.zeros(1, 3, 4, dtype=dtype).as_subclass(OnCuda)
    head = torch.zeros(1, 4, dtype=dtype).expand(vocabulary, 4)
    return Inputs(hidden, head, torch.ones(1, 3, dtype=torch.int64))


OBSTACLES = {
    "no triton": ({"version": None}, {}, r"triton is not installed: pip install 'samplewise\[triton\]'"),
    "an old one": ({"version": (3, 5)}, {}, r"triton 3\.5, older than 3\.6: pip install -U triton"),
    "an old GPU": ({"capability": (7, 5)}, {}, r"compute capability 7\.5, below 8\.0"),
    "a vocabulary": ({}, {"vocabulary": 2**20 + 1}, r"a vocabulary of 1048577, above 1048576"),
    "fp64": ({}, {"dtype": torch.float64}, r"fp64"),
    "a kernel": ({"fault": "its kernel does not run: no C compiler"}, {}, r"its kernel does not run: no C compiler"),
}


@pytest.mark.parametrize(("there", "given", "why"), OBSTACLES.values(), ids=OBSTACLES)
def test_what_cannot_run_is_an_error_or_the_chunked_kernels_and_a_line(machine, caplog, there, given, why):
    machine(**there)
    with pytest.raises(SamplewiseError, match=rf"^backend: expected 'triton' where it can run, got {why}.*\"chunked\""):
        backends.resolve("triton", inputs(**given))
    with caplog.at_level(logging.WARNING, "samplewise"):
        assert [backends.resolve("auto", inputs(**given)) for _ in range(3)] == ["chunked"] * 3
    (line,) = caplog.messages
    assert line.startswith("the Triton kernels are not used, the chunked ones are, which are as exact: ")


class Counts(StatelessObserver):
    """What each step fell back on."""

    def __init__(self):
        self.found = []

    def on_step(self, result):
        self.found.append(dict(result.fallbacks))


@pytest.mark.parametrize("there", [{"version": None}, {"capability": (7, 5)}], ids=["no triton", "an old GPU"])
def test_steps_that_fall_back_are_counted_and_said_once(machine, monkeypatch, caplog, tmp_path, there):
    """Every forward of the kernels: the first step scores, trains, and is checked; the second trains alone."""
    machine(**there)
    on_cuda = lambda inputs: replace(inputs, hidden=inputs.hidden.as_subclass(OnCuda))  # noqa: E731
    counts, options = Counts(), {"train_dataset": tiny.Rows(16), "data_collator": tiny.collate, "rule": "ir_dro(r=1.0)"}
    plain = WeightedTrainer(tiny.model(), tiny.arguments(tmp_path), observers=[counts], **options)
    plain.train()
    with monkeypatch.context() as patched, caplog.at_level(logging.WARNING, "samplewise"):
        patched.setattr(api, "resolve", lambda backend, inputs: backends.resolve(backend, on_cuda(inputs)))
        trainer = WeightedTrainer(tiny.model(), tiny.arguments(tmp_path), observers=[counts], **options)
        trainer.train()
    assert counts.found[:2] == [{}, {}]
    assert [list(each.values()) for each in counts.found[2:]] == [[2 + 2 + 1], [2]]
    key = "samplewise/kernel_fallbacks"
    assert [log.get(key) for log in trainer.state.log_history if "loss" in log] == [5, 2]
    assert not any(key in log for log in plain.state.log_history)
    (reason,) = counts.found[3]
    assert [line for line in caplog.messages if "Triton" in line] == [
        f"the Triton kernels are not used, the chunked ones are, which are as exact: {reason}"
    ]
    losses = [[log["loss"] for log in each.state.log_history if "loss" in log] for each in (plain, trainer)]
    assert losses[0] == losses[1]


def test_where_nothing_is_in_the_way_a_gpu_has_tritons(machine):
    machine()
    assert [backends.resolve(name, inputs(2**20)) for name in ("auto", "triton", "chunked")] == [
        "triton", "triton", "chunked"
    ]  # fmt: skip


def test_a_loop_trains_with_the_kernels_that_were_asked_for(monkeypatch):
    """torch core's, which run here: the same gradient by another way."""
    from samplewise.losses.kernels import torch_backend

    called, losses = [], torch_backend.losses
    monkeypatch.setattr(torch_backend, "losses", lambda *args: called.append(1) or losses(*args))
    found = []
    for backend in ("chunked", "torch"):
        model = tiny.model()
        step = WeightedStep(model, "ir_dro(r=1.0)", backend=backend)
        for number in range(2):  # the first in two passes, the second in one
            model.zero_grad()
            rows = range(8 * number, 8 * number + 8)
            batch = tiny.collate([tiny.Rows(16)[i] for i in rows])
            for micro in step.plan([{**batch, "sample_id": torch.tensor(rows)}]):
                step.backward(micro)
            step.finish()
        found.append(torch.cat([parameter.grad.flatten() for parameter in model.parameters()]))
        assert bool(called) == (backend == "torch")
    torch.testing.assert_close(found[1], found[0], rtol=1e-4, atol=1e-6)


def test_what_was_asked_for_and_cannot_run_ends_in_a_sentence(tmp_path):
    options = {"train_dataset": tiny.Rows(16), "data_collator": tiny.collate, "rule": "uniform()"}
    for backend, got in (("triton", "triton is not installed|no compiler"), ("liger", "liger-kernel|CUDA device")):
        trainer = WeightedTrainer(tiny.model(), tiny.arguments(tmp_path), backend=backend, logits="allow", **options)
        with pytest.raises(SamplewiseError, match=got):
            trainer.train()
    with pytest.raises(SamplewiseError, match=r"^backend: expected .*'liger', got 'cuda'"):
        WeightedTrainer(tiny.model(), tiny.arguments(tmp_path), backend="cuda", **options)


def test_kernels_without_a_use_are_refused(tmp_path, monkeypatch):
    with pytest.raises(SamplewiseError, match=r"^backend: expected no loss function of your own"):
        WeightedStep(tiny.model(), "uniform()", backend="torch", losses=lambda model, micro: None)
    tiny.without_plain_head(monkeypatch)
    with pytest.raises(SamplewiseError, match=r"a plain nn\.Linear"):
        WeightedStep(tiny.model(), "uniform()", backend="torch", logits="allow")
