"""Pictures are written whole, for short and long runs alike."""

import pytest
import torch

from samplewise.evidence import DocumentLoss, Evaluation
from samplewise.evidence.run.history import History
from samplewise.report import arms_table, draw_arms, draw_run, draw_weights
from samplewise.report.style import picture, smoothed


def history(steps: int, *, keep: int = 8) -> History:
    generator, made = torch.Generator().manual_seed(0), History()
    for step in range(steps):
        weights = torch.rand(8, generator=generator) + 0.1
        weights[keep:] = 0
        figures = dict.fromkeys(made.curves, 3.0 - step / (steps + 1))
        made.add(figures, weights / weights.mean(), 8, 100)
    return made


def evaluation(*losses: float) -> Evaluation:
    return Evaluation(tuple(DocumentLoss(i, "a", i, x, 10, 40) for i, x in enumerate(losses)))


@pytest.mark.parametrize("steps", [0, 1, 2, 300])
@pytest.mark.parametrize("keep", [6, 8])
def test_a_run_of_any_length_has_its_picture(tmp_path, steps, keep):
    draw_run(tmp_path / "run.png", history(steps, keep=keep), evaluation(3.0, 4.0), evaluation(2.0, 3.0), "a title")
    assert (tmp_path / "run.png").read_bytes().startswith(b"\x89PNG")
    assert [path.name for path in tmp_path.iterdir()] == ["run.png"]


def test_arms_have_their_picture_and_their_table(tmp_path):
    names = ["uniform", "random", "band"]
    histories = {name: history(5, keep=8 - i) for i, name in enumerate(names)}
    after = {name: evaluation(3.0, 4.0 + i, 5.0) for i, name in enumerate(names)}
    draw_arms(tmp_path / "arms.svg", histories, {name: [each, each] for name, each in after.items()}, "a title")
    assert b"<svg" in (tmp_path / "arms.svg").read_bytes()
    text = arms_table(evaluation(4.0, 5.0, 6.0), after, histories, dict.fromkeys(names, 1.0))
    assert text.count("one seed") == 2
    assert "No difference is shown between band and uniform" in text
    assert "+0.6667" in text


def test_a_picture_that_fails_leaves_no_file(tmp_path):
    with pytest.raises(ZeroDivisionError), picture(tmp_path / "p.png", 4, 3):
        _ = 1 / 0
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("count", [2, 256])
def test_the_curve_of_a_rule(tmp_path, count):
    draw_weights(tmp_path / "w.png", [i / count for i in range(count)], [1.0] * count, "uniform()")
    assert (tmp_path / "w.png").stat().st_size > 5000


def test_smoothing_looks_back_only():
    assert smoothed([1.0, 2.0, 3.0, 4.0], 2) == [1.0, 1.5, 2.5, 3.5]
    assert smoothed([], 3) == []
