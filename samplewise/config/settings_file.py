"""YAML files of settings: one mapping, read as YAML 1.2 reads it, with `key=value` on top. Needs pyyaml."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, TypeVar

import yaml

from samplewise.core.errors import SamplewiseError
from samplewise.core.typed import build, required, shown

Settings = TypeVar("Settings")

BYTES, VALUES = 2**20, 10**5
"""Files that are larger, and values that are more once aliases are written out, are no settings."""


def load_settings(kind: type[Settings], path: str | Path, overrides: Iterable[str] = ()) -> Settings:
    """A dataclass of settings from a YAML file.

    overrides: "key=value" with dots between levels, such as "training.max_steps=5"; values are read as YAML.
    Errors: SamplewiseError on a file that is not there or no mapping, and as `typed.build`.
    """
    values = _parse(_text(Path(path)), str(path))
    if not isinstance(values, dict):
        needed = [each.name for each in fields(kind) if required(each)]  # pyright: ignore[reportArgumentType]
        raise SamplewiseError(
            str(path), expected=f"a mapping with the keys {', '.join(needed[:-1])} and {needed[-1]}",
            got=type(values).__name__, remedy="See the files in the folder examples.",
        )  # fmt: skip
    for override in overrides:
        _override(values, override)
    return build(kind, values)


def to_yaml(config: Any) -> str:
    """The whole configuration, defaults included; what read it reads it back. Inherited fields come last."""
    own = type(config).__annotations__
    values = dict(sorted(asdict(config).items(), key=lambda item: item[0] not in own))
    return yaml.dump(values, Dumper=_Dumper, sort_keys=False, allow_unicode=True)


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(BYTES + 1)
        text = data.decode("utf-8")
    except (OSError, ValueError) as error:
        got = getattr(error, "strerror", None) or str(error)
        raise SamplewiseError(str(path), expected="a readable YAML file", got=got, remedy="Check the path.") from None
    if len(data) > BYTES:
        raise SamplewiseError(str(path), expected="a YAML file of at most 1 MB", got="more", remedy="Check the path.")
    return text


_FLOAT = re.compile(
    r"""(?: [-+]?[0-9][0-9_]*\.[0-9_]*(?:[eE][-+]?[0-9]+)? | [-+]?\.[0-9]+(?:[eE][-+]?[0-9]+)?
        | [-+]?[0-9][0-9_]*[eE][-+]?[0-9]+ | [-+]?\.(?:inf|Inf|INF) | \.(?:nan|NaN|NAN) )$""",
    re.VERBOSE,
)
_SCALARS = {  # YAML 1.2's, so that 1:20 is not 80, 010 not 8, no not false, and 2e-6 is a number
    "bool": (r"(?:true|True|TRUE|false|False|FALSE)$", "tTfF"),
    "int": (r"(?:[-+]?(?:0|[1-9][0-9_]*)|0x[0-9a-fA-F]+)$", "-+0123456789"),
    "null": (r"(?:~|null|Null|NULL|)$", ["~", "n", "N", ""]),
    "merge": (r"<<$", "<"),
}


class _Loader(yaml.SafeLoader):
    """Safe, with YAML 1.2's plain scalars, and a key given twice is an error."""

    yaml_implicit_resolvers = {}  # noqa: RUF012  as PyYAML has it

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        met: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in met:
                raise yaml.MarkedYAMLError(problem=f"the key {shown(key)} is given twice", problem_mark=node.start_mark)
            met.add(key)
        return super().construct_mapping(node, deep)


class _Dumper(yaml.SafeDumper):
    """Quotes text that either version of YAML would read as something else."""


for _name, (_pattern, _first) in _SCALARS.items():
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_name}", re.compile(_pattern), list(_first))
for _kind in (_Loader, _Dumper):
    _kind.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+0123456789."))


_FAULTS = (yaml.YAMLError, ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)
"""PyYAML lets through whatever Python raises on the text of a tagged value, such as !!timestamp or !!int."""


def _parse(text: str, place: str) -> Any:
    try:
        loader = _Loader(text)
        try:
            return _written_out(loader.get_single_data(), [0])
        finally:
            loader.dispose()
    except _FAULTS as error:
        got = " ".join(str(error).split())[:500]
        raise SamplewiseError(place, expected="valid YAML", got=got, remedy="Fix the file at this place.") from None


def _written_out(value: Any, count: list[int]) -> Any:
    """A copy in which aliases are values of their own: what is put on top of one changes no other."""
    count[0] += 1
    if count[0] > VALUES:
        raise yaml.YAMLError(f"more than {VALUES:,} values, or aliases that contain themselves")
    if isinstance(value, dict):
        return {key: _written_out(each, count) for key, each in value.items()}
    return [_written_out(each, count) for each in value] if isinstance(value, list) else value


def _override(values: dict[str, Any], text: str) -> None:
    key, equals, value = text.partition("=")
    parts = key.strip().split(".")
    if not equals or not all(parts):
        raise SamplewiseError(
            "override", expected="key=value", got=repr(text), remedy="Write it as training.max_steps=5, for example."
        )
    for part in parts[:-1]:
        below = values.setdefault(part, {})
        if not isinstance(below, dict):
            raise SamplewiseError(
                "override", expected=f"a mapping at {part!r}", got=shown(below), remedy="Check the key."
            )
        values = below
    values[parts[-1]] = _parse(value, key)
