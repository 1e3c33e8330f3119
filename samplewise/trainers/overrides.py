"""Whether a method of a user's class does nothing but call the one it overrides: by its text, which is not run."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable
from typing import Any


def only_calls_super(method: Callable[..., Any], name: str) -> bool:
    """Whether the body is `return super().name(…)` with its own parameters, each in its place or by its name.

    A docstring, `pass` and a variable for the result may stand beside it. Whatever else the method does, and a text
    that cannot be had or read, is False.
    """
    found = _definition(method)
    if found is None or found.decorator_list:
        return False
    body = [each for each in found.body if not _says_nothing(each)]
    if len(body) == 2 and isinstance(body[0], ast.Assign) and len(body[0].targets) == 1:
        kept, given = body[0].targets[0], body[1]
        same = isinstance(given, ast.Return) and isinstance(kept, ast.Name) and _is_name(given.value, kept.id)
        return same and _calls_super(body[0].value, name, found.args)
    return len(body) == 1 and isinstance(body[0], ast.Return) and _calls_super(body[0].value, name, found.args)


def _definition(method: Callable[..., Any]) -> ast.FunctionDef | None:
    try:
        parsed = ast.parse(textwrap.dedent(inspect.getsource(method)))
    except (OSError, TypeError, SyntaxError):
        return None
    first = parsed.body[0] if len(parsed.body) == 1 else None
    return first if isinstance(first, ast.FunctionDef) else None


def _says_nothing(line: ast.stmt) -> bool:
    return isinstance(line, ast.Pass) or (isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant))


def _calls_super(value: ast.expr | None, name: str, parameters: ast.arguments) -> bool:
    if not isinstance(value, ast.Call) or not isinstance(value.func, ast.Attribute) or value.func.attr != name:
        return False
    on = value.func.value
    is_super = isinstance(on, ast.Call) and _is_name(on.func, "super") and not on.keywords and len(on.args) in (0, 2)
    return is_super and _passes_on(value, parameters)


def _passes_on(call: ast.Call, parameters: ast.arguments) -> bool:
    """Positional arguments are the method's own in order, the others go by their names, stars to stars."""
    own = [each.arg for each in (*parameters.posonlyargs, *parameters.args)][1:]  # without self
    named = {*own, *(each.arg for each in parameters.kwonlyargs)}
    plain = [each for each in call.args if not isinstance(each, ast.Starred)]
    stars = [each.value for each in call.args if isinstance(each, ast.Starred)]
    if len(plain) > len(own) or not all(map(_is_name, plain, own)):
        return False
    if not all(parameters.vararg is not None and _is_name(star, parameters.vararg.arg) for star in stars):
        return False
    return all(_same_keyword(each, named, parameters.kwarg) for each in call.keywords)


def _same_keyword(keyword: ast.keyword, named: set[str], rest: ast.arg | None) -> bool:
    if keyword.arg is None:
        return rest is not None and _is_name(keyword.value, rest.arg)
    return keyword.arg in named and _is_name(keyword.value, keyword.arg)


def _is_name(value: ast.expr | None, name: str) -> bool:
    return isinstance(value, ast.Name) and value.id == name
