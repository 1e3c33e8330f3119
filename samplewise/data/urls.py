"""URLs of file systems that fsspec knows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from samplewise.core.errors import SamplewiseError, missing_extra


def is_url(path: str | Path) -> bool:
    """Whether a path names a place that fsspec must reach, such as s3://bucket/folder; file:// is a path here.

    >>> is_url("s3://bucket/a"), is_url("a/b"), is_url("file:///a")
    (True, False, False)
    """
    return "://" in str(path) and not str(path).startswith("file://")


def open_url(url: str) -> tuple[Any, str]:
    """(the file system, the path in it). Raises SamplewiseError on a protocol that is not there."""
    try:
        import fsspec
    except ModuleNotFoundError:
        raise missing_extra("fsspec", "corpus", url) from None
    try:
        files, root = fsspec.core.url_to_fs(url)
    except Exception as error:  # a protocol that is unknown, or whose package, options or network are not there
        raise SamplewiseError(
            url, expected="a URL that fsspec can open", got=" ".join(str(error).split()),
            remedy="Check the protocol, or install its package (s3fs for s3://, gcsfs for gs://).",
        ) from None  # fmt: skip
    return files, root.rstrip("/")
