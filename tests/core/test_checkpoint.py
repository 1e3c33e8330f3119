"""A rule's state on disk: what comes back, and what is refused."""

import json
import math
from pathlib import Path

import pytest
import torch

from samplewise.core.checkpoint import (
    FOLDER,
    MARKER,
    STATE,
    TENSORS,
    check_complete,
    load_state,
    mark_complete,
    save_state,
    write_bytes,
)
from samplewise.core.errors import SamplewiseError
from samplewise.core.rule import State

STATES: dict[str, State] = {
    "empty": {},
    "numbers": {"step": 3, "0.step": 2**62, "shift": 0.1 + 0.2, "tiny": 5e-324, "huge": 1.797e308, "zero": -0.0},
    "not finite": {"nan": math.nan, "up": math.inf, "down": -math.inf},
    "tensors": {
        "window": torch.tensor([1.0, math.nan, math.inf, -0.0], dtype=torch.float64),
        "1.ids": torch.tensor([2**62 + 1, -5]),
        "half": torch.randn(3, 4).bfloat16(),
        "flags": torch.tensor([True, False]),
        "scalar": torch.tensor(2.5),
        "none": torch.zeros(0),
    },
    "both": {"step": 1, "shift": math.nan, "losses": torch.arange(5.0)},
    "a view": {"every other": torch.arange(10.0)[::2], "turned": torch.arange(6.0).view(2, 3).T},
    "shared": {"whole": (memory := torch.arange(10.0)), "part": memory[2:5], "again": memory},
    "needs grad": {"loss": torch.ones(3, requires_grad=True)},
}  # fmt: skip


def saved(folder: Path, state: State) -> Path:
    save_state(folder, state, {"rule": "ir_dro(r=1.0)", "step": 7})
    (folder / "model.safetensors").write_bytes(b"weights of the host")
    mark_complete(folder)
    return folder


def same(a: object, b: object) -> bool:
    """The same type and the same bits."""
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        return a.dtype == b.dtype and a.shape == b.shape and torch.equal(_bits(a), _bits(b))
    return type(a) is type(b) and repr(a) == repr(b)


def _bits(x: torch.Tensor) -> torch.Tensor:
    return x.detach().contiguous().reshape(-1).view(torch.uint8)


@pytest.mark.parametrize("state", STATES.values(), ids=STATES)
def test_round_trip(state, tmp_path):
    loaded = load_state(saved(tmp_path, state))
    assert loaded is not None
    restored, facts = loaded
    assert facts == {"rule": "ir_dro(r=1.0)", "step": 7}
    assert restored.keys() == state.keys()
    for key in state:
        assert same(restored[key], state[key]), key


def test_saving_again_replaces_what_was_there(tmp_path):
    saved(tmp_path, STATES["tensors"])
    loaded = load_state(saved(tmp_path, {"step": 2}))
    assert loaded is not None
    assert loaded[0] == {"step": 2}


def test_a_checkpoint_of_a_plain_run_has_no_state(tmp_path):
    assert load_state(tmp_path) is None


def test_a_checkpoint_without_its_marker_is_refused(tmp_path):
    save_state(tmp_path, STATES["both"], {})
    for read in (load_state, check_complete):
        with pytest.raises(SamplewiseError, match="expected a complete checkpoint"):
            read(tmp_path)


def test_saving_into_a_complete_checkpoint_makes_it_incomplete_first(tmp_path):
    """A run killed while it overwrites a checkpoint must not leave a marker that speaks of the old files."""
    saved(tmp_path, STATES["both"])
    save_state(tmp_path, STATES["both"], {})
    with pytest.raises(SamplewiseError, match="expected a complete checkpoint"):
        check_complete(tmp_path)


@pytest.mark.parametrize("name", [f"{FOLDER}/{STATE}", f"{FOLDER}/{TENSORS}", "model.safetensors"])
@pytest.mark.parametrize("harm", ["changed", "cut", "longer", "gone"])
def test_a_changed_byte_is_refused(name, harm, tmp_path):
    path = saved(tmp_path, STATES["both"]) / name
    data = path.read_bytes()
    if harm == "gone":
        path.unlink()
    else:
        path.write_bytes({"changed": data[:-1] + bytes([data[-1] ^ 1]), "cut": data[:-1], "longer": data + b"\n"}[harm])
    with pytest.raises(SamplewiseError, match="resume_from_checkpoint: expected"):
        check_complete(tmp_path)
    if not (harm == "gone" and name.endswith(STATE)):
        with pytest.raises(SamplewiseError, match="resume_from_checkpoint: expected"):
            load_state(tmp_path)


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'{"model.safetensors": 3}', b"\xff\xfe\x00"])
def test_a_damaged_marker_is_refused_as_well(data, tmp_path):
    """The one exception, not whatever the JSON reader throws."""
    (saved(tmp_path, STATES["both"]) / FOLDER / MARKER).write_bytes(data)
    with pytest.raises(SamplewiseError):
        check_complete(tmp_path)


def test_the_marker_names_every_file_with_its_digest(tmp_path):
    saved(tmp_path, STATES["both"])
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "rng_state.bin").write_bytes(b"1")
    mark_complete(tmp_path)
    entries = json.loads((tmp_path / FOLDER / MARKER).read_text())
    assert set(entries) == {f"{FOLDER}/{STATE}", f"{FOLDER}/{TENSORS}", "model.safetensors", "deep/rng_state.bin"}
    assert entries["deep/rng_state.bin"]["size"] == 1
    assert len(entries["deep/rng_state.bin"]["sha256"]) == 64


def test_plain_json_and_safetensors_and_nothing_left_over(tmp_path):
    saved(tmp_path, STATES["both"] | STATES["not finite"])
    files = sorted(path.name for path in (tmp_path / FOLDER).iterdir())
    assert files == sorted([STATE, TENSORS, MARKER]), "no temporary file stays"

    def strict(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    json.loads((tmp_path / FOLDER / STATE).read_text(), parse_constant=strict)
    header = int.from_bytes((tmp_path / FOLDER / TENSORS).read_bytes()[:8], "little")
    json.loads((tmp_path / FOLDER / TENSORS).read_bytes()[8 : 8 + header])


def test_a_write_that_fails_leaves_the_old_file(tmp_path):
    path = tmp_path / "file"
    write_bytes(path, b"old")
    with pytest.raises(TypeError):
        write_bytes(path, "text")  # pyright: ignore[reportArgumentType]
    assert path.read_bytes() == b"old"


def test_a_write_over_a_folder_leaves_nothing_behind(tmp_path):
    (tmp_path / "name").mkdir()
    with pytest.raises(OSError):
        write_bytes(tmp_path / "name", b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["name"]


@pytest.mark.parametrize("name", ["/dev/zero", "../../outside", "a/../../b", "\0"])
def test_a_marker_leads_to_no_file_outside_its_checkpoint(tmp_path, name):
    """A checkpoint from a stranger: /dev/zero has the size 0, and would be read for ever."""
    folder = saved(tmp_path / "checkpoint-7", {})
    entries = json.loads((folder / FOLDER / MARKER).read_text())
    entries[name] = {"size": 0, "sha256": "0"}
    (folder / FOLDER / MARKER).write_text(json.dumps(entries))
    with pytest.raises(SamplewiseError, match="a damaged "):
        check_complete(folder)
