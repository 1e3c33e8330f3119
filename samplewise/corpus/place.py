"""A folder on this machine or in an object store, in which whole files are read and written."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

from samplewise.core.checkpoint import write_bytes
from samplewise.core.errors import SamplewiseError
from samplewise.data.urls import is_url, open_url

Arguments = ParamSpec("Arguments")
Found = TypeVar("Found")
_SHOW_PARTS = {"ftp", "hdfs", "sftp", "smb", "ssh", "webhdfs"}
"""Protocols of file systems, which show a file while it is being written."""
_BUCKETS = {"abfs", "az", "gcs", "gs", "oci", "oss", "s3", "s3a"}
"""Protocols of object stores: they need no folders, and to make one there would make a bucket of a misspelt name."""


@contextmanager
def writable(place: str) -> Iterator[None]:
    """Raises SamplewiseError where a folder cannot be written, or its disk is full."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR):
            raise
        raise SamplewiseError(
            "--out", expected="a folder that can be written", got=f"{place}: {error.strerror}",
            remedy="Fix this, then run the same command again to resume.",
        ) from error  # fmt: skip


@contextmanager
def reached(url: str) -> Iterator[None]:
    """Raises SamplewiseError in place of what the clients of stores raise; FileNotFoundError stays what it is."""
    try:
        yield
    except (FileNotFoundError, SamplewiseError):
        raise
    except Exception as error:  # each store's client has errors of its own
        got = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        raise SamplewiseError(
            url, expected="a store that can be reached, and written to for results", got=got,
            remedy="Check the URL, the network and the credentials.",
        ) from error  # fmt: skip


def _reaching(method: Callable[Concatenate[Place, Arguments], Found]) -> Callable[Concatenate[Place, Arguments], Found]:
    @wraps(method)
    def reach(self: Place, *arguments: Arguments.args, **more: Arguments.kwargs) -> Found:
        if not self.remote:
            return method(self, *arguments, **more)
        with reached(self.url):
            return method(self, *arguments, **more)

    return reach


