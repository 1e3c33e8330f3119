"""A step of preference pairs on one rank and on two, in forks.

    python tests/ranks/pairs.py FOLDER

FOLDER/<number of the rule>-<ranks>.pt holds the gradients of two steps on the first rank, and what was logged.
"""

import sys
from pathlib import Path

import torch
from forks import forked
from preferences import PAIRS, Gradients, config, logged, pairs, policy, reference, tokenizer

from samplewise.trainers.dpo import WeightedDPOTrainer

RULES = ["ir_dro(r=-0.4)", "top_k(0.125)"]


def two_steps(number: int, ranks: int, folder: Path) -> None:
    seen = Gradients()
    args = config(folder, PAIRS // 2, max_steps=2, gradient_accumulation_steps=PAIRS // 2 // ranks)
    trainer = WeightedDPOTrainer(
        policy(), reference(), args, train_dataset=pairs(), processing_class=tokenizer(), rule=RULES[number],
        callbacks=[seen],
    )  # fmt: skip
    assert trainer.args.world_size == ranks
    trainer.train()
    if trainer.args.process_index == 0:
        torch.save({"gradients": seen.steps, "logged": logged(trainer)}, folder / f"{number}-{ranks}.pt")


if __name__ == "__main__":
    for number in range(len(RULES)):
        for ranks in (1, 2):
            codes = forked(ranks, lambda rank, n=number, r=ranks: two_steps(n, r, Path(sys.argv[1])), patience=100)
            assert not any(codes), (RULES[number], ranks, codes)
