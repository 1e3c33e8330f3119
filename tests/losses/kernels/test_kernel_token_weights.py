"""Token weights: Σ m·loss / Σ m in every backend and from logits, and weight 0 is label -100."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_cases import error, make_micro, run

from samplewise.core.errors import SamplewiseError
from samplewise.losses.kernels import objective, sample_losses, score
from samplewise.losses.token_losses import sample_losses as from_logits
from samplewise.losses.token_losses import token_counts, token_mass

BACKENDS = ["chunked", "torch", "reference"]
SEGMENTS = torch.randint(-1, 5, (5, 6), generator=torch.Generator().manual_seed(3)).repeat_interleave(2, 1)[:, :11]


def weights_like(labels, seed=0):
    """A third of the tokens of weight 0, the others anywhere between 0 and 2."""
    g = torch.Generator().manual_seed(seed)
    drawn = torch.rand(labels.shape, generator=g, dtype=torch.float64) * 2
    return drawn.masked_fill(torch.rand(labels.shape, generator=g) < 0.34, 0.0)


def obvious(m, weights, segments=None, *, bias=None, softcap=None, scale=1.0, shifted=False):
    """[n] losses from logits, all positions at once, for autograd."""
    logits = (m.hidden @ m.head.T + (0 if bias is None else bias)) * scale
    logits = logits if softcap is None else softcap * torch.tanh(logits / softcap)
    if not shifted:
        logits, owner = logits[:, :-1], None if segments is None else segments[:, :-1]
    else:
        owner = segments
    labels, weights = (m.labels, weights) if shifted else (m.labels[:, 1:], weights[:, 1:])
    weights = weights * (labels != -100)
    if owner is None:
        owner = torch.arange(len(labels))[:, None].expand_as(labels)
    elif shifted:
        weights[:, :-1] *= owner[:, 1:] == owner[:, :-1]
    else:
        weights = weights * (owner == segments[:, 1:])
    token = -torch.log_softmax(logits, -1).gather(2, labels.clamp(min=0)[..., None]).squeeze(2)
    masses = [weights[owner == i].sum() for i in range(int(owner.max()) + 1)]
    return torch.stack(
        [(weights * token)[owner == i].sum() / (mass if mass > 0 else 1) for i, mass in enumerate(masses)]
    )


OPTIONS = {
    "plain": {},
    "shifted": {"shifted": True},
    "softcap and scale": {"softcap": 1.5, "scale": 3.0},
    "segments": {"segments": SEGMENTS},
    "segments, shifted": {"segments": SEGMENTS, "shifted": True},
}


WAYS = ["chunked, known", "chunked, asked", "torch", "reference"]
CASES = [(way, name) for way in WAYS for name in OPTIONS if not (way == "torch" and "softcap" in OPTIONS[name])]


@pytest.mark.parametrize(("way", "name"), CASES)
@pytest.mark.parametrize("biased", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize("rows", [1, 4, None])
def test_every_backend_equals_autograd(micro, way, name, biased, rows):
    (kind, *asks), options = way.split(", "), OPTIONS[name]
    exact, ours = micro.to(torch.float64), micro.to(torch.float64)
    weights = weights_like(micro.labels)
    loss = obvious(exact, weights, bias=exact.bias if biased else None, **options)
    (micro.factors * loss).sum().backward()
    factors = (lambda loss, tokens, index: micro.factors[index]) if asks == ["asked"] else micro.factors
    got = run(ours, objective, factors=factors, bias=ours.bias if biased else None, backend=kind,
              token_weights=weights, chunk_bytes=rows and rows * 37 * 8, **options)  # fmt: skip
    torch.testing.assert_close(got["loss"], loss.detach(), rtol=1e-12, atol=0)
    for part in ("hidden", "head", *["bias"] * biased):
        torch.testing.assert_close(got[part], getattr(exact, part).grad, rtol=1e-10, atol=1e-14)


@given(
    rows=st.integers(1, 60), seed=st.integers(0, 99), asks=st.booleans(), frozen=st.sampled_from(["", "head", "hidden"])
)
@settings(max_examples=40, deadline=None)
def test_any_budget_in_fp32(rows, seed, asks, frozen):
    micro = make_micro(seed=seed)
    weights = weights_like(micro.labels, seed)
    exact, ours = micro.to(torch.float64), micro.to(torch.float32)
    for m in (exact, ours):
        if frozen:
            getattr(m, frozen).requires_grad_(False)
    want = run(exact, objective, token_weights=weights, backend="reference")
    factors = (lambda loss, tokens, index: micro.factors[index]) if asks else micro.factors
    got = run(ours, objective, factors=factors, token_weights=weights.float(), chunk_bytes=rows * 37 * 4)
    assert max(error(got, want).values()) <= 2e-6


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("segments", [None, SEGMENTS], ids=["rows", "segments"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_weight_zero_is_no_label_and_weight_one_no_weight(micro, backend, segments, dtype):
    """To the last bit, in losses, counts and gradients."""
    keep = weights_like(micro.labels) > 0
    masked = micro._replace(labels=micro.labels.masked_fill(~keep, -100))
    want = run(masked.to(dtype), objective, backend=backend, segments=segments, chunk_bytes=7 * 37 * 8)
    got = run(micro.to(dtype), objective, backend=backend, segments=segments, chunk_bytes=7 * 37 * 8,
              token_weights=keep.to(dtype))  # fmt: skip
    assert got.keys() == want.keys()
    for name in want:
        if backend == "reference":
            torch.testing.assert_close(got[name], want[name])
        else:
            assert torch.equal(got[name], want[name]), name
    m = micro.to(dtype)
    one = score(m.hidden, m.head, m.labels, segments=segments, token_weights=keep.to(dtype), backend=backend)
    other = score(m.hidden, m.head, masked.labels, segments=segments, backend=backend)
    assert torch.equal(one.tokens, other.tokens)
    assert one.tokens.dtype == other.mass.dtype == torch.int64
    assert torch.equal(one.mass, other.mass.double())


@pytest.mark.parametrize("unit", [1e-30, 1e30])
@pytest.mark.parametrize("asks", [False, True])
def test_only_ratios_within_a_sample_count(micro, unit, asks):
    weights = weights_like(micro.labels).float()
    units = torch.tensor([unit, 1.0, 1 / unit, 1.0, unit])[:, None]
    factors = (lambda loss, tokens, index: micro.factors[index]) if asks else micro.factors
    want = run(micro.to(torch.float32), objective, factors=factors, token_weights=weights, chunk_bytes=4 * 37 * 4)
    got = run(
        micro.to(torch.float32), objective, factors=factors, token_weights=weights * units, chunk_bytes=4 * 37 * 4
    )
    assert max(error(got, want).values()) <= 1e-6


@pytest.mark.parametrize("backend", ["chunked", "torch"])
@pytest.mark.parametrize("asks", [False, True])
def test_a_token_of_weight_zero_poisons_nothing(micro, backend, asks):
    weights = weights_like(micro.labels)
    weights[0, 4] = weights[3, 6] = 0.0
    clean, broken = micro.to(torch.float32), micro.to(torch.float32)
    with torch.no_grad():
        broken.hidden[0, 3], broken.hidden[3, 5] = float("nan"), float("inf")
    factors = (lambda loss, tokens, index: micro.factors[index]) if asks else micro.factors
    options = {"factors": factors, "token_weights": weights, "backend": backend}
    want, got = run(clean, objective, **options), run(broken, objective, **options)
    for name in want:
        assert torch.equal(got[name], want[name]), name


def test_a_sample_without_a_weighted_token_is_no_sample(micro):
    m, asked = micro.to(torch.float64), []
    weights = weights_like(micro.labels)
    weights[3] = 0.0

    def factor(loss, tokens, index):
        asked.extend(index.tolist())
        return torch.exp(loss)

    out = objective(m.hidden, m.head, m.labels, factor, token_weights=weights, chunk_bytes=9 * 37 * 8)
    assert asked == [0, 2, 4]
    for name in ("loss", "tokens", "factors", "mass"):
        assert float(getattr(out, name).detach()[3]) == 0, name


@pytest.mark.parametrize("segments", [None, SEGMENTS], ids=["rows", "segments"])
@pytest.mark.parametrize("weighted", [False, True])
def test_logits_give_the_same_numbers(micro, segments, weighted):
    weights = weights_like(micro.labels) if weighted else None
    exact, ours = micro.to(torch.float64), micro.to(torch.float64)
    upstream = torch.tensor([0.5, -1.0, 3.0, 2.0, 0.1], dtype=torch.float64)
    loss, tokens = from_logits(exact.hidden @ exact.head.T, exact.labels, segments=segments, token_weights=weights)
    (loss * upstream).sum().backward()
    got = score(ours.hidden, ours.head, ours.labels, segments=segments, token_weights=weights, differentiable=True,
                chunk_bytes=9 * 37 * 8)  # fmt: skip
    (got.loss * upstream).sum().backward()
    torch.testing.assert_close(got.loss, loss, rtol=1e-12, atol=0)
    assert torch.equal(got.tokens, tokens)
    assert torch.equal(got.tokens, token_counts(micro.labels, weights, segments))
    torch.testing.assert_close(got.mass, token_mass(micro.labels, weights, segments))
    torch.testing.assert_close(ours.hidden.grad, exact.hidden.grad, rtol=1e-10, atol=1e-14)
    torch.testing.assert_close(ours.head.grad, exact.head.grad, rtol=1e-10, atol=1e-14)


def test_a_token_of_weight_zero_costs_no_product(micro):
    from torch.utils.flop_counter import FlopCounterMode

    m, weights = micro.to(torch.float32), weights_like(micro.labels)
    with FlopCounterMode(display=False) as counter:
        out = objective(m.hidden, m.head, m.labels, lambda loss, tokens, index: loss, token_weights=weights)
        out.value.backward()
    assert out.tokens.sum() < 30
    assert counter.get_total_flops() == 3 * 2 * 8 * 37 * int(out.tokens.sum())


BAD = {
    "negative": (lambda w: w.index_fill(1, torch.tensor([3]), -0.5), r"-0\.5.*\[0, 3\]"),
    "NaN": (lambda w: w.index_fill(1, torch.tensor([3]), float("nan")), "nan"),
    "infinite": (lambda w: w.index_fill(1, torch.tensor([3]), float("inf")), "inf"),
    "of another shape": (lambda w: w[:, 1:], r"\(5, 11\).*\(5, 10\)"),
    "one a sample": (lambda w: w[:, 0], r"\(5, 11\).*\(5,\)"),
}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
@pytest.mark.parametrize("backend", [*BACKENDS, "logits"])
def test_bad_weights(micro, bad, backend):
    m, (change, message) = micro.to(torch.float32), bad
    options = {"token_weights": change(torch.ones(5, 11))}
    ours = partial(sample_losses, m.hidden, m.head, m.labels, backend=backend)
    losses = partial(from_logits, m.hidden @ m.head.T, m.labels) if backend == "logits" else ours
    with pytest.raises(SamplewiseError, match=f"(?s)^token_weights: .*{message}"):
        losses(**options)


@pytest.mark.parametrize("backend", BACKENDS)
def test_no_weighted_token_at_all(micro, backend):
    m = micro.to(torch.float32)
    with pytest.raises(SamplewiseError, match="at least one predicted token"):
        objective(m.hidden, m.head, m.labels, m.factors, token_weights=torch.zeros(5, 11), backend=backend)
