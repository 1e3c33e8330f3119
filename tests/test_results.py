"""The pages of results/: accepted numbers, tables that they give, and all sections; on a small run too."""

import hashlib
import json
import re
import shutil
from dataclasses import asdict
from pathlib import Path

import pytest
import world
from plans import write_plan
from result_pages import facts
from result_pages.parts import COST, PLAN, PROBE, RESULTS, between, pages, parts
from result_pages.skeleton import SECTIONS
from result_pages.summary import EMPTY
from result_pages.take import refuse_machine_paths, take
from result_pages.write import outdated, write

from samplewise.config.settings_file import load_settings
from samplewise.core.errors import SamplewiseError
from samplewise.evidence.check import check_results
from samplewise.evidence.experiment import run_plan
from samplewise.evidence.plan_file import load_plan
from samplewise.evidence.probes.conclusions import conclusions
from samplewise.evidence.probes.config import ProbeConfig
from samplewise.evidence.probes.probe import run_probe
from samplewise.report.plan import write_plan as write_report

published = pytest.mark.parametrize("page", pages(RESULTS), ids=lambda page: page.name)


def sections(text: str) -> dict[str, str]:
    """By heading of the second level what is below it."""
    found = re.split(r"^## (.+)$", text, flags=re.MULTILINE)
    return dict(zip(found[1::2], (body.strip() for body in found[2::2]), strict=True))


def unwritten(page: Path) -> list[str]:
    """Sections that have no prose."""
    found = sections((page / "README.md").read_text(encoding="utf-8"))
    prose = {name: re.sub(r"<!-- (\w.*?) -->.*?<!-- /\1 -->|!\[.*?\]\(.*?\)", "", body, flags=re.DOTALL).strip()
             for name, body in found.items()}  # fmt: skip
    return [name for name in SECTIONS if not prose.get(name)]


