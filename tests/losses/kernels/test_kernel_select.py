"""Token weights chosen from token losses in the same pass: what two passes with the same weights give."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_cases import error, make_micro, run

from samplewise.core.errors import SamplewiseError
from samplewise.core.token_rule import TokenRule
from samplewise.losses.kernels import objective, score
from samplewise.losses.token_losses import select_tokens
from samplewise.rules import dft, talr, token_threshold

SEGMENTS = torch.randint(-1, 5, (5, 6), generator=torch.Generator().manual_seed(3)).repeat_interleave(2, 1)[:, :11]
OPTIONS = {
    "plain": {},
    "softcap and scale": {"softcap": 1.5, "scale": 3.0},
    "segments": {"segments": SEGMENTS},
    "token weights": {"token_weights": torch.rand(5, 11, generator=torch.Generator().manual_seed(4)).round(decimals=1)},
}


def above_mean(loss, reference, sample):
    """Smooth weights for what lies above the mean excess of its sample, 0 below."""
    excess = loss if reference is None else loss - reference
    mean = torch.zeros(int(sample.max()) + 1, dtype=loss.dtype).index_add(0, sample, excess)
    mean /= torch.bincount(sample).clamp(min=1)
    return (excess - mean[sample]).clamp(min=0)


def in_two_passes(m, factors, select, reference, **options):
    """Score, choose, then the objective with the chosen token weights."""
    m_ = [x.detach() for x in (m.hidden, m.head)]
    scores = score(*m_, m.labels, backend="reference", token_losses=True, **options)
    known = {name: options.get(name) for name in ("segments", "token_weights")}
    weights = select_tokens(select, scores.token_loss, m.labels, reference, **known)
    return run(m, objective, factors=factors, backend="reference", **{**options, "token_weights": weights})


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("rows", [3, 13, None])
@pytest.mark.parametrize("asks", [False, True], ids=["known", "asked"])
@pytest.mark.parametrize("frozen", ["", "head", "hidden"])
@pytest.mark.parametrize("given", [False, True], ids=["no reference", "reference"])
@pytest.mark.fast_cover(2)
def test_one_pass_equals_two(micro, options, rows, asks, frozen, given):
    exact, ours = micro.to(torch.float64), micro.to(torch.float64)
    for m in (exact, ours):
        if frozen:
            getattr(m, frozen).requires_grad_(False)
    reference = torch.rand(5, 11, dtype=torch.float64) * 6 if given else None
    want = in_two_passes(exact, micro.factors, above_mean, reference, **options)
    factors = (lambda loss, tokens, index: micro.factors[index]) if asks else micro.factors
    got = run(ours, objective, factors=factors, select=above_mean, reference=reference,
              chunk_bytes=rows and rows * 37 * 8, **options)  # fmt: skip
    assert max(error(got, want).values()) <= 1e-10


@pytest.mark.parametrize("backend", ["torch", "reference"])
@pytest.mark.parametrize("segments", [None, SEGMENTS], ids=["rows", "segments"])
def test_other_backends(micro, backend, segments):
    want = run(micro.to(torch.float64), objective, select=above_mean, segments=segments)
    got = run(micro.to(torch.float64), objective, select=above_mean, segments=segments, backend=backend)
    assert max(error(got, want).values()) <= 1e-10


@given(rows=st.integers(1, 60), seed=st.integers(0, 99), shifted=st.booleans())
@settings(max_examples=40, deadline=None)
def test_any_budget_in_fp32(rows, seed, shifted):
    micro = make_micro(seed=seed)
    want = run(micro.to(torch.float64), objective, select=above_mean, shifted=shifted, backend="reference")
    got = run(micro.to(torch.float32), objective, select=above_mean, shifted=shifted, chunk_bytes=rows * 37 * 4)
    assert max(error(got, want).values()) <= 5e-6


@pytest.mark.parametrize("rows", [3, 14, None])
def test_complete_samples_once_each_then_their_factor(micro, rows):
    m, reference, seen, asked = micro.to(torch.float64), torch.rand(5, 11, dtype=torch.float64), {}, {}
    full = score(m.hidden.detach(), m.head.detach(), m.labels, token_losses=True)

    def select(loss, theirs, sample):
        for i in sample.unique().tolist():
            assert i not in seen
            seen[i] = (loss[sample == i], theirs[sample == i])
        return (loss > theirs + 3).double()

    def factor(loss, tokens, index):
        asked.update(zip(index.tolist(), zip(loss, tokens, strict=True), strict=True))
        return torch.exp(-loss)

    out = objective(m.hidden, m.head, m.labels, factor, select=select, reference=reference,
                    chunk_bytes=rows and rows * 37 * 8)  # fmt: skip
    assert sorted(seen) == [0, 2, 3, 4]
    for i, (loss, theirs) in seen.items():
        predicted = m.labels[i, 1:] != -100
        torch.testing.assert_close(loss, full.token_loss[i, 1:][predicted])
        torch.testing.assert_close(theirs, reference[i, 1:][predicted])
        kept = loss > theirs + 3
        torch.testing.assert_close(asked[i][0], loss[kept].mean())
        assert asked[i][1] == out.tokens[i] == out.mass[i] == kept.sum() > 0


@pytest.mark.parametrize("backend", ["chunked", "torch", "reference"])
@pytest.mark.parametrize("rows", [3, None])
def test_nothing_may_be_selected(micro, backend, rows):
    m = micro.to(torch.float64)
    out = objective(m.hidden, m.head, m.labels, lambda loss, tokens, index: torch.exp(loss), backend=backend,
                    chunk_bytes=rows and rows * 37 * 8, select=lambda loss, theirs, sample: loss * 0)  # fmt: skip
    out.value.backward()
    assert [int(x.detach().count_nonzero()) for x in (out.value, out.loss, out.tokens, out.mass, out.factors)] == [
        0
    ] * 5
    assert m.hidden.grad.count_nonzero() == m.head.grad.count_nonzero() == 0


@pytest.mark.parametrize("rows", [3, None])
def test_a_token_that_is_not_selected_poisons_nothing(micro, rows):
    clean, broken = micro.to(torch.float32), micro.to(torch.float32)
    with torch.no_grad():
        broken.hidden[0, 3], broken.hidden[3, 5] = float("nan"), float("inf")
    marks = torch.ones(5, 11)
    marks[0, 4] = marks[3, 6] = 0
    options = {"select": lambda loss, marks, sample: marks, "reference": marks, "chunk_bytes": rows and rows * 37 * 4}
    want, got = run(clean, objective, **options), run(broken, objective, **options)
    for name in want:
        torch.testing.assert_close(got[name], want[name], msg=name)


def test_what_is_not_selected_costs_one_product(micro):
    from torch.utils.flop_counter import FlopCounterMode

    half = lambda loss, theirs, sample: torch.arange(len(loss)) % 2 == 0  # noqa: E731
    product = 2 * 8 * 37
    for rows, first in ((None, 1), (3, 2)):  # a sample longer than the chunk is scored beforehand
        m = micro.to(torch.float32)
        m.head.requires_grad_(False)
        with FlopCounterMode(display=False) as counter:
            out = objective(m.hidden, m.head, m.labels, torch.ones(5), select=half, chunk_bytes=rows and rows * 37 * 4)
            out.value.backward()
        kept = int(out.tokens.sum())
        assert kept == 18
        assert counter.get_total_flops() == product * (36 + first * kept)


BAD = {
    "negative": lambda loss, theirs, sample: -loss,
    "NaN": lambda loss, theirs, sample: loss * float("nan"),
    "too few": lambda loss, theirs, sample: loss[1:],
}


@pytest.mark.parametrize("select", BAD.values(), ids=BAD)
@pytest.mark.parametrize("backend", ["chunked", "torch", "reference"])
def test_bad_choices(micro, select, backend):
    m = micro.to(torch.float32)
    with pytest.raises(SamplewiseError, match=r"^token_weights: "):
        objective(m.hidden, m.head, m.labels, m.factors, select=select, backend=backend)


@pytest.mark.parametrize(
    "options", [{"reference": torch.ones(5, 11)}, {"reference": torch.ones(5), "select": above_mean}]
)
def test_bad_references(micro, options):
    m = micro.to(torch.float32)
    with pytest.raises(SamplewiseError, match=r"^reference: .*for `select`"):
        objective(m.hidden, m.head, m.labels, m.factors, **options)


@pytest.mark.parametrize("backend", ["chunked", "torch", "reference"])
@pytest.mark.parametrize("shifted", [False, True])
@pytest.mark.parametrize("differentiable", [False, True])
def test_token_losses_stand_where_the_labels_do(micro, backend, shifted, differentiable):
    m = micro.to(torch.float64)
    out = score(m.hidden, m.head, m.labels, shifted=shifted, backend=backend, differentiable=differentiable,
                segments=SEGMENTS, token_losses=True, chunk_bytes=7 * 37 * 8)  # fmt: skip
    log_p = torch.log_softmax(m.hidden.detach() @ m.head.detach().T, -1)
    predicted = SEGMENTS[:, :-1] == SEGMENTS[:, 1:]
    at, last = (slice(0, None), True) if shifted else (slice(1, None), None)
    if shifted:
        predicted = torch.cat([predicted, torch.full((5, 1), last)], 1)
        mine = log_p
    else:
        mine = log_p[:, :-1]
    label, owner = m.labels[:, at], SEGMENTS[:, at]
    want = -mine.gather(2, label.clamp(min=0)[..., None]).squeeze(2) * (predicted & (label != -100) & (owner >= 0))
    torch.testing.assert_close(out.token_loss[:, at], want)
    assert not out.token_loss.requires_grad
    assert shifted or out.token_loss[:, 0].count_nonzero() == 0


POINTWISE = {"dft": dft(), "talr": talr(tau=2.0), "threshold": token_threshold(max=3.0)}


def by_row(m, rule, factors, token_weights=None):
    """Σ u_i Σ_t m_t w(ℓ_t) ℓ_t / n_i by autograd, row by row; n_i is Σ m_t, of a selection over what is left."""
    log_p, terms = torch.log_softmax(m.hidden @ m.head.T, -1), []
    for i in range(len(m.labels)):
        at = [t for t in range(1, m.labels.shape[1]) if m.labels[i, t] != -100]
        weight = (
            torch.ones_like(m.labels[0], dtype=torch.float64) if token_weights is None else token_weights[i].double()
        )
        at = [t for t in at if weight[t] > 0]
        if not at:
            continue
        loss = torch.stack([-log_p[i, t - 1, m.labels[i, t]] for t in at])
        own = weight[at]
        chosen = own * rule(loss.detach(), None, torch.zeros(len(at)))
        seen = own if rule.reweighs else chosen
        if float(seen.sum()) > 0:
            u = factors((seen * loss.detach()).sum() / seen.sum(), i)
            terms.append(u * (chosen * loss).sum() / seen.sum())
    return torch.stack(terms).sum()


@pytest.mark.parametrize("name", POINTWISE)
@pytest.mark.parametrize("weighted", [False, True], ids=["", "token weights"])
@pytest.mark.parametrize("asks", [False, True], ids=["known", "asked"])
@pytest.mark.parametrize(("backend", "rows"), [("chunked", 3), ("chunked", 13), ("chunked", None), ("torch", None),
                                               ("reference", None)])  # fmt: skip
@pytest.mark.fast_cover(2)
def test_a_pointwise_rule_by_row(micro, name, weighted, asks, backend, rows):
    """Chunks of 3 rows cut every sample: what is kept of one is known after its last chunk alone."""
    exact, ours, rule = micro.to(torch.float64), micro.to(torch.float64), POINTWISE[name]
    weights = OPTIONS["token weights"]["token_weights"] if weighted else None
    known = micro.factors.double()
    want = by_row(exact, rule, (lambda loss, i: torch.exp(loss / 3)) if asks else lambda loss, i: known[i], weights)
    want.backward()
    factors = (lambda loss, tokens, index: torch.exp(loss / 3)) if asks else known
    out = objective(ours.hidden, ours.head, ours.labels, factors, select=rule, token_weights=weights, backend=backend,
                    chunk_bytes=rows and rows * 37 * 8)  # fmt: skip
    out.value.backward()
    assert float((out.value - want).detach().abs()) <= 1e-10 * float(want.detach().abs())
    for got, of in ((ours.hidden.grad, exact.hidden.grad), (ours.head.grad, exact.head.grad)):
        assert float((got - of).norm() / of.norm()) <= 1e-10


@pytest.mark.parametrize("rows", [3, None])
def test_a_pointwise_selection_that_keeps_nothing_of_a_long_sample(micro, rows):
    m = micro.to(torch.float64)
    out = objective(m.hidden, m.head, m.labels, lambda loss, *_: torch.exp(loss), select=token_threshold(0.0),
                    chunk_bytes=rows and rows * 37 * 8)  # fmt: skip
    out.value.backward()
    assert m.hidden.grad.count_nonzero() == m.head.grad.count_nonzero() == 0


def test_losses_and_counts_beside_a_reweighing_are_plain(micro):
    m = micro.to(torch.float64)
    out = objective(m.hidden, m.head, m.labels, micro.factors.double(), select=dft())
    plain = score(m.hidden.detach(), m.head.detach(), m.labels)
    torch.testing.assert_close(out.loss.detach(), plain.loss)
    assert torch.equal(out.tokens, plain.tokens)


def test_weights_of_a_rule_of_ones_own_are_looked_at(micro):
    m = micro.to(torch.float64)
    bad = TokenRule("mine()", lambda loss, reference, sample: -loss, "sample", needs_reference=False, norm="count",
                    pointwise=True)  # fmt: skip
    with pytest.raises(SamplewiseError, match=r"token_weights.*finite numbers of 0 or more"):
        objective(m.hidden, m.head, m.labels, micro.factors.double(), select=bad)
