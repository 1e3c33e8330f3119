"""`samplewise doctor` finds what is wrong: planted faults fail by name, and nothing else does."""

import json
import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch

from samplewise.core.errors import SamplewiseError
from samplewise.evidence.doctor import agreement, examine, in_dtypes, kernels, memory, paths, stand_ins, waits
from samplewise.evidence.doctor.checks import Check, as_json, verdict
from samplewise.evidence.doctor.documents import even_rows, random_documents
from samplewise.evidence.doctor.machine import device_of
from samplewise.evidence.doctor.shapes import build, default_shape
from samplewise.losses.head import find_head
from samplewise.losses.kernels.chunked import Work
from samplewise.losses.kernels.gradients import HeadGradient

CPU = torch.device("cpu")
SMALL = examine.Size(4, 32, 256, 32, 128)


def small(**changes):
    return build("tiny", CPU, **{"vocab_size": 512, "hidden_size": 32, **changes})


def compared(model) -> list[Check]:
    """The fp32 cases of the tilted rule."""
    documents = random_documents(512, agreement.COUNT, 16, CPU)
    right = agreement.exact(model, documents, agreement.TILT)
    return list(agreement.compare(model, documents, agreement.TILT, right, "fp32"))


def counted() -> list[Check]:
    model = build("tiny", CPU, vocab_size=64, hidden_size=16, attn_implementation="eager")
    found = waits.check_waits(stand_ins.on_device(model), stand_ins.waits, "")
    return [next(found) for _ in range(2)]  # one pass, padded: chunks of the default size, and small ones


def test_every_form_agrees_in_every_dtype(monkeypatch):
    monkeypatch.setattr(in_dtypes, "LONGEST", 16)
    monkeypatch.setattr(in_dtypes, "free_bytes", lambda device: 2**40)
    model = small()
    found = list(in_dtypes.agreement_in_dtypes(model, CPU, has_bf16=True))
    assert {each.outcome for each in found} == {"pass"}, [each.line() for each in found]
    assert len(found) == 5 + 4 + 4
    assert find_head(model).weight.dtype == torch.bfloat16
    off = found[0].figures["ours"]
    assert 0 < off["losses"] < 1e-5, "not nothing compared with nothing"


@pytest.mark.parametrize(("factor", "worst"), [(1.001, "gradient"), (float("nan"), "gradient")])
def test_a_wrong_factor_fails(factor, worst, monkeypatch):
    weights = Work.weights
    monkeypatch.setattr(Work, "weights", lambda self, *args: weights(self, *args) * factor)
    found = compared(small())
    assert {each.outcome for each in found} == {"fail"}
    assert worst in found[0].text
    assert str(verdict(found)).startswith("FAIL: fp32: padded, one micro-batch; fp32: padded, two, small chunks")
    assert next(kernels.check_kernels(CPU, [torch.float32])).outcome == "fail", "and the kernel alone shows it"


def test_a_wrong_gradient_of_the_head_is_named(monkeypatch):
    add = HeadGradient.add
    monkeypatch.setattr(HeadGradient, "add", lambda self, a, b, weight: add(self, a, b, weight * 1.001))
    for each in compared(small()):
        assert each.outcome == "fail"
        assert each.figures["worst"] == "gradient of the head"
        assert each.figures["ours"]["other gradients"] < 1e-5


def test_a_wrong_weight_is_named(monkeypatch):
    monkeypatch.setitem(agreement.WEIGH, agreement.TILT, lambda loss, weight: torch.softmax(1.01 * loss, 0))
    assert {each.outcome for each in compared(small())} == {"fail"}


def test_a_read_in_every_chunk_fails(monkeypatch):
    """Without it both pass: `tests/engine/test_waits.py`, and the command below."""
    score = Work.score

    def waiting(self, where, gradient):
        found = score(self, where, gradient)
        self.token_loss.sum().item()
        return found

    monkeypatch.setattr(Work, "score", waiting)
    large_chunks, small_chunks = counted()
    assert small_chunks.outcome == "fail"
    assert small_chunks.figures["found"] > large_chunks.figures["found"] > waits.BOUND


@pytest.mark.filterwarnings("ignore:of something else")
def test_waits_of_a_device_are_counted_by_line(monkeypatch):
    """torch's warning, as it comes on CUDA; the mode is set and put back."""
    modes = [0]
    monkeypatch.setattr(torch.cuda, "get_sync_debug_mode", lambda: modes[-1])
    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", modes.append)
    code = compile("import warnings\nwarnings.warn(text)", f"{stand_ins.PACKAGE}/losses/some.py", "exec")
    with waits.cuda_waits() as found:
        for text in (f"{waits.SYNCHRONIZES} (Triggered internally)", "of something else"):
            exec(code, {"text": text})
            exec(code, {"text": text})
        warnings.warn(f"{waits.SYNCHRONIZES} of a test", stacklevel=1)
    assert found == {"losses/some.py:2": 2, "elsewhere": 1}
    assert modes == [0, "warn", 0]


def test_memory_above_the_body(monkeypatch):
    model = small(vocab_size=8192)  # 16.8 MB of logits
    batch = even_rows(8192, 4, 128, CPU)
    found = examine._memory(model, CPU, examine.Size(4, 128, 0, 0, 0))
    megabytes = found.figures["megabytes"]
    logits = 4 * 128 * 8192 * 4 / 1e6
    assert 2 * logits < megabytes["plain"] - megabytes["body"] < 5 * logits
    assert found.outcome == "fail", "one chunk is half of so few logits: the limit is looked at"
    monkeypatch.setattr("samplewise.losses.kernels.plan.CPU_ROWS", 64)
    monkeypatch.setattr("samplewise.losses.kernels.plan.MIN_ROWS", 64)
    assert examine._memory(model, CPU, examine.Size(4, 128, 0, 0, 0)).outcome == "pass"
    tiny = examine._memory(small(vocab_size=64), CPU, examine.Size(4, 128, 0, 0, 0))
    assert (tiny.outcome, tiny.text.endswith("too little to be judged")) == ("info", True)
    assert memory.peak_bytes(lambda: memory.plain_step(model, batch), torch.device("mps")) is None


