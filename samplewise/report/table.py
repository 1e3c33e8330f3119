"""Arms side by side in text."""

from __future__ import annotations

from collections.abc import Mapping

from samplewise.evidence import Evaluation, compare
from samplewise.evidence.run.history import History


def arms_table(
    before: Evaluation, after: Mapping[str, Evaluation], histories: Mapping[str, History], seconds: Mapping[str, float]
) -> str:
    """A row for the initial model and for each arm, which are compared with the first one; then the sentences.

    Losses are nats/token over documents; tokens are those trained on.
    """
    first = next(iter(after))
    lines = [
        f"{'':<14}{'mean':>8}{'p90':>8}{'worst':>8}{'bits/':>8}{'tokens':>9}{'':>9}",
        f"{'held out':<14}{'loss':>8}{'':>8}{'decile':>8}{'byte':>8}{'trained':>9}{'seconds':>9}"
        f"   mean − {first}, 95% interval",
        f"{'before':<14}{_figures(before)}",
    ]
    for name, found in after.items():
        line = f"{name:<14}{_figures(found)}{histories[name].tokens:>9,}{seconds[name]:>9.0f}"
        if name != first:
            apart = compare(found, after[first])
            line += f"   {apart.difference:+.4f}  [{apart.low:+.4f}, {apart.high:+.4f}]"
        lines.append(line)
    lines.append("")
    lines += [compare(found, after[first]).sentence(name, first) for name, found in after.items() if name != first]
    return "\n".join(lines)


def _figures(found: Evaluation) -> str:
    return f"{found.mean:>8.4f}{found.p90:>8.4f}{found.worst_decile:>8.4f}{found.bits_per_byte:>8.4f}"