def broken_links(page: Path) -> list[str]:
    """Files that its README.md names and that are not there."""
    text = (page / "README.md").read_text(encoding="utf-8")
    links = [link.split("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link]
    return [link for link in links if link and not (page / link).exists()]


# ---- what is published ----


@published
def test_the_numbers_are_accepted(page):
    for part in parts(page):
        found = part.read()
        refuse_machine_paths(found, str(part.folder))
        if part.kind == PLAN:
            assert check_results(part.folder)["complete"]
            load_plan(part.folder / "plan.yaml")
        elif part.kind == PROBE:
            assert conclusions(found) == found["conclusions"]


@published
def test_the_page_is_whole(page):
    assert unwritten(page) == []
    assert broken_links(page) == []


@published
def test_the_files_are_small(page):
    assert sum(path.stat().st_size for path in page.rglob("*") if path.is_file()) < 4e6


def test_every_table_is_what_the_numbers_give():
    assert outdated(RESULTS) == [], "python tools/results.py"


@pytest.mark.parametrize(
    "path", sorted(RESULTS.rglob("plan.yaml")), ids=lambda path: str(path.parent.relative_to(RESULTS))
)
def test_every_plan_that_stands_here_can_be_run(path):
    plan = load_plan(path)
    refuse_machine_paths(asdict(plan), str(path))
    assert (path.parent / "README.md").exists() or (path.parents[1] / "README.md").exists()


@pytest.mark.parametrize("path", sorted(RESULTS.rglob("registered.json")), ids=lambda path: "/".join(path.parts[-3:-1]))
def test_the_plan_that_stands_here_is_the_one_that_was_registered(path):
    own = hashlib.sha256((path.parent / "plan.yaml").read_bytes()).hexdigest()
    assert own == json.loads(path.read_text())["entries"][-1]["file_sha256"]


def test_a_budget_is_told_in_its_own_unit():
    told = [facts._amount({"budget": {"kind": kind, "amount": amount}}) for kind, amount in (
        ("flops", 1.8e12), ("epochs", 3), ("compute", 600_000))]  # fmt: skip
    assert told[0] == "1.8e+12 FLOPs, all models counted by their size"
    assert told[1:] == ["3 epochs", "600,000 units of compute (a token's forward 1, backward 2)"]


# ---- on a small run ----


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    """A folder with a finished run, a partial one and a probe, all with paths below it."""
    folder = tmp_path_factory.mktemp("results")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        write_plan(Path(), budget={"steps": 2}, evaluations=2, controls={"rates": [2.0]})
        world.save_corpus(folder / "other.jsonl", 12, 21, 70)
        plan = load_plan("plan.yaml", ["domains={other: {path: other.jsonl}}", "output=out"])
        write_report(folder / "out", run_plan(plan, say=str))
        Path("probe.yaml").write_text(json.dumps({
            "model": "model", "output": "probed", "models": {"a copy": "model"}, "samples": 16, "held_out": 8,
            "data": {"path": "corpus.jsonl", "max_length": 32, "min_tokens": 4}, "quantiles": 2, "steps": 1, "batch": 4,
            "noisy": 4, "step": 8, "kinds": ["shuffled words"],
        }))  # fmt: skip
        run_probe(load_settings(ProbeConfig, "probe.yaml"), say=str)
    return folder


@pytest.fixture
def place(here, tmp_path, monkeypatch):
    """An empty results/, and the current folder that the run's paths start from."""
    monkeypatch.chdir(here)
    root = tmp_path / "results"
    root.mkdir()
    (root / "README.md").write_text("# A title\n\n<!-- summary -->\n<!-- /summary -->\n")
    return root


def rows(text: str) -> dict[str, list[str]]:
    """By arm the cells of its first row."""
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        if line.startswith("| "):
            first, *cells = (cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1])
            found.setdefault(first, cells)
    return found


@pytest.mark.slow
def test_a_run_that_is_taken_is_accepted_small_and_on_its_page(here, place):
    folder = take(Path("out"), "r1-own-data", place)
    assert check_results(folder)["complete"]
    assert {path.name for path in folder.iterdir()} == {
        "plan.yaml", "results.json", "values.json", "facts.json", "fig-differences.svg", "README.md",
        "registered.json",
    }  # fmt: skip
    assert (folder / "values.json").stat().st_size < 0.8 * (here / "out" / "values.json").stat().st_size
    assert load_plan(folder / "plan.yaml").output == "build/results/r1-own-data"
    assert len(write(place)) == 2
    assert outdated(place) == write(place) == []
    assert broken_links(folder) == broken_links(place) == []
    assert unwritten(folder) == ["Question", "Setup", "Result", "What it means", "Limits"], "headings are no page"
    text = (folder / "README.md").read_text()
    assert "llama with random weights" not in text
    assert "2 steps. Seeds: 0, 1; intervals cover documents." in text
    assert ", trained in fp32. Data: " in text
    assert "other (12 documents)" in text


def test_a_run_in_the_precision_of_its_machine_is_no_run_of_another_plan(here, place):
    folder = take(Path("out"), "r1", place)
    written = (folder / "plan.yaml").read_text()
    assert "bf16: false" in written
    (folder / "plan.yaml").write_text(written.replace("bf16: false", "weight_decay: 0.0"))
    with pytest.raises(SamplewiseError, match="another training"):
        take(Path("out"), "r1", place)
    (folder / "plan.yaml").write_text(written.replace("  bf16: false\n", ""))
    take(Path("out"), "r1", place)
    assert "bf16" not in (folder / "plan.yaml").read_text()


def test_the_table_has_the_numbers_of_the_results(place):
    folder = take(Path("out"), "r1", place)
    write(place)
    results, text = json.loads((folder / "results.json").read_text()), (folder / "README.md").read_text()
    found = rows(text)
    assert [*found] == ["arm", *(arm["name"] for arm in results["arms"]), "band − random 0.75"]
    for row in results["differences"]:
        shown = f"[{row['low']:+.4f}, {row['high']:+.4f}]"
        assert (shown in text) == ((row["metric"], row["role"]) in {
            ("loss", "uniform"), ("loss", "random"), ("worst_decile", "uniform"), ("worst_group", "uniform"),
        }), row  # fmt: skip
    assert text.count("band − random 0.75") == 1, "on the other text too"
    band = next(arm for arm in results["arms"] if arm["name"] == "band")
    assert found["band"][0] == f"{band['ran']['figures']['held_out']['mean']:.4f}"
    assert found["uniform"][-1] == "the control"
    assert "| band | `band(drop_top=0.25)` | – | 2 |" in text
    assert "2× the learning rate" in text
    assert "75%" in text, "the share that band keeps"
    summary = (place / "README.md").read_text()
    assert "band: " in summary
    assert EMPTY not in summary


def test_what_labels_got_is_shown_where_there_are_some(place):
    folder = take(Path("out"), "r2", place)
    results = json.loads((folder / "results.json").read_text())
    shares = {"labelled": (0.31, 0.2), "clean": (0.69, 0.8), "base64": (0.31, 0.2)}
    mean = {kind: {"weight": weight, "samples": seen, "tokens": seen} for kind, (weight, seen) in shares.items()}
    results["arms"][-1]["ran"]["labels"] = {"documents": {"base64": 8}, "mean": mean, "by_seed": {}}
    (folder / "results.json").write_text(json.dumps(results))
    write(place)
    text = (folder / "README.md").read_text()
    assert re.search(r"\| 75% \| [^|]+ \| [^|]+ \| [^|]+ \| 31% \| 20% \|", text)
    assert "| band | 1.55 | 0.86 |" in text


def test_a_number_changed_by_hand_is_found(place):
    folder = take(Path("out"), "r1", place)
    page = folder / "README.md"
    write(place)
    text = page.read_text()
    page.write_text(text.replace("the control", "best of all"))
    assert outdated(place) == [page]
    page.write_text(text.replace("## Question", "## Question\n\nWords of one's own."))
    assert outdated(place) == []
    top = place / "README.md"
    top.write_text(top.read_text().replace("band", "bond"))
    assert outdated(place) == [top]
    page.write_text(text.replace("<!-- /table -->", ""))
    with pytest.raises(SamplewiseError, match="once each"):
        write(place)


def test_a_plan_that_is_there_stays_if_it_is_the_one_that_was_run(here, place):
    (place / "r1").mkdir()
    plan = place / "r1" / "plan.yaml"
    given = f"# Why it is asked.\n{(here / 'out' / 'plan.yaml').read_text()}".replace("output: out", "output: build/r1")
    plan.write_text(given)
    take(Path("out"), "r1", place)
    assert plan.read_text() == given
    plan.write_text(given.replace("steps: 2", "steps: 3"))
    with pytest.raises(SamplewiseError, match="one with another budget"):
        take(Path("out"), "r1", place)


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("plan.yaml", "model: model", "model: /home/me/model", "paths below"),
        ("plan.yaml", "path: other.jsonl", "path: ../other.jsonl", "paths below"),
        ("results.json", '"complete": true', '"complete": false', "a finished run"),
        ("results.json", '"verdict": "', '"verdict": "almost ', "the sentences"),
        ("results.json", '"source": "corpus.jsonl"', '"source": "/home/me/corpus.jsonl"', "paths below"),
        ("values.json", '"held_out": [', '"held_out": [1.0,', "finite values"),
    ],
)
def test_what_is_not_fit_is_not_taken(here, place, tmp_path, file, old, new, message):
    run = shutil.copytree(here / "out", tmp_path / "run")
    text = (run / file).read_text()
    assert old in text
    (run / file).write_text(text.replace(old, new))
    with pytest.raises(SamplewiseError, match=message):
        take(run, "r1", place)
    assert pages(place) == []


