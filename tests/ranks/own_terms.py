"""A step whose one kept row is on the first rank, of models with a loss term of their own, in forks.

    python tests/ranks/own_terms.py FOLDER

FOLDER/<model>-<ranks>.pt holds the first rank's gradient.
A figure of TRL's router is asked of ranks that have none, too.
"""

import sys
from collections.abc import Callable
from pathlib import Path

import peft
import tiny
import torch
import transformers
from forks import forked
from torch.nn.parallel import DistributedDataParallel

from samplewise.trainers.loop import WeightedStep
from samplewise.trainers.trl import _mean_over_ranks

ROWS = 8


def adalora() -> torch.nn.Module:
    torch.manual_seed(1)
    config = peft.AdaLoraConfig(task_type="CAUSAL_LM", target_modules=["q_proj", "v_proj"], total_step=20)
    model = peft.get_peft_model(tiny.model(), config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    return model


def router() -> torch.nn.Module:
    torch.manual_seed(0)
    config = transformers.MixtralConfig(
        vocab_size=tiny.VOCABULARY, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, num_local_experts=4, output_router_logits=True, router_aux_loss_coef=0.4, pad_token_id=0,
    )  # fmt: skip
    return transformers.AutoModelForCausalLM.from_config(config)


MODELS: dict[str, Callable[[], torch.nn.Module]] = {"adalora": adalora, "router": router}


def one_step(name: str, ranks: int, out: Path, rank: int) -> None:
    model, data = MODELS[name](), tiny.Rows(ROWS)
    rows = list(range(ROWS))[rank * ROWS // ranks : (rank + 1) * ROWS // ranks]
    wrapped = model
    if ranks > 1:
        torch.distributed.init_process_group("gloo")
        wrapped = DistributedDataParallel(model, find_unused_parameters=True)
    step = WeightedStep(wrapped, "top_k(0.125)")
    for micro in step.plan([{**tiny.collate([data[i] for i in rows]), "sample_id": torch.tensor(rows)}]):
        step.backward(micro)
    assert step.finish()["samples"] == ROWS
    if rank == 0:
        gradients = [p.grad.flatten() for p in model.parameters() if p.grad is not None]
        torch.save(torch.cat(gradients), out / f"{name}-{ranks}.pt")
    if ranks > 1:
        figure = _mean_over_ranks([torch.tensor(3.0)] if rank == 0 else [], torch.device("cpu"))
        assert figure == [3.0]
        assert _mean_over_ranks([], torch.device("cpu")) == []


if __name__ == "__main__":
    for name in MODELS:
        for ranks in (1, 2):
            codes = forked(ranks, lambda rank, n=name, r=ranks: one_step(n, r, Path(sys.argv[1]), rank), patience=100)
            assert not any(codes), (name, ranks, codes)
