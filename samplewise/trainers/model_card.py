"""What the model card says of the weights that a model was trained with: rule, options, figures, citation."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from huggingface_hub import ModelCard
from transformers import Trainer

from samplewise import __version__
from samplewise.engine.figures import LOGGED, PREFIX
from samplewise.engine.options import WeightingOptions

_Host = Trainer if TYPE_CHECKING else object

TAG = "samplewise"
PAPER = {
    "id": "2402.14270",
    "title": "Take the Bull by the Horns: Hard Sample-Reweighted Continual Training Improves LLM Generalization",
    "citation": """@article{chen2024take,
  title   = {Take the Bull by the Horns: Hard Sample-Reweighted Continual Training Improves LLM Generalization},
  author  = {Chen, Xuxi and Wang, Zhendong and Sow, Daouda and Yang, Junjie and Chen, Tianlong and Liang, Yingbin and
             Zhou, Mingyuan and Wang, Zhangyang},
  journal = {arXiv preprint arXiv:2402.14270},
  year    = {2024}
}""",
}
METHODS = {"ir_dro": "IR-DRO", "mid_ranking": "MidRanking"}
"""The paper's own, by the name of the rule."""

SILENT = ("rule", "log_samples", "reference_model", "losses")
"""Options that the line of options leaves out: said above it, paths and objects."""


class ModelCardMixin(_Host):
    """Adds a section to the card that the Trainer, or TRL, writes into the output folder, and the tag "samplewise"."""

    options: WeightingOptions

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """The Trainer's model card, with a section on the weights."""
        super().create_model_card(*args, **kwargs)
        if not self.is_world_process_zero():
            return
        place = Path(str(self.args.output_dir)) / "README.md"
        card: Any = ModelCard.load(place)
        card.data.tags = list(dict.fromkeys([*(card.data.tags or []), TAG]))
        card.text = f"{card.text.rstrip()}\n\n{_section(self.options, self.state.log_history, card.text)}"
        card.save(place)


def methods(rule: object) -> list[str]:
    """The paper's methods in a rule: none in many."""
    names = set(re.findall(r"(\w+)\(", str(rule)))
    return [title for name, title in METHODS.items() if name in names]


def _section(options: WeightingOptions, log: Sequence[Mapping[str, Any]], text: str) -> str:
    parts = [
        "## Sample weights",
        "In every optimizer step each training sample was weighted by this rule of "
        f"[samplewise](https://pypi.org/project/samplewise) {__version__}:",
        f"```\n{options.rule}\n```",
    ]
    parts += [f"Options: {', '.join(chosen)}."] if (chosen := _chosen(options)) else []
    last = next((entry for entry in reversed(log) if PREFIX + LOGGED[0] in entry), None)
    parts += [] if last is None else [_table(last)]
    if PAPER["id"] not in text:
        whose = "Source of the rule" if methods(options.rule) else "The paper that samplewise implements"
        parts.append(f"{whose}:\n\n```bibtex\n{PAPER['citation']}\n```")
    return "\n\n".join(parts) + "\n"


def _chosen(options: WeightingOptions) -> list[str]:
    """Options that are not their defaults, as text; models and paths stay out."""
    named = [each for each in fields(WeightingOptions) if each.name not in SILENT]
    values = [(each.name, getattr(options, each.name), each.default) for each in named]
    return [f"`{name}={value!r}`" for name, value, default in values if value != default]


def _table(entry: Mapping[str, Any]) -> str:
    rows = [("training loss, unweighted", entry["loss"])] if "loss" in entry else []
    rows += [(name, entry[PREFIX + name]) for name in LOGGED if PREFIX + name in entry]
    lines = [f"| {name} | {float(value):.4g} |" for name, value in rows]
    head = f"Means since the log before, of the last log, at step {entry['step']}:"
    return "\n".join([head, "", "| figure | mean |", "|---|---|", *lines])
