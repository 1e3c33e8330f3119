"""`backend="liger"` where Liger is not: one sentence with the extra that brings it."""

from importlib.metadata import PackageNotFoundError

import pytest

from samplewise.core.errors import SamplewiseError
from samplewise.losses.kernels import liger_backend, sample_losses


def test_it_is_not_installed(micro, monkeypatch):
    def absent(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr(liger_backend, "version", absent)
    with pytest.raises(
        SamplewiseError, match=r'expected the package liger-kernel, .* pip install "samplewise\[liger\]"'
    ):
        sample_losses(micro.hidden, micro.head, micro.labels, backend="liger")
