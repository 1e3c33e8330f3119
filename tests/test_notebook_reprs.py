"""What a notebook shows of rules, plans, results and scores, and scores as data frames."""

from xml.etree import ElementTree

import pytest
import torch
from fake_scores import write_fake_scores

import samplewise as sw
from samplewise.core.samples import as_samples
from samplewise.corpus import column, open_scores
from samplewise.engine.observers import StatelessObserver
from samplewise.evidence import Comparison


def parsed(html: str) -> ElementTree.Element:
    return ElementTree.fromstring(f"<all>{html.replace('<br>', '<br/>')}</all>")


def test_a_rule_shows_its_call_and_its_curve():
    html = sw.chain(sw.band(drop_top=0.1), sw.ir_dro(r=1.0))._repr_html_()
    line = next(each for each in parsed(html).iter("polyline"))
    points = [float(pair.split(",")[1]) for pair in line.attrib["points"].split()]
    assert len(points) == 65
    assert points[0] > points[40] > points[57]  # the weight rises: y falls
    assert points[-1] == 90.0  # left out: on the ground
    assert "chain(band(drop_top=0.1" in html


def test_a_rule_that_reads_columns_shows_its_call():
    assert parsed(sw.group_dro()._repr_html_()).find(".//polyline") is None


def test_a_plan_counts_its_samples_by_weight():
    plan = sw.plan_step(sw.top_k(share=0.5), as_samples([1.0, 2.0, 3.0, 4.0]), {})
    tree = parsed(plan._repr_html_())
    titles = [title.text for title in tree.iter("title")]
    assert titles[0] == "0: 2"
    assert "1.5 to 2: 2" in titles
    assert {row[0].text: row[1].text for row in tree.iter("tr")}["kept"] == "0.5"


def test_a_result_shows_how_the_step_ran(tiny_result):
    cells = {row[0].text: row[1].text for row in parsed(tiny_result._repr_html_()).iter("tr")}
    assert cells["rule"] == "ir_dro(r=1.0)"
    assert cells["samples"] == "4"


@pytest.fixture
def tiny_result():
    import tiny

    from samplewise.trainers import WeightedStep

    class Last(StatelessObserver):
        def on_step(self, result):
            self.result = result

    last, rows = Last(), tiny.Rows(4)
    step = WeightedStep(tiny.model(), "ir_dro(r=1.0)", observers=[last])
    for micro in step.plan([{**tiny.collate([rows[i] for i in range(4)]), "sample_id": torch.arange(4)}]):
        step.backward(micro)
    step.finish()
    return last.result


def test_a_comparison_escapes_nothing_and_says_its_interval():
    assert "+0.1000 [-0.1000, +0.3000]" in Comparison(0.1, -0.1, 0.3, 10)._repr_html_()


def test_scores_become_data_frames(tmp_path):
    write_fake_scores(tmp_path / "scores", rows=900, added=("reference",))
    scores = open_scores(tmp_path / "scores")
    ids, losses = column(scores, "loss")
    pandas, polars = scores.to_pandas(["id", "loss"]), scores.to_polars(["id", "loss", "reference"])
    assert pandas["id"].tolist() == polars["id"].to_list() == ids.tolist()
    assert pandas["loss"].tolist() == pytest.approx(losses.tolist())
    assert polars.columns == ["id", "loss", "reference"]
    assert "900" in scores._repr_html_()
