"""Benchmarks through lm-eval: its own tasks by name, or items of a local file, with the model that is there already."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch

from samplewise.core.errors import SamplewiseError, missing_extra
from samplewise.core.paths import expanded
from samplewise.core.progress import without_bars


@dataclass(frozen=True)
class TaskConfig:
    """A benchmark from lm-eval or from a file of questions.

    name: lm-eval's own task of that name, from the hub, unless a file is given. file: .jsonl, one item a line.
    kind: "multiple_choice" (the best of `choices` given `query`; `answer` is its number), "continuation" (the
    likelihood of `answer` given `query`, and whether it is the greedy one) or "text" (the likelihood of `query`).
    query, choices, answer: names of the file's fields. suffix: after the query. delimiter: between it and an answer.
    limit: the first so many items.
    """

    name: str
    file: str | None = None
    kind: Literal["multiple_choice", "continuation", "text"] = "multiple_choice"
    query: str = "query"
    choices: str = "choices"
    answer: str = "gold"
    suffix: str = field(default="", metadata={"blank": True})
    delimiter: str = field(default=" ", metadata={"blank": True})
    limit: int | None = None


HIGHER = {"acc", "acc_norm", "accuracy", "exact_match", "rouge_l"}
"""Measures that are better when they are higher."""

_METRICS = {
    "multiple_choice": ["acc", "acc_norm"],
    "continuation": ["perplexity", "acc"],
    "text": ["word_perplexity", "byte_perplexity"],
}
_OUTPUT = {"multiple_choice": "multiple_choice", "continuation": "loglikelihood", "text": "loglikelihood_rolling"}


def run_tasks(
    model: Any, tokenizer: Any, tasks: Sequence[TaskConfig], *, batch_size: int = 8, autocast: torch.dtype | None = None
) -> dict[str, Any]:
    """By task {"figures": {metric: over all items}, "values": {metric: by item}, "items": their hashes}.

    The model is used where it is, loaded once; no global random state is touched. Values of likelihoods are nats of the
    answer ("nll"), so that they can be paired; figures are lm-eval's own. autocast: of the forward, as in training;
    likelihoods are always float32.
    Errors: SamplewiseError without lm-eval, and for files or fields that are not there.
    """
    try:
        import lm_eval
        from lm_eval.models.huggingface import HFLM
        from lm_eval.tasks import TaskManager
    except ModuleNotFoundError:
        raise missing_extra("lm_eval", "eval", "tasks") from None
    wanted = [local_task(task) if task.file else task.name for task in tasks]
    logging.getLogger("lm_eval").setLevel(logging.ERROR)  # it warns of every default that is taken here on purpose
    load: Any = HFLM
    harness = load(
        pretrained=model, tokenizer=tokenizer, backend="causal", batch_size=batch_size,
        mixed_precision_dtype=autocast, softmax_dtype=torch.float32,
    )  # fmt: skip
    manager = TaskManager(include_defaults=any(task.file is None for task in tasks))
    found: dict[str, Any] = {}
    for task, want in zip(tasks, wanted, strict=True):
        with without_bars():
            done = _evaluate(lm_eval.evaluate, harness, manager.load([want]), task.limit)
        for name, samples in done["samples"].items():
            found[name] = _result(done["results"][name], samples)
    return found


def _evaluate(evaluate: Any, harness: Any, loaded: Any, limit: int | None) -> dict[str, Any]:
    """What `simple_evaluate` does, but for its seeds and its questions to git, which complains outside a repository."""
    for task in loaded["tasks"].values():
        if task.get_config("num_fewshot") is None:
            task.set_config(key="num_fewshot", value=0)
        task.set_fewshot_seed(seed=None)
    return evaluate(lm=harness, task_dict=loaded, bootstrap_iters=0, log_samples=True, limit=limit)


def local_task(task: TaskConfig) -> dict[str, Any]:
    """lm-eval's own description of a task over a local file, which is read here: no hub, no cache."""
    rows = _rows(task)
    needed = {"multiple_choice": (task.query, task.choices, task.answer), "continuation": (task.query, task.answer)}
    for name in needed.get(task.kind, (task.query,)):
        if name not in rows[0]:
            raise SamplewiseError(
                f"tasks.{task.name}", expected=f"a field {name!r} in {task.file}", got=", ".join(rows[0]),
                remedy="Name the fields with query, choices and answer.",
            )  # fmt: skip

    def dataset(**_: Any) -> dict[str, Any]:
        from datasets import Dataset

        return {"test": Dataset.from_list(rows)}

    described: dict[str, Any] = {
        "task": task.name, "custom_dataset": dataset, "test_split": "test", "output_type": _OUTPUT[task.kind],
        "target_delimiter": task.delimiter, "metric_list": [{"metric": metric} for metric in _METRICS[task.kind]],
        "metadata": {"version": 1},
    }  # fmt: skip
    query = f"{{{{{task.query}}}}}{task.suffix}"
    if task.kind == "text":
        return {**described, "doc_to_text": "", "doc_to_target": query}
    if task.kind == "continuation":
        target = f"{{{{ {json.dumps(task.delimiter)} + {task.answer} }}}}"  # this kind takes no delimiter from lm-eval
        return {**described, "doc_to_text": query, "doc_to_target": target}
    return {**described, "doc_to_text": query, "doc_to_choice": task.choices, "doc_to_target": task.answer}


def _rows(task: TaskConfig) -> list[dict[str, Any]]:
    path = expanded(str(task.file))
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        rows = [json.loads(line) for line in lines if line.strip()]
    except (OSError, ValueError) as error:
        raise SamplewiseError(
            f"tasks.{task.name}", expected="a .jsonl file", got=f"{path}: {error}", remedy="Check the path."
        ) from None
    if not rows or not all(isinstance(row, dict) for row in rows):
        raise SamplewiseError(
            f"tasks.{task.name}", expected="JSON objects, one per line", got=f"{len(rows)} lines in {path}",
            remedy="Give each object the fields query, choices and answer.",
        )  # fmt: skip
    return rows[: task.limit]


def _result(figures: dict[str, Any], samples: Sequence[dict[str, Any]]) -> dict[str, Any]:
    ordered = sorted(samples, key=lambda sample: sample["doc_id"])
    values: dict[str, list[float]] = {}
    for metric in ordered[0]["metrics"]:
        own = [sample[metric] for sample in ordered]
        if metric == "perplexity":
            values["nll"] = [-float(value) for value in own]
        elif all(isinstance(value, (int, float)) for value in own):
            values[metric] = [float(value) for value in own]
        elif metric == "byte_perplexity":  # pairs of nats and bytes
            values["nats_per_byte"] = [-float(nats) / float(size) for nats, size in own]
    shown = {key.split(",")[0]: value for key, value in figures.items() if _is_figure(key, value)}
    return {"figures": shown, "values": values, "items": [sample["doc_hash"] for sample in ordered]}


def _is_figure(key: str, value: object) -> bool:
    return "," in key and "stderr" not in key and isinstance(value, (int, float))
