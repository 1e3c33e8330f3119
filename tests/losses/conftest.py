import pytest

from samplewise.losses.kernels import torch_backend


def pytest_collection_modifyitems(items):
    """What is about torch's own kernel is skipped where torch has none, before 2.13."""
    if torch_backend.OPTIONS is not None:
        return
    for item in items:
        params = item.callspec.params if hasattr(item, "callspec") else {}
        if "torch" in (params.get("backend"), params.get("way")):
            item.add_marker(pytest.mark.skip(reason="torch has no linear_cross_entropy with options before 2.13"))