@pytest.mark.parametrize("name", ["R 1", "../r1", "a/b/c", ""])
def test_a_name_is_a_folder_or_one_below_it(place, name):
    with pytest.raises(SamplewiseError, match="a name such as"):
        take(Path("out"), name, place)


def test_parts_of_a_page_have_tables_of_their_own(place):
    take(Path("probed"), "r0-losses/words", place)
    page = place / "r0-losses" / "README.md"
    write(place)
    text = page.read_text()
    assert "<!-- table words -->" in text
    found = json.loads((place / "r0-losses" / "words" / "probe.json").read_text())
    assert rows(text)["shuffled words"][1].startswith(f"{found['noise']['kinds']['shuffled words']['auc']:.2f} ±")
    assert f"{found['agreement']['cosine'][1]['mean']:+.3f}" in rows(text)["2"][6]
    assert rows(text)["this model · a copy"] == ["1.000", "100%"]
    assert "Beside them: [r0-losses](r0-losses/README.md)" in (place / "README.md").read_text()
    page.write_text(text.replace("## Limits", "## Limits\n\nWords of one's own."))
    take(Path("out"), "r0-losses/arms", place)
    write(place)
    assert list(sections(page.read_text())) == list(SECTIONS)
    assert sections(page.read_text())["Limits"] == "Words of one's own."
    assert "<!-- table arms -->" in sections(page.read_text())["Result"]
    assert broken_links(page.parent) == []
    assert "](arms/plan.yaml)" in page.read_text()
    assert "[r0-losses (arms)](r0-losses/README.md)" in (place / "README.md").read_text()


def test_what_stands_between_markers_is_replaced_and_nothing_else():
    text = "a <!-- t --> old <!-- /t --> b <!-- t two -->kept<!-- /t two -->"
    assert between(text, "t", lambda: "new", Path("p")) == (
        "a <!-- t -->\n\nnew\n\n<!-- /t --> b <!-- t two -->kept<!-- /t two -->"
    )


def test_the_costs_have_a_row_for_each_rule(place, tmp_path):
    own = {"mode": "one_pass", "kept": 1.0, "cpu_ratio": 0.9, "elapsed_ratio": 0.8, "spread": 1.1}
    (tmp_path / "cost").mkdir()
    (tmp_path / "cost" / COST).write_text(json.dumps({
        "versions": "torch 2", "step": {
            "model": "llama", "rows": 8, "accumulation": 4, "length": 128, "dtype": "fp32", "threads": 2, "rounds": 5,
            "load": 0.1, "cores": 2, "plain": {"elapsed": 1.0, "cpu": 2.0},
            "rules": {"ir_dro(r=1)": own, "rho1(keep=0.6)": {**own, "mode": "two_pass"}},
        },
        "memory": {"body": 400.0, "plain": 100.0, "rules": {"ir_dro(r=1)": 25.0, "rho1(keep=0.6)": 125.0}},
        "planning": {"sizes": [32, 1024], "milliseconds": {"ir_dro(r=1)": [0.1, 0.22]}},
    }))  # fmt: skip
    take(tmp_path / "cost", "cost", place)
    write(place)
    found = rows((place / "cost" / "README.md").read_text())
    assert found["`ir_dro(r=1)`"] == ["one", "100%", "0.900", "0.800", "1.10", "0.25", "0.1", "0.22"]
    assert found["`rho1(keep=0.6)`"][-3:] == ["1.25", "–", "–"]
