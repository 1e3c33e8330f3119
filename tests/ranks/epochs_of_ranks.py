"""Epochs that a rule leaves samples out of, on one process and on two, in forks; and resumed in the middle of one.

    python tests/ranks/epochs_of_ranks.py FOLDER

Every rank writes the epoch, ids and weights of its steps to FOLDER/<ranks>-<rank>.json, those of the resumed run to
FOLDER/<ranks>-<rank>-resumed.json.
"""

import json
import os
import sys
from pathlib import Path

import tiny
from forks import forked
from watching import OnStep

from samplewise.trainers import WeightedTrainer

RULE = 'infobatch(share=0.5, anneal=0.1, seed=1, scope="epoch")'
N, STEP, RESUMED = 40, 8, 7


class Watched(WeightedTrainer):
    """Keeps every step."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.steps = []
        self.engine.added.append(OnStep(self._keep))

    def _keep(self, result):
        self.steps.append((self._order.epoch, result.samples.id.tolist(), result.weights.tolist()))


def steps(folder: Path, ranks: int, rate: float, checkpoint: str | None = None) -> list:
    arguments = tiny.arguments(
        folder, max_steps=-1, num_train_epochs=3, per_device_train_batch_size=STEP // ranks,
        gradient_accumulation_steps=1, ddp_find_unused_parameters=False, save_strategy="steps", save_steps=RESUMED,
        learning_rate=rate,
    )  # fmt: skip
    model = tiny.model("opt", tie_word_embeddings=False)
    trainer = Watched(model, arguments, train_dataset=tiny.Rows(N), data_collator=tiny.collate, rule=RULE)
    trainer.train(resume_from_checkpoint=checkpoint)
    return trainer.steps


def work(base: Path, rank: int) -> None:
    ranks = int(os.environ.get("WORLD_SIZE", "1"))
    whole = steps(base / str(ranks), ranks, 0.0)
    (base / f"{ranks}-{rank}.json").write_text(json.dumps(whole))
    rest = steps(base / f"{ranks}-rest", ranks, 0.0, str(base / str(ranks) / f"checkpoint-{RESUMED}"))
    (base / f"{ranks}-{rank}-resumed.json").write_text(json.dumps(rest))


if __name__ == "__main__":
    for count in (1, 2):
        assert forked(count, lambda rank: work(Path(sys.argv[1]), rank)) == [0] * count
