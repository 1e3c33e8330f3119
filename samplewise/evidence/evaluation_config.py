"""The keys of an evaluation file, apart from what reads them: a wrong key is said before transformers is imported."""

from __future__ import annotations

from dataclasses import dataclass, field

from samplewise.config import DataConfig
from samplewise.evidence.answers import AnswersConfig
from samplewise.evidence.plan_parts import DomainConfig
from samplewise.evidence.tasks import TaskConfig


@dataclass(frozen=True)
class EvaluateConfig:
    """What is evaluated, and on what. data: its held-out part is used. output: the JSON file."""

    model: str
    data: DataConfig
    output: str
    domains: dict[str, DomainConfig] = field(default_factory=dict)
    tasks: list[TaskConfig] = field(default_factory=list)
    answers: AnswersConfig | None = None
    batch_size: int = 8
