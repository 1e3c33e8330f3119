"""How often a step waits for the device: at most once a micro-batch and three times more, and never for a chunk."""

from collections import Counter

import pytest
import tiny
import torch

from samplewise.evidence.doctor.stand_ins import batch_on_device, on_device, waits
from samplewise.losses.without_logits import WithoutLogits
from samplewise.trainers import WeightedStep, WeightedTrainer

MICRO, SIZE, LENGTH = 4, 4, 40
RULES = {"one pass": "ir_dro(r=1.0)", "two passes": "band(drop_top=0.25)", "no loss needed": "random_keep(0.5)"}


def padded(number: int) -> dict:
    ids = torch.randint(3, tiny.VOCABULARY, (SIZE, LENGTH), generator=torch.Generator().manual_seed(number))
    mask = torch.ones_like(ids)
    mask[0, LENGTH // 2 :] = 0
    return {"input_ids": ids, "labels": ids.masked_fill(mask == 0, -100), "attention_mask": mask}


def packed(number: int) -> dict:
    whole = padded(number)
    kept = whole["attention_mask"] == 1
    position = torch.arange(LENGTH).expand(SIZE, -1)[kept]
    owner = torch.arange(SIZE)[:, None].expand(-1, LENGTH)[kept]
    flat = {"input_ids": whole["input_ids"][kept], "labels": whole["labels"][kept]}
    flat |= {"position_ids": position, "samplewise_segments": owner}
    return {key: value[None] for key, value in flat.items()}


def one_step(form, rule, chunk_bytes=None, **options) -> dict[str, int]:
    """The reads of a step that comes after others, when a run's first looks are over."""
    step = WeightedStep(on_device(tiny.model("llama", attn_implementation="eager")), rule, **options)
    attached = step.engine.attached
    assert attached is not None
    assert isinstance(attached.forward, WithoutLogits)
    attached.forward.chunk_bytes = chunk_bytes
    for number in range(3):
        ids = [torch.arange(SIZE) + SIZE * k for k in range(MICRO)]
        batches = [batch_on_device({**form(10 * number + k), "sample_id": ids[k]}) for k in range(MICRO)]
        with waits() as found:
            for micro in step.plan(batches):
                step.backward(micro)
            step.finish()
        step.model.zero_grad()
    return {where: count for where, count in found.items() if not where.startswith("elsewhere")}


@pytest.mark.parametrize("per", ["sample", "token"])
@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
@pytest.mark.parametrize("form", [padded, packed])
def test_a_step_waits_at_most_once_a_micro_batch_and_three_times(form, rule, per):
    found = one_step(form, rule, per=per)
    assert sum(found.values()) <= MICRO + 3, found


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_no_chunk_waits(rule):
    row = tiny.VOCABULARY * 4
    assert one_step(padded, rule, chunk_bytes=7 * row) == one_step(padded, rule, chunk_bytes=1000 * row)


@pytest.mark.parametrize("rule", [RULES["one pass"], RULES["two passes"]])
def test_the_trainer_waits_no_more(rule, tmp_path):
    """Its own waits are not counted, nor those of its model and optimizer."""
    args = tiny.arguments(tmp_path, max_steps=3, gradient_accumulation_steps=MICRO, logging_steps=10)
    trainer = WeightedTrainer(
        on_device(tiny.model("llama", attn_implementation="eager")), args, train_dataset=tiny.Rows(48),
        data_collator=tiny.collate, rule=rule,
    )  # fmt: skip
    found: Counter[str] = Counter()
    prepare, loss, finish = trainer.engine.prepare, trainer.engine.loss, trainer.engine.finish

    def watched(call):
        def counting(*args, **kwargs):
            with waits() as reads:
                result = call(*args, **kwargs)
            found.update(reads)
            return result

        return counting

    trainer.engine.loss, trainer.engine.finish = watched(loss), watched(finish)
    trainer.engine.prepare = lambda *args, **kwargs: found.clear() or watched(prepare)(*args, **kwargs)
    trainer.train()
    ours = {where: count for where, count in found.items() if not where.startswith("elsewhere")}
    assert sum(ours.values()) <= MICRO + 3, ours


def test_the_counter_counts():
    with waits() as found:
        x = torch.arange(4).to(torch.device("cpu"))
        bool(x.any()), x[x > 1], x.tolist(), (x + 1).cpu().tolist(), x.sum().item()
    assert sum(found.values()) == 5, "the second tolist is of the host's"
