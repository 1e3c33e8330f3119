"""File locks: held until the file is closed, and refused by name where the system has none."""

import errno
import os
import subprocess
import sys

import pytest

from samplewise import SamplewiseError
from samplewise.core import file_lock


def test_a_lock_is_held_until_the_file_is_closed(tmp_path):
    first, second = (os.open(tmp_path / "lock", os.O_RDWR | os.O_CREAT) for _ in range(2))
    file_lock.lock(first)
    with pytest.raises(BlockingIOError):
        file_lock.lock(second, wait=False)
    os.close(first)
    file_lock.lock(second, wait=False)
    os.close(second)


def test_shared_locks_keep_out_others_only(tmp_path):
    handles = [os.open(tmp_path / "lock", os.O_RDWR | os.O_CREAT) for _ in range(3)]
    for handle in handles[:2]:
        file_lock.lock(handle, shared=True, wait=False)
    with pytest.raises(BlockingIOError):
        file_lock.lock(handles[2], wait=False)
    for handle in handles:
        os.close(handle)


WITHOUT = """
import importlib.util, sys
class Missing:
    def find_spec(self, name, *rest):
        if name in ("fcntl", "resource"):
            raise ModuleNotFoundError(name)
sys.modules.pop("fcntl", None); sys.modules.pop("resource", None)
sys.meta_path.insert(0, Missing())
found = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name == "fcntl" else found(name, *rest)
import samplewise as sw
assert len(sw.weights(sw.ir_dro(), [1.0, 2.0])) == 2
from samplewise.trainers import WeightedStep
from samplewise.cli.app import app
from samplewise.core.file_lock import lock
try:
    lock(0)
except sw.SamplewiseError as error:
    print(error)
"""


@pytest.mark.slow
def test_without_locks_rules_and_loops_work_and_folders_are_refused_by_name():
    done = subprocess.run([sys.executable, "-c", WITHOUT], capture_output=True, text=True)
    assert done.stdout.startswith("platform: expected Linux or macOS"), done.stderr


def test_windows_is_a_sentence(monkeypatch):
    monkeypatch.setattr(file_lock, "AVAILABLE", False)
    with pytest.raises(SamplewiseError, match="Run it in WSL 2"):
        file_lock.lock(0)


def test_a_file_that_its_holder_removed_is_opened_anew(tmp_path, monkeypatch):
    """Else two runs hold the lock of one name: one on the file that is there, one on a file without a name."""
    path, right, removed = tmp_path / "lock", file_lock.lock, []

    def after_the_holder_ended(handle, **how):
        if not removed:
            removed.append(path.unlink())
        right(handle, **how)

    monkeypatch.setattr(file_lock, "lock", after_the_holder_ended)
    handle = file_lock.locked_file(path)
    assert removed
    assert os.path.samestat(os.fstat(handle), path.stat())
    assert file_lock.locked_file(path) is None
    os.close(handle)


def test_what_a_dead_process_or_another_machine_left_keeps_nobody_out(tmp_path):
    path = tmp_path / "lock"
    path.write_text("4711 on another-machine\n")
    os.utime(path, (2**33, 2**33))
    handle = file_lock.locked_file(path)
    assert handle is not None
    os.close(handle)


def test_a_file_system_without_locks_is_a_sentence(tmp_path, monkeypatch):
    import fcntl

    def refused(handle, kind):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refused)
    with pytest.raises(SamplewiseError, match=r"a file system with locks .* got No locks available"):
        file_lock.locked_file(tmp_path / "lock")
