"""Budgets divided over parts: exact to a sample, between bounds, by shares or n^alpha, and as weights."""

import json
import math

import numpy as np
import pytest
import world
from fake_scores import write_fake_scores
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_scores import write_records, write_scores

from samplewise.core.errors import SamplewiseError
from samplewise.corpus import open_scores
from samplewise.corpus.divide import divided
from samplewise.corpus.quotas import Bound, Quotas, bounds_of, quotas_of, shares_of
from samplewise.corpus.select import select
from samplewise.corpus.selection import Choice
from samplewise.rules import parse_rule

PARTS = [f"domain {i}" for i in range(4)]
SHARES = dict(zip(PARTS, (0.4, 0.3, 0.2, 0.1), strict=True))


@pytest.fixture(scope="module")
def scores(tmp_path_factory):
    return open_scores(write_fake_scores(tmp_path_factory.mktemp("scores"), 2000, groups=4))


def rows(scores, choice: Choice) -> dict[str, np.ndarray]:
    with select(scores, choice) as chosen:
        columns = f'id, {chosen.budget_part} AS "group", key, n_tokens, kept, weight'
        return chosen.connection.sql(f"SELECT {columns} FROM {chosen.view}").fetchnumpy()


def by_group(found, values) -> dict[str, float]:
    return {part: float(values[found["group"] == part].sum()) for part in PARTS}


@settings(deadline=None, max_examples=200)
@given(
    sizes=st.lists(st.integers(0, 10**9), min_size=1, max_size=6), alpha=st.floats(-2, 2), share=st.floats(0, 1.5),
    low=st.floats(0, 0.2), high=st.floats(0.2, 1),
)  # fmt: skip
def test_parts_lie_on_one_level_between_their_bounds(sizes, alpha, share, low, high):
    there = {str(i): float(n) for i, n in enumerate(sizes)}
    budget = int(share * sum(sizes))
    quotas = Quotas(minimum={"0": Bound(share=low)}, maximum={"*": Bound(share=high)}, alpha=alpha)
    least, most = low * budget, {name: min(n, high * budget) for name, n in there.items()}
    if least > most["0"]:
        if least > there["0"]:
            with pytest.raises(SamplewiseError, match="--min 0"):
                divided(quotas, there, budget)
        return
    found = divided(quotas, there, budget)
    assert all(value == int(value) for value in found.values())
    assert sum(found.values()) == pytest.approx(min(budget, sum(most.values())), abs=len(sizes))
    assert sum(found.values()) <= budget
    levels = []
    for name, value in found.items():
        assert value <= most[name] + 1e-6
        assert value >= (least if name == "0" else 0) - 1
        if 1000 < value < most[name] - 1 and (name != "0" or value > least + 1):
            levels.append(value / there[name] ** alpha)
    assert max(levels, default=1) / min(levels, default=1) < 1.01


def test_a_level_by_hand():
    """sqrt(900) : sqrt(100) = 3 : 1. With at most 60 for a, b takes what is left."""
    assert divided(Quotas(alpha=0.5), {"a": 900.0, "b": 100.0}, 100) == {"a": 75, "b": 25}
    assert divided(Quotas(maximum={"a": Bound(60)}), {"a": 900.0, "b": 100.0}, 100) == {"a": 60, "b": 40}
    assert divided(Quotas(minimum={"b": Bound(50)}), {"a": 900.0, "b": 100.0}, 100) == {"a": 50, "b": 50}
    assert divided(Quotas(alpha=0), {"a": 900.0, "b": 10.0}, 100) == {"a": 90, "b": 10}, "b has no more"
    assert divided(Quotas(shares_of("a=.5,b=.5")), {"a": 900.0, "b": 10.0}, None) == {"a": 10, "b": 10}
    assert divided(Quotas(shares_of("a=1/2,b=.5".replace("1/2", ".25") + ",*=.25")), {"a": 9.0, "b": 9.0, "c": 8.0,
                   "d": 8.0}, 16) == {"a": 4, "b": 8, "c": 2, "d": 2}  # fmt: skip


