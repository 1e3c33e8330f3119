"""Tests run offline, on the CPU, with one torch thread each: two that spin slow a step 40-fold beside another job."""

import gc
import os

import pytest
from hypothesis import settings

collect_ignore = [
    "ranks/worker.py",
    "ranks/group.py",
    "ranks/killed.py",
    "ranks/met.py",
    "ranks/loops.py",
    "ranks/epochs_of_ranks.py",
    "ranks/fsdp2.py",
]  # programs, not modules
collect_ignore_glob = [
    "alone/*",  # programs too, each for an environment of its own
    "*/conftest.py",  # as in the folder above, which this list replaces here
]

settings.register_profile("untimed", deadline=None)  # a busy machine, or a first import, is no failure
settings.load_profile("untimed")

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_DATASETS_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")


@pytest.hookimpl(tryfirst=True)  # before -m leaves out what is slow
def pytest_collection_modifyitems(items):
    """Of a test with `fast_cases`, the named ones run in the fast suite, the others in `make test-all` alone."""
    found: dict[str, set[str]] = {}
    for item in items:
        if (mark := item.get_closest_marker("fast_cases")) is not None:
            ids = found.setdefault(item.nodeid.split("[")[0], set(mark.args))
            ids.discard(item.callspec.id)
            if item.callspec.id not in mark.args:
                item.add_marker(pytest.mark.slow)
    wrong = {name: ids for name, ids in found.items() if ids}
    if wrong and not any("[" in argument for argument in items[0].config.args):
        raise pytest.UsageError(f"fast_cases names cases that do not exist: {wrong}")


def pytest_collection_finish(session):
    """Leave what is imported out of collections: accelerate asks for one at each `train()`, half of a small test."""
    gc.collect()
    gc.freeze()


def pytest_unconfigure(config):
    """The last line: what was skipped, by reason."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None:
        return
    reasons: dict[str, int] = {}
    for report in reporter.stats.get("skipped", []):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        reasons[reason] = reasons.get(reason, 0) + 1
    listed = "; ".join(f"{count} × {reason.removeprefix('Skipped: ')}" for reason, count in sorted(reasons.items()))
    print(f"skips by reason: {listed or 'none'}")
