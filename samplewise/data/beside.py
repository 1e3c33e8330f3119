"""What lies beside data and is none: metadata, notes, archives, files of other kinds. Left out, and named by kind."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from pathlib import PurePath

from samplewise.core.errors import SamplewiseError

METADATA = frozenset(
    {
        "dataset_infos.json", "dataset_info.json", "dataset_dict.json", "croissant.json",  # of datasets
        "config.json", "generation_config.json", "adapter_config.json", "preprocessor_config.json",  # of models
        "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
        "model.safetensors.index.json", "trainer_state.json",
    }
)  # fmt: skip
"""Names that a program gave to what is about the data, or about a model."""

_NOTES = re.compile(r"(readme|licen[cs]e|copying)((\.\w+)*\.txt)?$")  # other names, and readme.jsonl, may be data
_BY_TABLES = ("_delta_log", "_temporary", "_metadata")  # folders that Spark and Delta Lake keep beside data
_ARCHIVE = re.compile(r"\.(tar|tgz|zip|7z|rar|tar\.\w+)$")
_CACHE = re.compile(r"cache-[0-9a-f]+(_\d+_of_\d+)?\.arrow")  # what `map` and `filter` of datasets leave in a folder
_SAVED = "dataset_info.json"
"""Beside the .arrow files that `Dataset.save_to_disk` writes, with state.json."""


def is_beside(file: PurePath, every: Collection[PurePath] = ()) -> bool:
    """Whether a file with the suffix of data is none, by its name. every: all files, as state.json alone tells nothing.

    >>> is_beside(PurePath("a/README.txt")), is_beside(PurePath("dataset_infos.json")), is_beside(PurePath("a.json"))
    (True, True, False)
    """
    name = file.name.lower()
    return (
        name in METADATA
        or _NOTES.match(name) is not None
        or any(part in _BY_TABLES for part in file.parts)
        or _CACHE.fullmatch(name) is not None
        or (name == "state.json" and file.with_name(_SAVED) in every)
    )


def kind_of(file: PurePath) -> str:
    """The kind of a file that is left out, in words.

    >>> [kind_of(PurePath(name)) for name in ("a.tar.gz", "b.md", "LICENSE", "x.arrow", "dataset_infos.json")]
    ['archives', '.md', 'LICENSE', '.arrow', 'dataset_infos.json']
    """
    name = file.name.lower()
    if _ARCHIVE.search(name):
        return "archives"
    if is_beside(file, (file.with_name(_SAVED),)):
        return next((part for part in file.parts if part in _BY_TABLES), file.name)
    return file.suffix or "without a suffix"


def in_words(left_out: Mapping[str, int]) -> str:
    """Kinds with their counts, the most frequent first.

    >>> in_words({".md": 3, "README.txt": 1})
    '3 .md, 1 README.txt'
    """
    ranked = sorted(left_out.items(), key=lambda each: (-each[1], each[0]))
    rest = sum(count for _, count in ranked[8:])
    return ", ".join([*(f"{count:,} {kind}" for kind, count in ranked[:8]), *([f"{rest:,} others"] if rest else [])])


def what_to_do(files: Collection[PurePath]) -> str:
    """The remedy where a folder has files, and no data among them."""
    if any(_ARCHIVE.search(file.name.lower()) for file in files):
        return "Unpack the archives, and give the folder of what was in them."
    return "Check the path."


def refuse_splits(path: object, files: Collection[PurePath]) -> None:
    """Raises SamplewiseError for the splits of one `DatasetDict.save_to_disk`, which must not be mixed."""
    for file in sorted(each for each in files if each.name == "dataset_dict.json"):
        inside = [each for each in files if each.is_relative_to(file.parent) and each.name == _SAVED]
        splits = sorted({each.relative_to(file.parent).parts[0] for each in inside})
        example = (file.parent / (splits or ["train"])[0]).as_posix()
        raise SamplewiseError(
            str(path), expected="one split of a dataset",
            got=f"a DatasetDict.save_to_disk with the splits {', '.join(splits)}",
            remedy=f"Give the folder of one, such as {path}/{example}.",
        )  # fmt: skip
