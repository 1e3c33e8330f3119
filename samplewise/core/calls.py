"""Values that are calls: printed, compared, hashed and pickled as the call that makes them."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, ParamSpec, TypeVar


@dataclass(frozen=True)
class Call:
    """What makes a value. maker: a function at the top level of a module, so that other processes find it too."""

    maker: Callable[..., Any]
    args: tuple[Any, ...] = ()
    options: tuple[tuple[str, Any], ...] = ()

    @property
    def functions(self) -> tuple[Any, ...]:
        """The arguments that are functions: their expressions do not distinguish them."""
        return tuple(value for value in (*self.args, *dict(self.options).values()) if inspect.isfunction(value))


class Called:
    """A frozen dataclass with an `expression` and the `call` that makes it.

    Two are equal if they have one maker and one expression (and, of a maker that takes functions, the same functions).
    Where there is no call, as after `dataclasses.replace`, which makes another value, fields are compared.
    """

    expression: str
    call: Call | None

    @property
    def name(self) -> str:
        """The name of the function that the expression calls."""
        return self.expression.partition("(")[0]

    @property
    def arguments(self) -> Mapping[str, Any]:
        """The arguments of the call, by name, defaults included; empty where no call is known."""
        if self.call is None:
            return {}
        bound = inspect.signature(self.call.maker).bind(*self.call.args, **dict(self.call.options))
        bound.apply_defaults()
        return dict(bound.arguments)

    @property
    def children(self) -> tuple[Any, ...]:
        """Those of its arguments that are such values themselves, in order: the rules of a chain, a schedule."""
        given = self.arguments.values()
        return tuple(each for value in given for each in (value if isinstance(value, tuple) else (value,))
                     if isinstance(each, Called))  # fmt: skip

    def __repr__(self) -> str:
        return self.expression

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and isinstance(other, Called) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash((type(self), self.expression))

    def _key(self) -> tuple[Any, ...]:
        if self.call is not None:
            return (self.expression, self.call.maker, self.call.functions)
        return (self.expression, *(getattr(self, each.name) for each in fields(self)))  # pyright: ignore[reportArgumentType]

    def __reduce_ex__(self, protocol: Any) -> Any:
        if self.call is None:
            return super().__reduce_ex__(protocol)
        return _make, (self.call,)


def _make(call: Call) -> Any:
    return call.maker(*call.args, **dict(call.options))


P = ParamSpec("P")
Made = TypeVar("Made", bound=Called)


def called(maker: Callable[P, Made]) -> Callable[P, Made]:
    """Make the values that `maker` returns know the call that made them.

    One that is an argument already, as the only rule of a chain, stays as it is.
    """

    @functools.wraps(maker)
    def made(*args: P.args, **options: P.kwargs) -> Made:
        value = maker(*args, **options)
        given = any(value is each for each in (*args, *options.values()))
        return value if given else knowing(value, Call(made, args, tuple(sorted(options.items()))))

    return made


def knowing(value: Made, call: Call) -> Made:
    """A copy of `value` that knows its call."""
    copy = object.__new__(type(value))
    copy.__dict__.update(value.__dict__, call=call)
    return copy
