"""`make demo`: SmolLM2-135M-Instruct trained further on the Django documentation, with two seeds each of uniform
weights, a rule, and its random control. It ends with a page: what was weighed, what it cost, and whether it helped.

Everything lands in demo/: downloads, a file for each finished run, the page. Started again, it reuses what is there.
"""

import argparse
import json
import sys
import time
import webbrowser
from dataclasses import asdict, replace
from functools import partial
from hashlib import sha256
from pathlib import Path

from demo_fetch import DEMO, DOCS, MODEL, fetch_all
from demo_page import Run, said, write_demo_page

from samplewise.config import DataConfig, RunConfig
from samplewise.core.checkpoint import write_bytes
from samplewise.engine.observers import StatelessObserver
from samplewise.evidence import Evaluation
from samplewise.evidence.run.arguments import with_precision
from samplewise.evidence.run.execute import evaluate_in, make_trainer
from samplewise.evidence.run.history import History
from samplewise.evidence.run.prepare import prepare
from samplewise.evidence.run.quiet import hush
from samplewise.evidence.run.trainer import RunTrainer
from samplewise.models import load_model
from samplewise.report import draw_arms

ARMS = {
    "uniform": "uniform()",
    "random 7/8": "random_keep(share=0.875)",  # the control: as many samples left out, but any
    "band + IR-DRO": "chain(band(drop_top=0.125), ir_dro(r=1.0))",
}
SEEDS = (0, 1)


class Samples(StatelessObserver):
    """The loss and weight of every sample of every step, by id."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, float, float]] = []

    def on_step(self, result) -> None:
        """Keep the columns of one step."""
        columns = (result.samples.id, result.samples.loss, result.weights)
        self.seen += zip(*(column.tolist() for column in columns), strict=True)


def train(model, tokenizer, data, config: RunConfig, path: Path) -> None:
    """One run, on the same data in the same order as the other arms of its seed; its figures go to `path`."""
    samples, clock = Samples(), time.perf_counter()
    watched = partial(RunTrainer, observers=[samples])
    trainer = make_trainer(model, tokenizer, data, config, path.parent, watched)  # pyright: ignore[reportArgumentType]
    trainer.train()
    seconds = time.perf_counter() - clock
    after = evaluate_in(trainer, data, "held out")
    run = {"after": after.to_json(), "history": asdict(trainer.history), "seconds": seconds, "samples": samples.seen}
    write_bytes(path, json.dumps(run).encode())


def read(path: Path) -> Run:
    """A finished run."""
    found = json.loads(path.read_text())
    return Run(Evaluation.from_json(found["after"]), History(**found["history"]), found["seconds"], found["samples"])


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="demo", description=__doc__)
    parser.add_argument("--steps", type=int, default=3, help="steps of 8 windows of 48 tokens (default: 3)")
    parser.add_argument("--documents", type=int, default=48, help="held-out documents (default: 48)")
    parser.add_argument("--learning-rate", type=float, default=1e-5, help="constant (default: 1e-5)")
    parser.add_argument("--fp32", action="store_true", help="no bf16, even where the machine has it")
    return parser.parse_args()


def main() -> None:
    given = options()
    fetch_all()
    hush()
    model, tokenizer, description = load_model(MODEL)
    training = {
        "learning_rate": given.learning_rate, "lr_scheduler_type": "constant", "max_steps": given.steps,
        "per_device_train_batch_size": 8, "save_strategy": "no", "logging_steps": 1,
    }  # fmt: skip
    training = with_precision(training, None if given.fp32 else description.autocast)
    text = DataConfig(str(DOCS), max_length=48, held_out=0.1, held_out_documents=given.documents, held_out_windows=1)
    config = RunConfig(model=str(MODEL), data=text, rule=ARMS["uniform"], output=str(DEMO), training=training)
    data = prepare(text, tokenizer)
    print(f"model      {description}", *data.lines, sep="\n", flush=True)
    folder = DEMO / sha256(json.dumps([asdict(config), data.lines]).encode()).hexdigest()[:12]  # one for each setting
    folder.mkdir(exist_ok=True)
    start = {name: value.clone() for name, value in model.state_dict().items()}
    runs: dict[str, list[Run]] = {name: [] for name in ARMS}
    for seed in SEEDS:
        for name, rule in ARMS.items():
            path = folder / f"{name.split()[0]}-{seed}.json"
            if not path.exists():
                print(f"\n{name}, seed {seed}: {rule}", flush=True)
                model.load_state_dict(start)
                own = replace(config, rule=rule, training={**training, "seed": seed})
                train(model, tokenizer, data, own, path)
            runs[name].append(read(path))
    texts = {window.id: tokenizer.decode(window.input_ids) for window in data.train.windows}
    title = f"{description.name}, {'bf16' if 'bf16' in training else 'fp32'}, {given.steps} steps"
    page = write_demo_page(DEMO / "demo.html", title, ARMS, runs, texts)
    first = {name: each[0].history for name, each in runs.items()}
    draw_arms(DEMO / "demo.png", first, {name: [run.after for run in each] for name, each in runs.items()}, title)
    print("", *said(runs), "", f"page       {page.resolve().as_uri()}", sep="\n")
    if sys.stdout.isatty():
        webbrowser.open(page.resolve().as_uri())


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("\ndemo: stopped. Run it again to resume with the same run.")
