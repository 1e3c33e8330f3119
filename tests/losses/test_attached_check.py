"""A packing check that raises leaves the forward as it was: what is trained on afterwards is still counted."""

from typing import Any

import pytest
import tiny

import samplewise as sw
from samplewise.losses.attach import attach_forward


def test_the_tally_is_put_back_when_the_check_raises(monkeypatch):
    def refuse(*_):
        raise sw.SamplewiseError("model", expected="packed segments kept apart", got="mixed", remedy="Pad the rows.")

    monkeypatch.setattr("samplewise.losses.attach.check_packing", refuse)
    model = tiny.model("llama")
    attached: Any = attach_forward(model)
    attached.forward.tally = tally = object()
    with pytest.raises(sw.SamplewiseError):
        attached.check_packing(model, None)
    assert attached.forward.tally is tally