def test_live_bytes():
    with memory.LiveBytes() as live:
        kept = torch.zeros(1000)
        (kept + 1).mul_(2).view(10, 100)
        kept = torch.zeros(3000)
    assert live.peak == 4 * 4000
    assert live.now == 4 * 3000
    del kept
    assert live.now == 0


def test_what_runs_out_of_memory_is_not_checked_and_the_rest_is(monkeypatch):
    def full(*args, **kwargs):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has …")

    monkeypatch.setattr(examine, "agreement_in_dtypes", full)
    monkeypatch.setattr(examine, "_waits", lambda *args: [])
    monkeypatch.setattr(kernels, "check_kernels", lambda *args: [])
    monkeypatch.setattr(examine.speed, "ROUNDS", 1)
    found = {each.name: each for each in examine.examine(small(), CPU, SMALL)}
    assert found["agreement"].outcome == "not checked"
    assert (
        found["agreement"].text
        == "OutOfMemoryError: CUDA out of memory; examine a smaller one, such as --shape smollm-135m"
    )
    assert found["scoring"].outcome == "info"
    end = verdict([found["agreement"]])
    assert str(end).startswith("FAIL: not checked: agreement. The lines above say why")


def test_a_kernel_that_does_not_compile_is_the_finding():
    def broken():
        raise RuntimeError("Failed to find C compiler.\nPlease specify via CC")

    (found,) = examine.guarded("kernels", broken)
    assert found.outcome == "fail"
    assert found.text == "RuntimeError: Failed to find C compiler. Please specify via CC"
    assert "broken" in found.figures["traceback"]


def test_a_model_that_cannot_be_packed_passes_on_padded_rows(monkeypatch):
    def refuse(*args):
        raise SamplewiseError("model", expected="segments kept apart", got="others", remedy="Train on padded rows.")

    monkeypatch.setattr("samplewise.losses.attach.check_packing", refuse)
    found = compared(small())
    assert [each.outcome for each in found] == ["pass", "pass", "not checked", "not checked"]
    assert verdict(found).passed


def test_a_head_that_is_refused_ends_the_examination():
    model = small()
    model.lm_head.register_forward_hook(lambda *args: None)
    found = list(examine.examine(model, CPU, SMALL))
    assert found[-1].name == "head"
    assert "forward hooks" in found[-1].text
    assert str(verdict(found)).startswith("FAIL: head.")


def test_paths_say_what_is_there():
    model = torch.compile(build("tiny", CPU, tie_word_embeddings=True), backend="eager")
    found = {each.name: each for each in paths.check_paths(model)}
    assert found["body"].text.endswith("attention sdpa, compiled")
    assert found["head"].figures["tied to the input"]
    assert found["kernel"].figures == {
        "backend": "chunked", "why_not_triton": "Triton's is for CUDA devices, this is cpu", "rows": 512
    }  # fmt: skip


def test_gradients_that_would_not_fit_are_left_out():
    model = small()
    assert in_dtypes.narrow(model, 2**40) == 0
    frozen = in_dtypes.narrow(model, 0)
    names = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert {"lm_head.weight", "model.norm.weight", "model.layers.1.mlp.up_proj.weight"} <= names
    assert not any(name.startswith(("model.layers.0", "model.embed")) for name in names)
    assert frozen == sum(p.numel() for p in model.parameters() if not p.requires_grad)
    assert {each.outcome for each in compared(model)} == {"pass"}


@pytest.mark.skipif(not Path("/proc/meminfo").exists(), reason="Linux")
def test_memory_that_holds_files_is_free():
    pages = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert 2**20 < in_dtypes.free_bytes(CPU) <= pages


def test_devices_and_shapes_that_are_not_there():
    with pytest.raises(SamplewiseError, match=r"--device: expected cpu, cuda or mps, got 'tpu'"):
        device_of("tpu")
    if not torch.cuda.is_available():
        with pytest.raises(SamplewiseError, match=r"--device cpu\.$"):
            device_of("cuda")
    with pytest.raises(SamplewiseError, match=r"Did you mean llama-1b\?"):
        build("lama-1b", CPU)
    assert [default_shape(torch.device(each)) for each in ("cuda", "mps", "cpu")] == ["llama-1b", "smollm-135m", "tiny"]


def test_the_file_has_everything():
    checks = [Check("a", "pass", "x", {"found": 1.0}), Check("b", "fail", "y")]
    assert as_json({"model": "tiny"}, checks) == {
        "model": "tiny", "verdict": "FAIL",
        "checks": [
            {"name": "a", "outcome": "pass", "text": "x", "figures": {"found": 1.0}, "judged": True},
            {"name": "b", "outcome": "fail", "text": "y", "figures": {}, "judged": True},
        ],
    }  # fmt: skip


@pytest.mark.slow
def test_the_command_passes_on_this_machine(tmp_path):
    command = [sys.executable, "-m", "samplewise", "doctor", "--device", "cpu", "--json", str(tmp_path / "d.json")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1].startswith("PASS: ")
    assert json.loads((tmp_path / "d.json").read_text())["verdict"] == "PASS"
