"""rho1 on a pair of tiny models, without logits of either, against the obvious loop over rows and tokens, in fp64."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from test_head import build, gradients, make_batch

from samplewise.core.errors import SamplewiseError
from samplewise.core.micro_batch import MicroBatch
from samplewise.losses.reference import reference_token_losses
from samplewise.losses.request import Request, with_objective
from samplewise.losses.token_losses import sample_losses, sample_means, select_tokens, token_losses, token_mass
from samplewise.rules.tokens import rho1

KEEP = 0.4
FACTORS = torch.tensor([0.5, 2.0, 1.0, 0.1], dtype=torch.float64)


@pytest.fixture
def pair():
    """A model and its reference, of another architecture and size."""
    return build("Llama").double(), build("GPT2").double().train()


def obvious(model, reference, micro_batches, scope):
    """[N] losses with history and [N] kept tokens: one list of (excess, row, loss) after another."""
    rows = []
    for inputs, labels in micro_batches:
        ours = torch.log_softmax(model(**inputs).logits, -1)
        with torch.no_grad():
            theirs = torch.log_softmax(reference(**inputs).logits, -1)
        for i in range(len(labels)):
            row = []
            for t in range(labels.shape[1] - 1):
                label = labels[i, t + 1]
                if label != -100:
                    row.append((float(theirs[i, t, label] - ours[i, t, label].detach()), -ours[i, t, label]))
            rows.append(row)
    kept = []
    for row in rows:
        within = [row] if scope == "sample" else rows
        ranked = sorted((excess for each in within for excess, _ in each), reverse=True)
        last = ranked[max(1, math.floor(KEEP * len(ranked))) - 1]
        kept.append([loss for excess, loss in row if excess >= last])
    losses = [torch.stack(row).mean() if row else torch.zeros((), dtype=torch.float64) for row in kept]
    return torch.stack(losses), torch.tensor([len(row) for row in kept])


def batch_of(inputs, labels):
    return MicroBatch(dict(inputs), labels, torch.arange(len(labels)))


def close(got, want):
    assert got.keys() == want.keys()
    for parameter, grad in want.items():
        assert (got[parameter] - grad).norm() <= 1e-10 * grad.norm(), parameter


@pytest.mark.parametrize("backend", ["chunked", "torch"])
@pytest.mark.parametrize("rows", [3, None])
@pytest.mark.parametrize("asks", [False, True])
def test_within_samples_in_one_pass(pair, backend, rows, asks):
    (model, reference), (inputs, labels) = pair, make_batch()
    reference.eval()
    loss, tokens = obvious(model, reference, [(inputs, labels)], "sample")
    u = torch.exp(loss.detach()) if asks else FACTORS
    want = gradients(model, (u * loss).sum())
    request = Request(
        labels, (lambda loss, tokens, index: torch.exp(loss)) if asks else FACTORS, select=rho1(KEEP),
        reference=reference_token_losses(reference, batch_of(inputs, labels)), backend=backend,
        chunk_bytes=rows and rows * 61 * 8,
    )  # fmt: skip
    with with_objective(model):
        out = model(**inputs, samplewise=request)
        got = gradients(model, out.value)
    torch.testing.assert_close(out.loss.detach(), loss.detach(), rtol=1e-10, atol=0)
    assert torch.equal(out.tokens, tokens)
    assert torch.equal(out.mass, tokens.double())
    close(got, want)


def test_over_the_step_in_two_passes(pair):
    """Token losses of every micro-batch, one choice over all, sample losses without a forward, then training."""
    (model, reference), rule = pair, rho1(KEEP, "step")
    micro_batches = [make_batch(), make_batch(left=True)]
    reference.eval()
    loss, tokens = obvious(model, reference, micro_batches, "step")
    u = torch.linspace(0.2, 2, 8, dtype=torch.float64)
    want = gradients(model, (u * loss).sum())
    with with_objective(model):
        with torch.no_grad():
            first = [model(**i, samplewise=Request(y, token_losses=True)).token_loss for i, y in micro_batches]
        theirs = [reference_token_losses(reference, batch_of(*each)) for each in micro_batches]
        weights = select_tokens(rule, torch.cat(first), torch.cat([y for _, y in micro_batches]), torch.cat(theirs))
        scored = sample_means(torch.cat(first), torch.cat([y for _, y in micro_batches]), token_weights=weights)
        torch.testing.assert_close(scored[0], loss.detach(), rtol=1e-10, atol=0)
        assert torch.equal(scored[1], tokens)
        requests = [
            Request(y, u[4 * i : 4 * i + 4], token_weights=weights[4 * i : 4 * i + 4])
            for i, (_, y) in enumerate(micro_batches)
        ]
        value = sum(model(**i, samplewise=r).value for (i, _), r in zip(micro_batches, requests, strict=True))
        got = gradients(model, value)
    close(got, want)


def test_from_logits(pair):
    (model, reference), (inputs, labels) = pair, make_batch()
    reference.eval()
    loss, tokens = obvious(model, reference, [(inputs, labels)], "sample")
    want = gradients(model, (FACTORS * loss).sum())
    logits, theirs = model(**inputs).logits, reference_token_losses(reference, batch_of(inputs, labels))
    aligned = torch.nn.functional.pad(token_losses(logits, labels), (1, 0))
    weights = select_tokens(rho1(KEEP), aligned, labels, theirs)
    ours, counts = sample_losses(logits, labels, token_weights=weights)
    torch.testing.assert_close(ours.detach(), loss.detach(), rtol=1e-10, atol=0)
    assert torch.equal(counts, tokens)
    assert torch.equal(token_mass(labels, weights), tokens.double())
    close(gradients(model, (FACTORS * ours).sum()), want)


def test_the_reference_is_left_as_it_was(pair):
    """In training mode, with dropout: it is scored without, and stays in training mode; nothing random is drawn."""
    reference, (inputs, labels) = build("GPT2", resid_pdrop=0.5).train(), make_batch()
    reference.transformer.h[0].eval()
    modes, state = [m.training for m in reference.modules()], torch.get_rng_state()
    got = reference_token_losses(reference, batch_of(inputs, labels))
    assert [m.training for m in reference.modules()] == modes
    assert torch.equal(torch.get_rng_state(), state)
    assert not got.requires_grad
    with torch.no_grad():
        want = torch.nn.functional.pad(token_losses(reference.eval()(**inputs).logits, labels), (1, 0))
    torch.testing.assert_close(got, want)


def test_a_batch_that_predicts_nothing(pair):
    inputs, labels = make_batch()
    for batch in (
        batch_of(inputs, torch.full_like(labels, -100)),
        replace(batch_of(inputs, labels), token_weights=torch.zeros(4, 12)),
    ):
        assert torch.equal(reference_token_losses(pair[1], batch), torch.zeros(4, 12))


def test_a_request_ignores_nothing():
    labels = make_batch()[1]
    for options in ({"select": rho1()}, {"reference": torch.zeros(4, 12)}):
        with pytest.raises(SamplewiseError, match="factors to be given with it"):
            Request(labels, **options)
    for options in ({"token_losses": True}, {"differentiable": True}):
        with pytest.raises(SamplewiseError, match="factors to be left out with it"):
            Request(labels, FACTORS, **options)


def test_the_page_runs(pair):
    page = (Path(__file__).parents[2] / "docs" / "tokens.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    (model, reference), (inputs, labels) = pair, make_batch()
    names = {"torch": torch, "model": model, "reference": reference, "batches": [{**inputs, "labels": labels}]}
    exec(block, names)
    assert names["result"].tokens.tolist() == [6, 3, 3, 5]  # ⌊0.6·n⌋ of 11, 6, 6 and 9
    assert model.lm_head.weight.grad is not None


def test_a_packed_row(pair):
    """Segments of one row: the token losses of the rows they came from, and the same choice."""
    (model, reference), (inputs, labels) = pair, make_batch()
    real = inputs["attention_mask"].bool()
    ids, flat = inputs["input_ids"][real][None], labels[real][None]
    segments = torch.arange(4)[:, None].expand(4, 12)[real][None]
    position = torch.cat([torch.arange(int(n)) for n in real.sum(1)])[None]
    apart = reference_token_losses(reference, batch_of(inputs, labels))
    packed = MicroBatch({"input_ids": ids, "position_ids": position}, flat, torch.arange(4), segments=segments)
    together = reference_token_losses(reference, packed)
    torch.testing.assert_close(together[0], apart[real])
    with with_objective(model):
        one = model(**inputs, samplewise=Request(labels, FACTORS, select=rho1(KEEP), reference=apart))
        request = Request(flat, FACTORS, segments=segments, select=rho1(KEEP), reference=together)
        other = model(input_ids=ids, position_ids=position, samplewise=request)
    torch.testing.assert_close(one.loss, other.loss, rtol=1e-10, atol=0)
    assert torch.equal(one.tokens, other.tokens)
    close(gradients(model, other.value), gradients(model, one.value))
