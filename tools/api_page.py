"""docs/api/README.md: every public name with the first line of its docstring. `python tools/api_page.py` writes it.

What is not on the page is internal: it may change in any release without notice.
"""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path

PAGE = Path(__file__).parents[1] / "docs" / "api" / "README.md"
PUBLIC = {  # module: the names of its public surface; None for its __all__
    "samplewise": None,
    "samplewise.rules": None,
    "samplewise.trainers": None,
    "samplewise.trainers.trl": ["WeightedSFTTrainer"],
    "samplewise.trainers.dpo": ["WeightedDPOTrainer"],
    "samplewise.trainers.collate": ["FieldsCollator"],
    "samplewise.engine.options": ["WeightingOptions"],
    "samplewise.engine.weighting": ["RuleOptions", "StepOptions", "Weighting"],
    "samplewise.engine.observers": ["Observer", "StatelessObserver"],
    "samplewise.engine.result": ["StepResult"],
    "samplewise.engine.step": ["Step"],
    "samplewise.engine.sample_log": ["SampleLog"],
    "samplewise.engine.diagnosis": ["Watch", "diagnose"],
    "samplewise.core.micro_batch": ["MicroBatch", "read_micro_batch"],
    "samplewise.core.checkpoint": ["mark_complete"],
    "samplewise.losses.token_losses": [
        "sample_losses",
        "sample_means",
        "select_tokens",
        "token_counts",
        "token_losses",
    ],
    "samplewise.losses.kernels": None,
    "samplewise.losses.request": ["Request", "attach_objective", "with_objective"],
    "samplewise.losses.reference": ["reference_token_losses"],
    "samplewise.data": None,
    "samplewise.models": None,
    "samplewise.corpus": None,
    "samplewise.evidence": None,
}
HEAD = """# Public names

Import a name from the module it stands under. Every other module and name is internal: it may change without notice.
How public names change is in [CONTRIBUTING](../../CONTRIBUTING.md). This page is written by `python tools/api_page.py`.
"""


def names_of(module: str) -> list[str]:
    """The public names of a module, in order."""
    given = PUBLIC[module]
    return sorted(importlib.import_module(module).__all__ if given is None else given, key=str.lower)


def first_line(value: object) -> str:
    """Of its docstring; the value itself for a plain one."""
    doc = inspect.getdoc(value) if callable(value) or inspect.isclass(value) else None
    if doc is None:
        return f"a {type(value).__name__}"
    return doc.splitlines()[0].replace("|", "\\|")


def page() -> str:
    """The page as it should be."""
    parts = [HEAD]
    seen: set[int] = set()
    for module in PUBLIC:
        found = {name: getattr(importlib.import_module(module), name) for name in names_of(module)}
        new = {name: value for name, value in found.items() if id(value) not in seen}
        seen |= {id(value) for value in new.values()}
        if new:
            rows = [f"| `{name}` | {first_line(value)} |" for name, value in new.items()]
            parts.append(f"\n## `{module}`\n\n| name | |\n|---|---|\n" + "\n".join(rows) + "\n")
    return "".join(parts)


if __name__ == "__main__":
    PAGE.parent.mkdir(parents=True, exist_ok=True)
    PAGE.write_text(page(), encoding="utf-8")
