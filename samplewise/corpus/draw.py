"""The random number of an id, as SQL: the very doubles of `samplewise.rules.base.uniforms`, without leaving DuckDB."""

from __future__ import annotations

from typing import Any

from samplewise.core.rule import Order

GOLDEN, FIRST, SECOND, ALL = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB, (1 << 64) - 1

MACROS = f"""
CREATE OR REPLACE TEMP MACRO sw_times(a, b) AS ((a::UHUGEINT * b::UHUGEINT) & {ALL}::UHUGEINT)::UBIGINT;
CREATE OR REPLACE TEMP MACRO sw_first(v) AS list_transform(v, lambda x: sw_times(xor(x, x >> 30), {FIRST}::UBIGINT));
CREATE OR REPLACE TEMP MACRO sw_second(v) AS list_transform(v, lambda x: sw_times(xor(x, x >> 27), {SECOND}::UBIGINT));
CREATE OR REPLACE TEMP MACRO sw_mix(x) AS
    list_transform(sw_second(sw_first([x])), lambda x: xor(x, x >> 31))[1];
CREATE OR REPLACE TEMP MACRO sw_draw(id, seed, step) AS
    (sw_mix(xor(sw_mix(xor(id::UBIGINT, seed::UBIGINT)), step::UBIGINT)) >> 11)::DOUBLE * power(2.0, -53);
"""
"""SplitMix64 (Steele et al., 2014): 128-bit products hold what int64 would wrap around.

A macro writes its argument out wherever it is named, 64 times for six steps that name theirs twice; the lambdas of
lists of one element are there to give each step a name instead, and make a filter by it 20 times faster.
"""


def define(connection: Any) -> None:
    """Make `sw_draw` known to a connection."""
    connection.execute(MACROS)


def draw(seed: int, step: int = 0) -> str:
    """SQL of a double in [0, 1) for the column `id`."""
    return f"sw_draw(id, {_salt(seed)}, {_salt(step)})"


def order_sql(order: Order, seed: int) -> str:
    """SQL of the score that ranks samples: by key from either end, or by the random number."""
    return {"highest": "key", "lowest": "-key", "random": f"-{draw(seed)}"}[order]


def _salt(value: int) -> str:
    x = GOLDEN * (value + 1) & ALL
    x = (x ^ (x >> 30)) * FIRST & ALL
    x = (x ^ (x >> 27)) * SECOND & ALL
    return f"{x ^ (x >> 31)}::UBIGINT"
