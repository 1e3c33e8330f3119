"""Draw docs/rules/*.png: what weight every rule gives to which loss. Run it from the root of the repository.

python tools/draw_rules.py
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from PIL import Image  # comes with matplotlib

import samplewise as sw
from samplewise.core.samples import Samples, as_samples
from samplewise.report.style import BLUE, GREEN, GREY, ORANGE, picture
from samplewise.rules.base import uniforms

FOLDER = Path(__file__).parent.parent / "docs" / "rules"
PICTURES: dict[str, list[tuple[str, int]]] = {
    "uniform": [("uniform()", 0)],
    "column_weights": [("column_weights()", 0)],
    "ir_dro": [("ir_dro(r=1)", 0), ("ir_dro(ess=0.5)", 0), ("ir_dro(r=-1)", 0)],
    "chi2_dro": [("chi2_dro(rho=0.1)", 0), ("chi2_dro(rho=1)", 0)],
    "cvar": [("cvar(alpha=0.3)", 0)],
    "lin_upper": [("lin_upper(r=1)", 0), ("lin_upper(r=0.4)", 0)],
    "quadratic": [("quadratic(r=1)", 0), ("quadratic(r=0.4)", 0)],
    "extremes": [("extremes(r=1)", 0), ("extremes(r=0.4)", 0)],
    "flow": [("flow(tau=1.5)", 0), ("flow(tau=0.5)", 0)],
    "focal": [("focal(gamma=2)", 0), ("focal(gamma=8)", 0)],
    "truncate": [("truncate(share=0.1, warmup=100)", 0), ("truncate(share=0.1, warmup=100)", 100)],
    "mid_ranking": [("mid_ranking(frac=0.25, portion=1)", 0)],
    "band": [("band(drop_top=0.1, drop_bottom=0.2)", 0)],
    "top_k": [("top_k(share=0.25)", 0)],
    "threshold": [("threshold(low=2.0, high=3.6)", 0)],
    "sample_proportional": [("sample_proportional(share=0.5)", 0)],
    "infobatch": [("infobatch(share=0.5, anneal=0.0)", 1)],
    "random_keep": [("random_keep(share=0.5)", 0)],
    "clip_weights": [("chain(ir_dro(r=0.5), clip_weights(2))", 0)],
    "mix_uniform": [("chain(ir_dro(r=0.5), mix_uniform(0.5))", 0)],
    "group_dro": [("group_dro(step_size=0.1)", 20)],
    "doremi": [("doremi(step_size=0.1)", 20)],
    "by": [('by("excess", ir_dro(r=1))', 0), ('by("excess", top_k(0.25))', 0)],
    "by_length": [("by_length(4, top_k(0.25))", 0)],
    "chain": [("chain(band(drop_top=0.1), ir_dro(r=1))", 0)],
    "warmup": [("warmup(100, ir_dro(r=1))", 0), ("warmup(100, ir_dro(r=1))", 100)],
    "schedule": [("ir_dro(r=linear(1.0, 0.3, 100))", step) for step in (0, 50, 100)],
}
"""Of each picture the curves: an expression, and the step at which it is drawn."""

SCATTERED = ("random_keep", "column_weights", "by", "sample_proportional", "infobatch", "group_dro", "doremi")
"""Rules whose weight is no function of the loss: drawn as dots."""


def losses(n: int = 200) -> torch.Tensor:
    """[n] the quantiles of a bell round 2.8 nats per token, 0.6 wide, as the losses of a step often are."""
    return 2.8 + 0.6 * torch.special.ndtri((torch.arange(n, dtype=torch.float64) + 0.5) / n)


def with_fields(samples: Samples) -> Samples:
    """The same samples with every field, as a data set might have it, whatever the loss."""
    u = [uniforms(samples.id, 0, seed) for seed in range(3)]
    return replace(
        samples,
        weight=(4 * u[0]).floor() / 2,
        reference=samples.loss.mean() - 0.5 + u[1],
        group=(3 * u[1]).long() + (samples.loss > samples.loss.mean()),
        tokens=(8 * 2 ** (4 * u[2])).long(),
    )


def at_step(expression: str, step: int, loss: torch.Tensor) -> list[float]:
    """Weights of mean 1 after so many steps of the same losses."""
    rule, samples = sw.parse_rule(expression), with_fields(as_samples(loss))
    state = rule.init()
    for _ in range(step):
        state = rule.update(samples, torch.ones_like(loss), state)
    return sw.plan_step(rule, samples, state).weights.tolist()


def draw(path: Path, curves: list[tuple[str, int]]) -> None:
    """One picture; weights in colours, the losses as ticks below."""
    loss = losses()
    x = loss.tolist()
    steps = len({step for _, step in curves}) > 1
    with picture(path, 4.2, 2.6) as (_, axes):
        axes.axhline(1.0, color=GREY, linewidth=0.8, linestyle=":")
        axes.plot(x[::5], [0.0] * len(x[::5]), "|", color=GREY, markersize=5, clip_on=False)
        most = 1.0
        for (expression, step), colour in zip(curves, (BLUE, ORANGE, GREEN), strict=False):
            y = at_step(expression, step, loss)
            most = max(most, *y)
            dots = expression.startswith(SCATTERED)
            label = f"step {step}" if steps else expression
            axes.plot(x, y, "." if dots else "-", color=colour, markersize=3, linewidth=1.8, label=label)
        axes.set_ylim(0, 1.1 * most)
        axes.set_xlabel("loss, nats per token", fontsize=9)
        axes.set_ylabel("weight", fontsize=9)
        axes.tick_params(labelsize=8)
        title = curves[0][0] if steps or len(curves) == 1 else ""
        axes.set_title(title, family="DejaVu Sans Mono", fontsize=8)
        if len(curves) > 1:
            axes.legend(fontsize=8, loc="best")
    Image.open(path).convert("RGB").quantize(32).save(path, optimize=True)  # a quarter of the bytes


def main() -> None:
    """Draw them all."""
    FOLDER.mkdir(exist_ok=True)
    for name, curves in PICTURES.items():
        draw(FOLDER / f"{name}.png", curves)
        print(FOLDER / f"{name}.png")


if __name__ == "__main__":
    main()