@pytest.mark.parametrize("take", ["highest", "lowest", "random"])
def test_shares_are_met_exactly_to_a_window(scores, take):
    budget = 100_000
    found = rows(scores, Choice(tokens=budget, within="group", take=take, quotas=Quotas(SHARES)))
    kept = by_group(found, np.where(found["kept"], found["n_tokens"], 0))
    longest = found["n_tokens"].max()
    for part, share in SHARES.items():
        assert share * budget - longest < kept[part] <= share * budget
        if take != "random":
            own = found["group"] == part
            order = np.argsort(found["key"][own] * (1 if take == "lowest" else -1), kind="stable")
            tokens = np.cumsum(found["n_tokens"][own][order])
            first = int(np.searchsorted(tokens, share * budget, side="right"))
            assert found["kept"][own][order].tolist() == [i < first for i in range(own.sum())]


def test_the_budget_may_go_by_other_parts_than_the_rule(scores):
    choice = Choice(
        parse_rule("band(drop_top=0.5)"), within="source", per="group", tokens=80_000, quotas=Quotas(SHARES)
    )
    with select(scores, choice) as chosen, select(scores, Choice(choice.rule, within="source")) as ruled:
        control = chosen.control()
        first, second = chosen.totals("quota"), control.totals("quota")
        inside = chosen.connection.sql(f"SELECT id FROM {chosen.view} WHERE kept").fetchnumpy()["id"]
        allowed = ruled.connection.sql(f"SELECT id FROM {ruled.view} WHERE kept").fetchnumpy()["id"]
    assert set(inside.tolist()) < set(allowed.tolist())
    for part, share in SHARES.items():
        assert share * 80_000 - 512 < first[part].kept_tokens <= share * 80_000
        assert first[part].kept_tokens - 512 < second[part].kept_tokens <= first[part].kept_tokens


@pytest.mark.parametrize("rule", [None, "band(drop_top=0.25)", "ir_dro(r=1)"])
def test_weights_meet_the_shares_and_leave_out_nothing(scores, rule):
    parsed = None if rule is None else parse_rule(rule)
    before = rows(scores, Choice(parsed, within="source"))
    found = rows(scores, Choice(parsed, within="source", per="group", quotas=Quotas(SHARES, reweight=True)))
    kept = found["kept"]
    assert kept.sum() == before["kept"].sum()
    assert found["weight"][kept].mean() == pytest.approx(1)
    mass = by_group(found, np.where(kept, found["weight"] * found["n_tokens"], 0))
    total = sum(mass.values())
    for part, share in SHARES.items():
        assert mass[part] / total == pytest.approx(share)
    if rule is None:  # within a part all weigh alike
        assert all(np.ptp(found["weight"][found["group"] == part]) < 1e-12 for part in PARTS)


def test_weights_by_temperature(scores):
    found = rows(scores, Choice(within="group", quotas=Quotas(alpha=0.5, reweight=True)))
    tokens = by_group(found, found["n_tokens"])
    mass = by_group(found, found["weight"] * found["n_tokens"])
    roots = {part: math.sqrt(n) for part, n in tokens.items()}
    for part in PARTS:
        assert mass[part] / sum(mass.values()) == pytest.approx(roots[part] / sum(roots.values()))


@pytest.fixture
def texts(tmp_path):
    """200 records of two domains, 4 tokens each, and their scores."""
    records = [{"text": f"text {i}", "meta": {"domain": "web" if i % 4 else "code"}} for i in range(200)]
    data = write_records(tmp_path / "data.jsonl", records)
    return write_scores(tmp_path / "scores", data, records)


def counts(path) -> dict[str, int]:
    found = [json.loads(line)["meta"]["domain"] for line in path.read_text().splitlines()]
    return {name: found.count(name) for name in sorted(set(found))}


