"""Rules from text: the same expressions as in Python, read with `ast` and never evaluated."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable, Mapping
from typing import TypeVar

from samplewise.core.errors import SamplewiseError, nearest
from samplewise.core.rule import Rule
from samplewise.core.token_rule import TokenRule
from samplewise.rules.registry import RULES, TOKEN_RULES, known_rules
from samplewise.rules.schedules import SCHEDULES

Called = TypeVar("Called")

MAX_CHARACTERS = 10_000  # characters; a rule is a line, and deep nesting would exhaust the parser's stack


def parse_rule(text: str) -> Rule:
    """The rule that `text` spells: calls of rule and schedule names with literal arguments, nothing else.

    text: for example "chain(band(drop_top=0.1), ir_dro(r=1))"; what a rule prints as reads back as that rule.
    Errors: SamplewiseError pointing at the column, with the nearest known name.

    >>> parse_rule("chain(band(drop_top=0.1), ir_dro(r=1))")
    chain(band(drop_top=0.1, drop_bottom=0.0), ir_dro(r=1.0))
    """
    return read_call(text, known_rules())


def parse_token_rule(text: str) -> TokenRule:
    """The token rule that `text` spells, as `parse_rule` reads rules of samples.

    >>> parse_token_rule("rho1(keep=0.6)")
    rho1(keep=0.6, scope="sample")
    """
    try:
        return read_call(text, TOKEN_RULES)
    except SamplewiseError as error:
        remedy = error.remedy.replace(EXAMPLE, 'For example "rho1(keep=0.6)".')
        where = f"token {error.argument}"
        raise SamplewiseError(where, expected=error.expected, got=error.got, remedy=remedy) from None


def read_call(text: str, names: Mapping[str, Callable[..., Called]]) -> Called:
    """What the call that `text` spells returns, of one of `names`; errors as those of `parse_rule`."""
    if not isinstance(text, str) or len(text) > MAX_CHARACTERS:
        got = repr(type(text).__name__) if not isinstance(text, str) else f"{len(text)} characters"
        raise SamplewiseError("rule", expected=f"text of at most {MAX_CHARACTERS} characters", got=got, remedy=EXAMPLE)
    text = text.strip()
    try:
        return _call(ast.parse(text, mode="eval").body, text, names)
    except SamplewiseError:
        raise
    except SyntaxError as error:
        raise _error(text, None, "a rule expression", error.msg, EXAMPLE, *_place(error, text)) from None
    except (RecursionError, MemoryError, ValueError, OverflowError) as error:
        raise _error(text, None, "a rule expression", str(error) or "too deep a nesting", EXAMPLE) from None


EXAMPLE = 'For example "chain(band(drop_top=0.1), ir_dro(r=1.0))".'


def _call(node: ast.expr, text: str, callable_here: Mapping[str, Callable[..., Called]]) -> Called:
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
        hint = f"Write {node.id}()." if isinstance(node, ast.Name) and node.id in RULES else EXAMPLE
        raise _error(text, node, "a call of a rule", ast.unparse(node), hint)
    name = node.func.id
    if name not in callable_here:
        wanted = "the name of a rule or a schedule" if "linear" in callable_here else "the name of a rule"
        raise _error(text, node, wanted, name, _of_tokens(name) or nearest(name, callable_here))
    make = callable_here[name]
    known = inspect.signature(make).parameters
    arguments = [_argument(argument, text) for argument in node.args]
    options: dict[str, object] = {}
    for keyword in node.keywords:
        if keyword.arg is None or keyword.arg not in known:
            raise _error(text, keyword, f"an option of {name}", keyword.arg or "**", nearest(keyword.arg or "", known))
        if keyword.arg in options:
            raise _error(text, keyword, f"{keyword.arg} once", "it a second time", "Leave one out.")
        options[keyword.arg] = _argument(keyword.value, text)
    try:
        return make(*arguments, **options)
    except TypeError as error:
        usage = f"{name}{inspect.signature(make)}".replace("'", "")
        raise _error(text, node, f"arguments of {usage}", str(error), EXAMPLE) from None
    except SamplewiseError as error:
        raise _error(text, node, f"{error.argument} as {error.expected}", error.got, error.remedy) from None


def _argument(node: ast.expr, text: str) -> object:
    if isinstance(node, ast.Call):
        return _call(node, text, {**known_rules(), **TOKEN_RULES, **SCHEDULES})
    sign = 1
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        node, sign = node.operand, -1
    if isinstance(node, ast.Constant) and isinstance(node.value, (int, float)) and not isinstance(node.value, bool):
        return sign * node.value
    if isinstance(node, ast.Constant) and isinstance(node.value, (bool, str)) and sign == 1:
        return node.value
    raise _error(text, node, "a number, a schedule, a text or a rule", ast.unparse(node), EXAMPLE)


def _of_tokens(name: str) -> str | None:
    """The remedy for a token rule where a rule over samples is read."""
    if name not in TOKEN_RULES:
        return None
    return f"{name} weighs tokens: write chain(uniform(), {name}(…)), or give it as token_rule."


def _place(error: SyntaxError, text: str) -> tuple[int, int]:
    """(column, line), within the text: the parser may point behind its end."""
    line = min(max(error.lineno or 1, 1), max(1, len(text.splitlines())))
    return max(0, (error.offset or 1) - 1), line


def _error(
    text: str,
    node: ast.expr | ast.keyword | None,
    expected: str,
    got: object,
    remedy: str,
    column: int = 0,
    line: int = 1,
) -> SamplewiseError:
    lines = text.splitlines() or [""]
    if node is not None:
        line = node.lineno
        column = len(lines[line - 1].encode()[: node.col_offset].decode())  # ast counts UTF-8 bytes
    shown = lines[line - 1]
    where = f"rule, column {column + 1}" if len(lines) == 1 else f"rule, line {line}, column {column + 1}"
    return SamplewiseError(where, expected=expected, got=got, remedy=f"{remedy}\n  {shown}\n  {' ' * column}^")
