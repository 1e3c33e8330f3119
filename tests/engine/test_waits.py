"""How often a step waits for the device: for what its batches hold, and for its figures; never for a micro-batch.

Nor does the host ask torch for the numbers of its own tensors, one by one.
"""

from collections import Counter

import pytest
import tiny
import torch
from scalar_reads import scalar_reads

from samplewise.evidence.doctor.stand_ins import batch_on_device, on_device, waits
from samplewise.losses.without_logits import WithoutLogits
from samplewise.trainers import WeightedStep, WeightedTrainer

MICRO, SIZE, LENGTH = 4, 4, 40
RULE_BY_RULE = (
    "ir_dro(r=1.0)", "ir_dro(kl=0.1)", "ir_dro(ess=0.5, lagged=True)", "ir_dro(r=1.0, ema=0.5)", "band(drop_top=0.25)",
    "chain(ir_dro(r=1.0), clip_weights(2.0))", "chi2_dro(rho=0.5)", "cvar(alpha=0.5)", "extremes(r=1.0)", "uniform()",
    "by_length(2, top_k(0.5))", "band(drop_top=0.25, window=2)", "lin_upper(r=1.0, window=2)", "focal(gamma=1.0)",
    "infobatch(share=0.5, anneal=0.0)", "group_dro()", "doremi()", "random_keep(0.5)", "sample_proportional(0.5)",
)  # fmt: skip
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
    found: Counter[str] = Counter()
    for number in range(3):
        ids = [torch.arange(SIZE) + SIZE * k for k in range(MICRO)]
        batches = [batch_on_device({**form(10 * number + k), "sample_id": ids[k]}) for k in range(MICRO)]
        with waits() as reads:
            for micro in step.plan(batches):
                step.backward(micro)
            step.finish()
        found = reads
        step.model.zero_grad()
    return {where: count for where, count in found.items() if not where.startswith("elsewhere")}


@pytest.mark.parametrize("per", ["sample", "token"])
@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
@pytest.mark.parametrize("form", [padded, packed])
@pytest.mark.fast_cover(2)
def test_a_step_waits_twice(form, rule, per):
    found = one_step(form, rule, per=per)
    assert sum(found.values()) <= 2, found


@pytest.mark.parametrize(("scope", "more"), [("sample", 1), ("step", 2)])
@pytest.mark.parametrize("rule", [RULES["one pass"], RULES["two passes"]])
@pytest.mark.fast_cases("ir_dro(r=1.0)-step-2", "band(drop_top=0.25)-sample-1")
def test_a_token_rule_waits_for_its_weights_and_a_reference_model_once(rule, scope, more):
    found = one_step(padded, rule, token_rule=f'random_tokens(keep=0.6, scope="{scope}")')
    assert sum(found.values()) <= 2 + more, found
    reference = on_device(tiny.model("llama", attn_implementation="eager", seed=1))
    found = one_step(padded, rule, token_rule=f'rho1(keep=0.6, scope="{scope}")', reference_model=reference)
    assert sum(found.values()) <= 3 + more, found


@pytest.mark.parametrize("rule", RULE_BY_RULE)
@pytest.mark.parametrize("form", [padded, packed])
@pytest.mark.fast_cover(1)
def test_the_host_asks_for_no_number_of_its_own_tensors(form, rule):
    """Beside what transformers asks: each costs a dispatch, and there were fifty a step."""
    step = WeightedStep(tiny.model("llama"), rule)
    found: Counter[str] = Counter()
    for number in range(3):
        batches = [{**form(10 * number + k), "sample_id": torch.arange(SIZE) + SIZE * k} for k in range(MICRO)]
        batches = [{**batch, "group": torch.arange(SIZE) % 2} for batch in batches]
        with scalar_reads() as reads:
            for micro in step.plan(batches):
                step.backward(micro)
            step.finish()
        found = reads
        step.model.zero_grad()
    assert sum(found.values()) <= 1, found


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
@pytest.mark.fast_cases("two passes")
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
    assert sum(ours.values()) <= 2, ours


def test_the_counters_count():
    with waits() as found:
        x = torch.arange(4).to(torch.device("cpu"))
        _ = bool(x.any()), x[x > 1], x.tolist(), (x + 1).cpu().tolist(), x.sum().item()
    assert sum(found.values()) == 5, "the second tolist is of the host's"
    x = torch.arange(4)
    with scalar_reads() as found:
        _ = bool(x.any()), x[x > 1], x.sum().item(), x.nonzero(), torch.bincount(x), x.tolist(), x[torch.tensor(1)]
    assert sum(found.values()) == 6, "tolist reads memory"
