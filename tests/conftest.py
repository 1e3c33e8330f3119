"""Tests run offline, on the CPU, with one torch thread each: two that spin slow a step 40-fold beside another job."""

import gc
import os
import signal

import pytest
from covering import covering
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
settings.register_profile("laws", deadline=None, max_examples=24)  # of each law for each rule of a long table


def pytest_configure(config):
    """The fast suite tries fewer examples of a law for each of many rules."""
    if config.option.markexpr == "not slow":
        settings.register_profile("laws", deadline=None, max_examples=6)


if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # in the background of a script; children would ignore it too
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:  # under nohup
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_DATASETS_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
os.fsync = lambda file: None  # files of tests need not outlive a power failure, and a disk takes 10 ms for each


@pytest.hookimpl(tryfirst=True)  # before -m leaves out what is slow
def pytest_collection_modifyitems(config, items):
    """Of a test with `fast_cases` or `fast_cover` the fast suite runs some cases, `make test-all` the others too."""
    some = any("[" in argument for argument in config.args)
    for cases in _products(items, "fast_cases"):
        named = set(cases[0].get_closest_marker("fast_cases").args)
        if not some and (wrong := named - {case.callspec.id for case in cases}):
            raise pytest.UsageError(f"fast_cases of {cases[0].nodeid} names cases that do not exist: {wrong}")
        _leave_to_the_slow_suite(case for case in cases if case.callspec.id not in named)
    for cases in [] if some else _products(items, "fast_cover"):
        (strength,) = cases[0].get_closest_marker("fast_cover").args
        chosen = covering([case.callspec.params for case in cases], strength)
        _leave_to_the_slow_suite(case for k, case in enumerate(cases) if k not in chosen)


def _products(items, mark):
    """The cases of each test with this mark."""
    found = {}
    for item in items:
        if item.get_closest_marker(mark) is not None:
            found.setdefault(item.nodeid.split("[")[0], []).append(item)
    return found.values()


def _leave_to_the_slow_suite(cases):
    for case in cases:
        case.add_marker(pytest.mark.slow)


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