@pytest.mark.parametrize(("options", "expected"), [
    (["--tokens", 200, "--shares", "web=.6,code=.4"], {"code": 20, "web": 30}),
    (["--tokens", 200, "--shares", "code=30%,*=70%"], {"code": 15, "web": 35}),
    (["--shares", "web=.6,code=.4"], {"code": 50, "web": 75}),
    (["--tokens", 200, "--alpha", 0], {"code": 25, "web": 25}),
    (["--tokens", 200, "--max", "web=100"], {"code": 25, "web": 25}),
    (["--tokens", 200, "--min", "code=40%"], {"code": 20, "web": 30}),
    (["--max", "*=80"], {"code": 20, "web": 20}),
    (["--tokens", 200], {"code": 12, "web": 37}),
])  # fmt: skip
def test_the_command_divides_a_budget_over_a_field(texts, tmp_path, options, expected):
    done = world.samplewise("select", texts, "--per", "meta.domain", *options, "--out", tmp_path / "out.jsonl")
    assert done.returncode == 0, done.stderr
    assert counts(tmp_path / "out.jsonl") == expected
    said = json.loads((tmp_path / "out.jsonl.statement.json").read_text())
    assert {each["part"]: each["kept"] for each in said["parts"]} == expected


def test_the_command_gives_weights_in_place_of_cuts(texts, tmp_path):
    options = ["--per", "meta.domain", "--shares", "web=.5,code=.5", "--reweight", "--out", tmp_path / "out.jsonl"]
    assert world.samplewise("select", texts, *options).returncode == 0
    found = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert len(found) == 200
    for each in found:  # 50 of code and 150 of web: 200/2/50 and 200/2/150
        assert each["sample_weight"] == pytest.approx(2 if each["meta"]["domain"] == "code" else 2 / 3)


@pytest.mark.parametrize(("options", "words"), [
    (["--shares", "web=.6,code=.3"], ["--shares: expected shares that sum to 1, got 0.9"]),
    (["--shares", "web=.6,cod=.4"], ["--shares cod", "a part that does not exist. Did you mean code?"]),
    (["--shares", "web=1"], ["a share for every part, got none for code"]),
    (["--shares", "web=.5,code=.5", "--tokens", 1000], ["got 200", "at most --tokens 400", "--reweight"]),
    (["--shares", "web=.5,code=.4,*=.1"], ["other parts than those named"]),
    (["--shares", "web=.5,web=.5"], ["each part once"]),
    (["--shares", "web=much,code=.5"], ["--shares web", "'much'"]),
    (["--shares", "web=.5,code=.5", "--max", "web=1"], ["shares alone"]),
    (["--min", "math=1M"], ["--min math", "does not exist"]),
    (["--min", "code=1M"], ["--min code", "1,000,000", "got 200"]),
    (["--min", "web=120,code=120", "--tokens", 200], ["minima of at most --tokens, 200, got 240"]),
    (["--alpha", 9, "--tokens", 100], ["--alpha", "-4 to 4"]),
    (["--reweight"], ["proportions as they are"]),
    ([], ["--rule, --drop-junk, --drop-shared, --above"]),
])  # fmt: skip
def test_quotas_that_cannot_be_met_are_one_sentence(texts, tmp_path, options, words):
    done = world.samplewise("select", texts, "--per", "meta.domain", *options, "--out", tmp_path / "out.jsonl")
    assert done.returncode == 1, done.stdout
    for word in words:
        assert word in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "out.jsonl").exists()


def test_quotas_need_parts(texts, tmp_path):
    done = world.samplewise("select", texts, "--shares", "web=1", "--out", tmp_path / "out.jsonl")
    assert "--per: expected the field or column" in done.stderr
    assert quotas_of(None, None, None, alpha=None, reweight=False) is None
    assert bounds_of("a=b=10", "--max") == {"a=b": Bound(10)}, "names may hold a sign of equality"
