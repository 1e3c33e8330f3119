"""`make demo`: SmolLM2-135M trained further on the Django documentation under three rules, compared on held-out text.

Everything lands in demo/: downloads, a file for each finished arm, pictures. Started again, it reuses what is there.
"""

import argparse
import json
import sys
import time
from dataclasses import asdict, replace
from hashlib import sha256
from pathlib import Path

from demo_fetch import DEMO, DOCS, MODEL, fetch_all

from samplewise.config import DataConfig, RunConfig
from samplewise.core.checkpoint import write_bytes
from samplewise.evidence import Evaluation
from samplewise.evidence.run.arguments import with_precision
from samplewise.evidence.run.execute import evaluate_in, make_trainer
from samplewise.evidence.run.history import History
from samplewise.evidence.run.prepare import prepare
from samplewise.evidence.run.quiet import hush
from samplewise.models import load_model
from samplewise.report import arms_table, draw_arms, draw_run

ARMS = {
    "uniform": "uniform()",
    "random 7/8": "random_keep(share=0.875)",  # the control: as many samples left out, but any
    "band + IR-DRO": "chain(band(drop_top=0.125), ir_dro(r=1.0))",
}


def train_arm(name: str, model, tokenizer, data, config: RunConfig, path: Path) -> None:
    """Train on the same data in the same order as the other arms, and write the arm's file."""
    print(f"\narm        {name}: {config.rule}", flush=True)
    clock, cpu = time.perf_counter(), time.process_time()
    trainer = make_trainer(model, tokenizer, data, config, path.parent)
    trainer.train()
    spent = {"seconds": time.perf_counter() - clock, "cpu_seconds": time.process_time() - cpu}
    after = evaluate_in(trainer, data, "held out, after")
    write_bytes(path, json.dumps({"after": after.to_json(), "history": asdict(trainer.history), **spent}).encode())


ONE_SEED = """One run of one seed shows how the library works, not whether a rule helps: in a pilot, three seeds gave
differences of opposite signs, each far from 0 over its documents. `samplewise compare` runs several seeds."""


def report(title: str, before: Evaluation, arms: dict[str, dict]) -> None:
    """The table, a sentence on each difference, and the pictures."""
    after = {name: Evaluation.from_json(arm["after"]) for name, arm in arms.items()}
    histories = {name: History(**arm["history"]) for name, arm in arms.items()}
    print(f"\n{title}; {len(before.documents)} held-out documents, losses in nats/token\n")
    print(arms_table(before, after, histories, {name: arm["seconds"] for name, arm in arms.items()}))
    print(f"\n{ONE_SEED}")
    pictures = {name: DEMO / f"{name.split()[0]}.png" for name in ARMS}
    for name, picture in pictures.items():
        draw_run(picture, histories[name], before, after[name], f"{title} · {ARMS[name]}")
    draw_arms(DEMO / "arms.png", histories, after, title)
    print(f"\npictures   {DEMO / 'arms.png'}, and for each arm {', '.join(map(str, pictures.values()))}")


def main() -> None:
    parser = argparse.ArgumentParser(prog="demo", description=__doc__)
    parser.add_argument("--steps", type=int, default=10, help="steps of 16 windows of 64 tokens (default: 10)")
    parser.add_argument("--documents", type=int, default=48, help="held-out documents (default: 48)")
    parser.add_argument("--learning-rate", type=float, default=1e-5, help="constant (default: 1e-5)")
    parser.add_argument("--seed", type=int, default=0, help="of the order of the data (default: 0)")
    parser.add_argument("--fp32", action="store_true", help="no bf16, even where the machine has it")
    options = parser.parse_args()
    fetch_all()
    hush()
    model, tokenizer, description = load_model(MODEL)
    training = {
        "learning_rate": options.learning_rate, "lr_scheduler_type": "constant", "max_steps": options.steps,
        "per_device_train_batch_size": 8, "gradient_accumulation_steps": 2, "seed": options.seed,
        "save_strategy": "no", "logging_steps": 1,
    }  # fmt: skip
    training = with_precision(training, None if options.fp32 else description.autocast)
    text = DataConfig(str(DOCS), max_length=64, held_out=0.1, held_out_documents=options.documents, held_out_windows=2)
    config = RunConfig(model=str(MODEL), data=text, rule=ARMS["uniform"], output=str(DEMO), training=training)
    data = prepare(text, tokenizer)
    print(f"model      {description}", *data.lines, sep="\n", flush=True)
    folder = DEMO / sha256(json.dumps([asdict(config), data.lines]).encode()).hexdigest()[:12]  # one for each setting
    folder.mkdir(exist_ok=True)
    if not (folder / "before.json").exists():
        found = evaluate_in(make_trainer(model, tokenizer, data, config, folder), data, "held out, before")
        write_bytes(folder / "before.json", json.dumps(found.to_json()).encode())
    start = {name: value.clone() for name, value in model.state_dict().items()}
    arms = {name: folder / f"{name.split()[0]}.json" for name in ARMS}
    for name, path in arms.items():
        if not path.exists():
            model.load_state_dict(start)
            train_arm(name, model, tokenizer, data, replace(config, rule=ARMS[name]), path)
    precision = "bf16" if "bf16" in training else "fp32"
    title = f"{description.name} ({description.quantisation} GGUF, computed in {precision})"
    before = Evaluation.from_json(json.loads((folder / "before.json").read_text()))
    report(title, before, {name: json.loads(path.read_text()) for name, path in arms.items()})


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("\ndemo: stopped. Run it again to resume with the same arm.")