class Place:
    """A folder. path: a local one, or a URL of a file system that fsspec knows.

    Local files are written under a temporary name and renamed; object stores show whole objects only.

    >>> import tempfile
    >>> place = Place(tempfile.mkdtemp())
    >>> place.write("a/b.json", b"{}")
    >>> place.exists("a/b.json"), place.names("a"), place.read("a/b.json")
    (True, ['b.json'], b'{}')
    """

    def __init__(self, path: str | Path) -> None:
        self.remote = is_url(path)
        self.files: Any = None
        if self.remote:
            self.files, self.root = open_url(str(path))
            self.url = str(path).rstrip("/")
        else:
            self.root = os.path.abspath(os.path.expanduser(str(path).removeprefix("file://")))
            self.url = check_name_is_utf8(self.root)

    def __str__(self) -> str:
        return self.url

    @property
    def local(self) -> Path:
        """The folder as a path. Raises SamplewiseError where it is remote."""
        if self.remote:
            raise SamplewiseError(
                "path", expected="a local folder", got=self.url, remedy="Copy it to a local folder first."
            )
        return Path(self.root)

    def inside(self, name: str) -> str:
        """The full name of a file or folder in it, as DuckDB reads it."""
        return f"{self.url}/{name}"

    @_reaching
    def read(self, name: str) -> bytes:
        """The bytes of a file; FileNotFoundError where there is none."""
        return self.files.cat_file(f"{self.root}/{name}") if self.remote else (self.local / name).read_bytes()

    @_reaching
    def write(self, name: str, data: bytes) -> None:
        """Write a whole file or nothing; folders are created."""
        if self.remote:
            with self._written(f"{self.root}/{name}") as target:
                self.files.pipe_file(target, data)
            return
        path = self.local / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, data)

    @_reaching
    def exists(self, name: str) -> bool:
        """Whether there is a file or folder of that name."""
        return self.files.exists(f"{self.root}/{name}") if self.remote else (self.local / name).exists()

    @_reaching
    def size(self, name: str) -> int:
        """Bytes of a file; FileNotFoundError where there is none."""
        return self.files.size(f"{self.root}/{name}") if self.remote else (self.local / name).stat().st_size

    @_reaching
    def state(self, name: str) -> str:
        """What changes whenever a file is rewritten: its size and times here, what a store reports of it elsewhere."""
        if self.remote:
            found = self.files.info(f"{self.root}/{name}")
            tag = found.get("ETag") or found.get("etag")  # a listing says other things beside it than a request for one
            return f"{found['size']}-{tag}" if tag else str(self.files.ukey(f"{self.root}/{name}"))
        found = (self.local / name).stat()
        return f"{found.st_size}-{found.st_mtime_ns}-{found.st_ctime_ns}"

    @_reaching
    def names(self, folder: str = "") -> list[str]:
        """The names in one of its folders, sorted; empty if there is no such folder."""
        if self.remote:
            self.files.invalidate_cache()
            try:
                found = self.files.ls(f"{self.root}/{folder}".rstrip("/"), detail=False)
            except FileNotFoundError:
                return []
            return sorted(os.path.basename(name.rstrip("/")) for name in found)
        path = self.local / folder
        return sorted(each.name for each in path.iterdir()) if path.is_dir() else []

    @_reaching
    def list_for_readers(self, folders: Iterable[str]) -> None:
        """List folders anew. A file system that remembers listings then knows the sizes of their files, which DuckDB
        asks for some 90 times a shard; each was a request.
        """
        if self.remote:
            self.files.invalidate_cache()
            for folder in folders:
                self.files.ls(f"{self.root}/{folder}".rstrip("/"))

    @_reaching
    def remove(self, name: str) -> None:
        """Remove a file, if it exists."""
        if self.remote:
            if self.exists(name):
                self.files.rm_file(f"{self.root}/{name}")
        else:
            (self.local / name).unlink(missing_ok=True)

    @_reaching
    def upload(self, name: str, file: Path) -> None:
        """Put a whole file of this machine there, or nothing. A file system that shows parts gets it under another name
        first; object stores show whole objects only.
        """
        if not self.remote:
            raise ValueError("a place here is written to directly")
        with self._written(f"{self.root}/{name}") as target:
            if _SHOW_PARTS.isdisjoint(self._protocols()):
                self.files.put_file(str(file), target)
                return
            temporary = os.path.join(os.path.dirname(target), f".{os.path.basename(target)}.{os.getpid()}")
            self.files.put_file(str(file), temporary)
            self.files.mv(temporary, target)

    @contextmanager
    def _written(self, target: str) -> Iterator[str]:
        """Make the folder of a file that is to be written. Errors: SamplewiseError where there is no such bucket."""
        if _BUCKETS.isdisjoint(self._protocols()):
            self.files.makedirs(os.path.dirname(target), exist_ok=True)
        try:
            yield target
        except FileNotFoundError as error:
            raise SamplewiseError(
                self.url, expected="a bucket that exists", got=" ".join(str(error).split())[:200],
                remedy="Check its name, or create it first.",
            ) from error  # fmt: skip

    def _protocols(self) -> list[str]:
        own = self.files.protocol
        return [own] if isinstance(own, str) else list(own)

    @_reaching
    def open(self, name: str) -> Any:
        """Open a file for reading, seekable."""
        return self.files.open(f"{self.root}/{name}", "rb") if self.remote else (self.local / name).open("rb")


def check_name_is_utf8(path: str) -> str:
    """The path. Raises SamplewiseError where its bytes are no UTF-8, which DuckDB cannot open."""
    try:
        path.encode()
    except UnicodeEncodeError:
        raise SamplewiseError(
            "path", expected="the name of a folder or file in UTF-8", got=repr(path)[1:-1],
            remedy="Rename it; under a locale of another encoding, set PYTHONUTF8=1.",
        ) from None  # fmt: skip
    return path
