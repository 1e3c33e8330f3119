"""Where records are written and in which format: one file, or a folder of files, here or at a URL."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from samplewise.core.errors import SamplewiseError
from samplewise.core.replaced import replaced, replaced_folder, temporary_folder
from samplewise.corpus.amounts import size_in_bytes
from samplewise.corpus.place import Place, check_name_is_utf8
from samplewise.data.urls import is_url

FILES = ("jsonl", "jsonl.zst", "jsonl.gz", "parquet")
TOKENS = ("mds-tokens", "megatron")
"""Formats that hold token ids in place of text."""
FORMATS = (*FILES, "datasets", "mds", *TOKENS)
MARKERS = ("state.json", "index.json", ".idx")
"""Ends of the names of files without which a reader takes a folder for no data: uploaded last."""


@dataclass(frozen=True)
class Output:
    """What to write. place: the folder around it. name: of the file, or of the folder of files.

    format: one of `FORMATS`, or another file's suffix without its dot. shard_bytes: about the bytes of text of a file
    of a folder; None where one file holds all. folder: whether `name` is a folder.
    """

    place: Place
    name: str
    format: str
    shard_bytes: int | None = None
    folder: bool = False

    def __str__(self) -> str:
        return self.place.inside(self.name)

    @property
    def statement(self) -> str:
        """The name of the statement beside it, which is written last: what has none is not whole."""
        return f"{self.name}.statement.json"

    @contextmanager
    def whole(self) -> Iterator[Path]:
        """A path here to write to, an empty folder where this is one; all of it is in its place at the end, or nothing.

        For a URL it lies in the folder for temporary files, and is uploaded at the end, index files last.
        """
        if not self.place.remote:
            path = self.place.local / self.name
            with (replaced_folder if self.folder else replaced)(path) as temporary:
                yield temporary
                self.place.remove(self.statement)
            return
        with temporary_folder() as temporary:
            path = Path(temporary) / self.name
            if self.folder:
                path.mkdir()
            yield path
            self.place.remove(self.statement)
            files = [path] if path.is_file() else [each for each in path.rglob("*") if each.is_file()]
            for each in sorted(files, key=lambda file: (file.name.endswith(MARKERS), file)):
                self.place.upload(str(each.relative_to(temporary)), each)


def output_of(path: str, format: str | None = None, shard_size: str | None = None) -> Output:
    """The output that a path or URL, a format and a size of shards mean.

    >>> str(output_of("/data/train.jsonl.zst")), output_of("memory://a/train", "parquet", "1GB").shard_bytes
    ('/data/train.jsonl.zst', 1000000000)

    Errors: SamplewiseError where they disagree, or where the format is not known.
    """
    place, name = parent_of(path)
    suffix = next((known for known in FILES if name.lower().endswith(f".{known}")), None)
    if format is not None and format not in FORMATS:
        raise SamplewiseError(
            "--format", expected=f"one of {', '.join(FORMATS)}", got=format, remedy="Name one of them."
        )
    if suffix is None and format is None:
        raise SamplewiseError(
            "--out", expected=f"a file ending in {' or '.join(f'.{known}' for known in FILES)}, or --format", got=name,
            remedy="Name a file with such an ending, or a folder and its --format.",
        )  # fmt: skip
    several = shard_size is not None or format in FORMATS[len(FILES) :]
    if suffix is not None and (several or format not in (None, suffix)):
        raise SamplewiseError(
            "--out", expected="the name of a folder" if several else f"a file ending in .{format}", got=name,
            remedy=f"Give --out {name.removesuffix(f'.{suffix}')} --format {format or suffix}.",
        )  # fmt: skip
    if suffix is None and not several:
        raise SamplewiseError(
            "--shard-size", expected=f"a size, for a folder of .{format} files", got="none",
            remedy=f"Give --shard-size 1GB, or the name of one file: --out {name}.{format}.",
        )  # fmt: skip
    size = None if shard_size is None else size_in_bytes(shard_size, "--shard-size")
    return Output(place, name, format or suffix or "", size, several)


def parent_of(path: str) -> tuple[Place, str]:
    """The folder around a path or URL, and its name there. Errors: SamplewiseError where it has no name.

    >>> place, name = parent_of("memory://a/b/o.jsonl")
    >>> str(place), name
    ('memory://a/b', 'o.jsonl')
    """
    scheme, mark, rest = check_name_is_utf8(str(path)).removeprefix("file://").rpartition("://")
    folder, slash, name = rest.rstrip("/").rpartition("/")
    if not name or name in (".", ".."):
        raise SamplewiseError("--out", expected="a file or folder", got=str(path), remedy="Name one.")
    return Place(f"{scheme}{mark}{folder}" if is_url(path) else folder or slash or "."), name


def check_free(output: Output, argument: str = "--out") -> None:
    """Errors: SamplewiseError where there is no folder around it, and where files of another run would stay in it."""
    if not output.place.remote and not Path(output.place.root).is_dir():
        raise SamplewiseError(
            str(output), expected="a file in a folder that exists", got=f"no folder {output.place}",
            remedy="Create the folder first.",
        )  # fmt: skip
    if output.folder and output.place.exists(output.name):
        there = output.place.names(output.name)
        if there or not output.place.remote:
            raise SamplewiseError(
                argument, expected="a new folder", got=f"{output}, which is there", remedy="Remove it, or name another."
            )
