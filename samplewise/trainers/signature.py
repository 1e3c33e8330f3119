"""The signature of a weighted trainer: the arguments of the Trainer it is made of, and this library's, from both."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator
from dataclasses import MISSING, fields
from inspect import Parameter

from samplewise.engine.observers import Observer
from samplewise.engine.options import WeightingOptions

VARIABLE = (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)


def weighted_signature(cls: type, mixin: type) -> inspect.Signature:
    """Of the class's `__init__`, what it hands on with *args and **kwargs replaced by what comes next takes.

    mixin: the class whose `__init__` takes the options of weighting, by keyword; `rule` has no default.
    """
    given: list[Parameter] = []
    options: list[Parameter] = []
    by_position = True
    for owner in (base for base in cls.__mro__ if "__init__" in vars(base)):
        own = list(inspect.signature(vars(owner)["__init__"]).parameters.values())[1:]
        handed_on, names = {each.kind for each in own} & set(VARIABLE), {each.name for each in given}
        named = [each for each in own if each.kind not in VARIABLE and each.name not in names]
        given += named if by_position else [each.replace(kind=Parameter.KEYWORD_ONLY) for each in named]
        by_position &= Parameter.VAR_POSITIONAL in handed_on
        options += _options() if owner is mixin else ()
        if not handed_on:
            break
    known = {each.name for each in given}
    given += [each for each in options if each.name not in known]
    return inspect.Signature(sorted(given, key=lambda each: each.kind))


def _options() -> Iterator[Parameter]:
    for each in fields(WeightingOptions):
        default = Parameter.empty if each.default is MISSING or each.name == "rule" else each.default
        yield Parameter(each.name, Parameter.KEYWORD_ONLY, default=default, annotation=each.type)
    yield Parameter("observers", Parameter.KEYWORD_ONLY, default=(), annotation=Iterable[Observer])
