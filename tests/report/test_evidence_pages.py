"""The pages of compare, sweep and probe in Chromium: whole, complete, hostile names harmless, readable at 400 px."""

import copy
import json

import plans
import pytest
from hostile import HOSTILE

from samplewise.evidence.differences import differences
from samplewise.evidence.probes.conclusions import conclusions
from samplewise.evidence.sentences import verdicts
from samplewise.report.plan import write_plan
from samplewise.report.probe import write_probe

RAN = {
    "figures": {"held_out": {"mean": 3.0, "worst_decile": 4.0}}, "left_out": 5.0, "samples": 40.0, "ess": 0.8,
    "tokens": 1000.0, "units": 3000.0, "curve": [3.5, 3.4, 3.2, 3.1], "spikes_per_100_steps": 1.0,
    "gradient_norm": {"median": 1.0, "p95_over_median": 1.7},
}  # fmt: skip


def results(names: list[str], complete: bool = True) -> dict:
    given = plans.values({"uniform": 0.0, **{name: 0.01 * i - 0.02 for i, name in enumerate(names)}}, seeds=3, count=40)
    arms = [{**plans.arm("uniform", "control"), "rule": "uniform()", "ran": RAN}]
    arms += [
        {**plans.arm(name), "rule": f"ir_dro(r={i + 1})", "ran": copy.deepcopy(RAN)} for i, name in enumerate(names)
    ]
    rows = differences(arms, "uniform", plans.documents(40), given, 0.005)
    return {
        "complete": complete, "missing": [] if complete else [{"arm": names[0], "seed": 3}],
        "failed": [] if complete else [{"arm": names[-1], "seed": 4, "error": "not finite"}],
        "budget": {"kind": "compute", "amount": 10_000, "spent": {}}, "seeds": [0, 1, 2], "control": "uniform",
        "min_effect": 0.005, "arms": arms, "documents": plans.documents(40), "differences": rows,
        "verdicts": verdicts(rows, 0.005),
    }  # fmt: skip


def row(mean: float) -> dict[str, float]:
    return {"mean": mean, "low": mean - 0.1, "high": mean + 0.1}


def probe() -> dict:
    found = {
        "model": HOSTILE[0],
        "quantiles": [
            {"samples": 32, "low": i, "high": i + 1, "mean": i + 0.5, "groups": {HOSTILE[0]: 0.75, "b": 0.25},
             "examples": [{"loss": i + 0.2, "group": HOSTILE[0], "opening": HOSTILE[1] * 3}]} for i in range(4)
        ],
        "agreement": {name: [row(0.1 * i) for i in range(4)] for name in ("cosine", "projection", "norm")},
        "noise": {
            "kinds": {
                "shuffled words": {"mean": 6.0, "auc": 0.98, "error": 0.01},
                HOSTILE[1]: {"mean": 1.0, "auc": 0.1, "error": 0.05},
            },
            "weights": {"uniform()": {"all": 0.2, "given": 0.2, "kinds": {}}}, "clean": 3.0,
        },
        "redundancy": {
            "compressibility": [row(0.6 - 0.1 * i) for i in range(4)], "repeated": [row(0.01) for _ in range(4)],
        },
        "learnability": {"quantiles": [
            {"peers": row(0.3), "others": row(0.1), "excess": row(0.2), "held_out": row(0.05)} for _ in range(4)
        ]},
        "ranking": [{"first": "this model", "second": "a <b>copy</b>", "spearman": 0.9, "top_shared": 0.7}],
    }  # fmt: skip
    return {**found, "conclusions": conclusions(found)}


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    made = {}
    for name in ("compare", "partial", "sweep", "probe"):
        folder = tmp_path_factory.mktemp(name)
        if name == "probe":
            files = write_probe(folder, probe())
        elif name == "sweep":
            points = {f"r={i}": {"r": float(i)} for i in (1, 10, 100)}
            files = write_plan(folder, results(list(points)), points)
        else:
            files = write_plan(folder, results(["tilt", HOSTILE[0], HOSTILE[1]], complete=name == "compare"))
        assert all(file.stat().st_size > 500 for file in files)
        made[name] = files
    return made


@pytest.mark.parametrize("width", [400, 1100])
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["compare", "partial", "sweep", "probe"])
def test_pages_are_whole_in_every_window(browser, pages, name, width, scheme):
    browser.open(pages[name][0], width=width, scheme=scheme)
    assert browser.overflow() <= 0
    assert not browser.all("img, main script:not([type='application/json'])")
    assert "owned" not in browser.driver.title
    browser.check_console()


def test_a_comparison_shows_every_arm_its_interval_and_its_sentence(browser, pages):
    browser.open(pages["compare"][0])
    text = browser.one("body").text
    assert "tilt is better than uniform at this budget" in text
    assert HOSTILE[0] in browser.texts(".intervals .rl")
    assert browser.drawn(".intervals circle.dot") == 3
    assert browser.drawn(".intervals line.interval") == 3
    assert not browser.all(".warning")
    browser.open(pages["partial"][0])
    assert browser.drawn(".warning") == 2
    assert "1 runs are not finished yet" in browser.one("body").text


def test_a_sweep_draws_four_measures_against_the_value(browser, pages):
    browser.open(pages["sweep"][0])
    assert "Sensitivity" in browser.texts("section h2")
    assert browser.drawn(".lines") == 4 + 1, "and the training curves"
    assert browser.drawn(".spread") == 1, "the difference has its interval"
    assert {file.name for file in pages["sweep"]} >= {"fig-sensitivity.svg", "fig-differences.svg"}


def test_a_probe_has_a_figure_and_a_paragraph_for_each_question(browser, pages):
    browser.open(pages["probe"][0])
    found = probe()
    text = " ".join(browser.texts("section p"))
    for paragraph in found["conclusions"].values():
        assert paragraph in text
    assert len(browser.all("section figure")) == 5
    assert browser.drawn(".lines .line") == 3 + 1 + 2
    json.dumps(found, allow_nan=False)
