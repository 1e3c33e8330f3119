"""A step from stored losses of one's own on two ranks, of which the first has one sample to score, in forks.

    python tests/ranks/stored.py FOLDER

FOLDER/kept.pt holds the ids that the first rank's plan keeps.
"""

import sys
from pathlib import Path

import torch
from forks import forked
from torch.nn.parallel import DistributedDataParallel
from watching import OnStep

from samplewise.trainers.loop import WeightedStep

NONE = float("nan")
BATCHES = [  # of each rank: (id, its loss, its stored loss)
    [[(6, 10.0, 0.0), (7, 0.3, 0.0)], [(0, 0.1, NONE), (8, 0.2, 0.0)]],
    [[(1, 1.0, NONE), (2, 1.1, NONE)], [(4, 1.2, NONE), (5, 1.3, NONE)]],
]


def one_step(rank: int, out: Path) -> None:
    torch.distributed.init_process_group("gloo")
    model = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.ones_(model.weight)
    step = WeightedStep(
        DistributedDataParallel(model), "top_k(0.5)", loss_from="stored", min_stored_corr=-1.0,
        losses=lambda model, micro: (model(micro.inputs["x"])[:, 0], torch.ones(len(micro), dtype=torch.int64)),
    )  # fmt: skip
    batches = []
    for rows in BATCHES[rank]:
        ids, x, stored = (torch.tensor(column) for column in zip(*rows, strict=True))
        batches.append({"x": x[:, None], "sample_id": ids, "stored_loss": stored.double()})
    results = []
    step.engine.added.append(OnStep(results.append))
    for micro in step.plan(batches):
        step.backward(micro)
    step.finish()
    if rank == 0:
        torch.save(results[0].samples.id[results[0].weights > 0].sort().values, out / "kept.pt")


if __name__ == "__main__":
    codes = forked(2, lambda rank: one_step(rank, Path(sys.argv[1])), patience=100)
    assert not any(codes), codes
