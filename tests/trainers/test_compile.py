"""torch.compile: the Trainer's option, and models compiled beforehand, in the Trainer and in a loop."""

import sys
from pathlib import Path

import pytest
import tiny
import torch
from torch import nn
from transformers import Trainer

from samplewise.trainers import WeightedStep, WeightedTrainer

sys.path.append(str(Path(__file__).parent.parent / "frameworks"))
import same_rows

pytestmark = pytest.mark.filterwarnings("ignore")  # of dynamo, about itself
RULES = [same_rows.RULE, f"chain(band(drop_top=0.0), {same_rows.RULE})"]  # one pass, and two
HOW = ["option", "in place", "the body"]


def compiled(how: str, backend: object) -> nn.Module:
    model = same_rows.tiny_model()
    if how == "wrapped":
        return torch.compile(model, backend=backend)  # pyright: ignore[reportReturnType]
    if how in ("in place", "the body"):
        (model if how == "in place" else model.model).compile(backend=backend)
    return model


class Graphs:
    """A backend that runs graphs as they are, and keeps them."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def __call__(self, graph, inputs):
        self.sizes.append(len(graph.graph.nodes))
        return graph.forward


def collate(features):
    """Padded to one width: each width is compiled on its own."""
    batch = tiny.collate([{key: torch.tensor(f[key]) for key in ("input_ids", "labels")} for f in features])
    fills = {"input_ids": 0, "attention_mask": 0, "labels": -100}
    missing = 20 - batch["input_ids"].shape[1]
    return {key: nn.functional.pad(value, (0, missing), value=fills[key]) for key, value in batch.items()}


def train(tmp_path, model, rule, cls=WeightedTrainer, **more):
    args = tiny.arguments(
        tmp_path, per_device_train_batch_size=same_rows.MICRO, gradient_accumulation_steps=same_rows.ACCUMULATION,
        max_steps=1, max_grad_norm=0.0, **more,
    )  # fmt: skip
    options = {} if cls is Trainer else {"rule": rule}
    trainer = cls(
        model, args, train_dataset=same_rows.rows(), eval_dataset=same_rows.rows()[:8], data_collator=collate, **options
    )
    with same_rows.catch_gradient() as caught:
        trainer.train()
    return trainer, caught


@pytest.fixture(autouse=True)
def _fresh():
    torch.compiler.reset()
    yield
    torch.compiler.reset()


FAST = [("option", RULES[0])]
SLOW = [pytest.param(how, rule, marks=pytest.mark.slow) for how in HOW for rule in RULES if (how, rule) not in FAST]


@pytest.mark.parametrize(("how", "rule"), FAST + SLOW)
def test_trainer(tmp_path, how, rule, caplog):
    caplog.set_level("INFO", "samplewise")
    option = {"torch_compile": True, "torch_compile_backend": "eager"} if how == "option" else {}
    trainer, caught = train(tmp_path, compiled(how, "eager"), rule, **option)
    assert (off := same_rows.distance(caught)) <= 1e-6, off
    assert "torch.compile: the body (LlamaModel) is compiled" in caplog.text
    eager, _ = train(tmp_path, same_rows.tiny_model(), rule)
    assert trainer.evaluate()["eval_loss"] == pytest.approx(eager.evaluate()["eval_loss"], abs=1e-6)


@pytest.mark.parametrize(
    "how", ["in place", *(pytest.param(how, marks=pytest.mark.slow) for how in ("wrapped", "the body"))]
)
def test_loop(how):
    """The body is one graph, the kernels are in none: pad to one width, and see what was compiled."""
    graphs = Graphs()
    model, rows, size = compiled(how, graphs), same_rows.rows(), same_rows.MICRO
    step = WeightedStep(model, RULES[1])
    for micro in step.plan([padded(rows[k : k + size]) for k in range(0, len(rows), size)]):
        step.backward(micro)
    step.finish()
    step.detach()
    with same_rows.catch_gradient() as caught:
        torch.optim.SGD(model.parameters()).step()
    assert (off := same_rows.distance(caught)) <= 1e-6, off
    assert len([size for size in graphs.sizes if size > 100]) >= 2, "scored, and trained"
    assert [size for size in graphs.sizes if 5 < size <= 100] == [], "no piece of a body, nor of a kernel"


@pytest.mark.slow
def test_inductor(tmp_path):
    trainer, caught = train(tmp_path, same_rows.tiny_model(), RULES[0], torch_compile=True)
    assert (off := same_rows.distance(caught)) <= 1e-6, off
    assert trainer.args.torch_compile_backend == "inductor"


def padded(rows):
    return collate(rows) | {"sample_id": torch.tensor([row["sample_id"] for row in rows])}
