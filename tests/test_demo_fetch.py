"""The demo's documentation is unpacked with every Python that the package runs on."""

import importlib.util
import io
import tarfile
from pathlib import Path

NAMES = {"django-1/docs/a/b.txt": b"one", "django-1/docs/c.py": b"two", "django-1/d.txt": b"three"}


def test_only_the_texts_of_the_documentation_are_unpacked(tmp_path, monkeypatch):
    spec = importlib.util.spec_from_file_location("demo_fetch", Path(__file__).parents[1] / "examples/demo_fetch.py")
    assert spec is not None
    assert spec.loader is not None
    fetch = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(fetch)
    with tarfile.open(tmp_path / "django-1.tar.gz", "w:gz") as archive:
        for name, content in NAMES.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    for name, value in {
        "DEMO": tmp_path,
        "SDIST": tmp_path / "django-1.tar.gz",
        "DOCS": tmp_path / "django-1/docs",
    }.items():
        monkeypatch.setattr(fetch, name, value)
    monkeypatch.setattr(fetch, "_fetch", lambda *_: None)
    fetch.fetch_all()
    found = {str(path.relative_to(tmp_path)) for path in (tmp_path / "django-1").rglob("*") if path.is_file()}
    assert found == {"django-1/docs/a/b.txt", "django-1/.extracted"}
    assert (tmp_path / "django-1/docs/a/b.txt").read_bytes() == b"one"
