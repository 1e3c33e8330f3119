"""Held-out losses against an obvious loop, and intervals against scipy."""

import math

import numpy as np
import pytest
import tiny
import torch
from scipy import stats

from samplewise.core.errors import SamplewiseError
from samplewise.data import Conversation, Example, Window
from samplewise.evidence import DocumentLoss, Evaluation, compare, evaluate, t_quantile


def windows(lengths=((9, 5, 7), (4,), (12, 3)), seed=0) -> list[Window]:
    draw = np.random.default_rng(seed)
    return [
        Window(draw.integers(3, 37, n).astype(np.int32), 10 * doc + i, doc, "a.txt", doc, i, (0, 4 * n), 4 * n)
        for doc, own in enumerate(lengths)
        for i, n in enumerate(own)
    ]


def by_hand(model, given: list[Window]) -> dict[int, float]:
    """One row at a time, one token at a time, fp64."""
    nats: dict[int, list[float]] = {}
    for window in given:
        ids = torch.from_numpy(window.input_ids).long()
        log_p = model(ids[None]).logits[0].double().log_softmax(-1)
        nats.setdefault(window.doc_id, []).extend(-float(log_p[t, ids[t + 1]]) for t in range(len(ids) - 1))
    return {doc: sum(values) / len(values) for doc, values in nats.items()}


@pytest.mark.parametrize("kind", ["llama", "gpt2", "opt"])
@pytest.mark.parametrize("batch_size", [1, 2, 64])
def test_losses_are_those_of_an_obvious_loop(kind, batch_size):
    model = tiny.model(kind, dtype=torch.float64).eval()
    given = windows()
    with torch.no_grad():
        expected = by_hand(model, given)
    found = evaluate(model, given, batch_size=batch_size)
    assert [document.id for document in found.documents] == [0, 1, 2]
    assert [document.tokens for document in found.documents] == [18, 3, 13]
    assert found.losses == pytest.approx(list(expected.values()), rel=1e-6)


def test_of_conversations_only_the_answers_count():
    model = tiny.model(dtype=torch.float64).eval()
    ids = np.array([5, 6, 7, 8, 9], np.int64)
    labels = np.array([-100, -100, 7, -100, 9], np.int64)
    example = Example(ids, labels, None, 8, Conversation((), "a.jsonl", 3, "messages"))
    (found,) = evaluate(model, [example]).documents
    with torch.no_grad():
        log_p = model(torch.from_numpy(ids)[None]).logits[0].double().log_softmax(-1)
    assert found.loss == pytest.approx(-float(log_p[1, 7] + log_p[3, 9]) / 2, rel=1e-6)
    assert (found.id, found.row, found.tokens, found.bytes) == (example.id, 3, 2, 8)


def test_the_figures_are_their_definitions():
    losses = [float(i) for i in range(1, 26)]
    found = Evaluation(tuple(DocumentLoss(i, "a", i, x, 10 + i, 50) for i, x in enumerate(losses)))
    tokens = np.arange(10, 35)
    assert found.mean == 13.0
    assert found.token_mean == pytest.approx(np.average(losses, weights=tokens))
    assert found.bits_per_byte == pytest.approx(np.dot(losses, tokens) / math.log(2) / (25 * 50))
    assert found.p90 == pytest.approx(np.percentile(losses, 90))
    assert found.worst_decile == 24.0  # the worst 3 of 25
    assert Evaluation.from_json(found.to_json()) == found


def test_evaluation_changes_nothing_and_repeats_itself():
    model = tiny.model("opt", dropout=0.3).train()
    state = torch.get_rng_state()
    first, second = (evaluate(model, windows(), batch_size=2) for _ in range(2))
    assert first == second
    assert model.training
    assert torch.equal(torch.get_rng_state(), state)
    assert all(p.grad is None for p in model.parameters())


def test_progress_counts_every_row():
    rows = []
    evaluate(tiny.model(), windows(), batch_size=4, progress=rows.append)
    assert sum(rows) == len(windows())


def test_nothing_to_evaluate_and_a_diverged_model_are_errors():
    with pytest.raises(SamplewiseError, match="at least one"):
        evaluate(tiny.model(), [])
    model = tiny.model()
    with torch.no_grad():
        model.lm_head.weight.fill_(float("nan"))
    with pytest.raises(SamplewiseError, match=r"finite number, got nan on a\.txt, record 0"):
        evaluate(model, windows())


def evaluation(losses) -> Evaluation:
    return Evaluation(tuple(DocumentLoss(i, "a", i, float(x), 10, 40) for i, x in enumerate(losses)))


@pytest.mark.parametrize("count", [2, 3, 10, 47, 300])
def test_the_interval_is_scipys(count):
    draw = np.random.default_rng(count)
    a, b = draw.normal(3, 1, count), draw.normal(3, 1, count)
    found = compare(evaluation(a), evaluation(b))
    expected = stats.ttest_rel(a, b).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert found.difference == pytest.approx((a - b).mean())
    assert found.documents == count


@pytest.mark.parametrize("degrees", [1, 2, 3, 4, 5, 9, 30, 101, 1000])
@pytest.mark.parametrize("probability", [0.6, 0.975, 0.9999])
def test_the_quantile_is_scipys(degrees, probability):
    assert t_quantile(probability, degrees) == pytest.approx(stats.t.ppf(probability, degrees), rel=1e-8)


def test_no_difference_is_claimed_where_the_interval_holds_zero():
    a = evaluation([1.0, 2.0, 3.0, 4.0])
    for other in (a, evaluation([1.1, 1.9, 3.1, 3.9])):
        sentence = compare(a, other).sentence("this", "that")
        assert sentence.startswith("No difference is shown between this and that")
        assert "one seed: the interval covers documents only" in sentence
    lower = compare(a, evaluation([1.5, 2.6, 3.5, 4.4]))
    assert lower.sentence("this", "that").startswith("this has a lower held-out loss than that")
    assert "one seed" in lower.sentence("this", "that")


def test_other_documents_and_a_lone_one_are_errors():
    with pytest.raises(SamplewiseError, match="the same in both"):
        compare(evaluation([1, 2]), evaluation([1, 2, 3]))
    with pytest.raises(SamplewiseError, match="at least 2"):
        compare(evaluation([1]), evaluation([2]))
