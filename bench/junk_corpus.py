"""The whole way: a mixed corpus with noise, a small model, scores, the page, and the command that it prints.

    python bench/junk_corpus.py --english C4.jsonl --languages UDHR.jsonl --folder work [--count 20000]

Sources: docstrings, documentation and licences of the installed packages, and the two files. A fifth of the texts is
made worse, in the ways of `junk_noise.UNMET`. Prints what the command removes of noise and of clean text, by source
and kind.
"""

from __future__ import annotations

import argparse
import ast
import html
import json
import random
import re
import shlex
import subprocess
import sys
import sysconfig
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from junk_noise import UNMET

NOISE, LONG, SHORT = 0.2, 550, 200
"""Share of noise; characters of a text, about 128 tokens, and the fewest."""
TRAINED = 100
"""Steps of the model, of 16 windows."""
PACKAGES = ("sklearn", "scipy", "numpy", "pandas", "torch", "sympy", "transformers", "matplotlib", "networkx",
            "sqlalchemy", "nltk", "pyarrow", "optuna", "trl", "peft", "datasets", "ray", "lm_eval", "PIL",
            "lxml")  # fmt: skip


def docstrings(root: Path) -> Iterator[str]:
    files = sorted(path for name in PACKAGES for path in (root / name).rglob("*.py"))
    for path in random.Random(1).sample(files, len(files) * 2 // 5):
        try:
            tree = ast.parse(path.read_text(encoding="utf-8"))
        except (SyntaxError, UnicodeDecodeError):
            continue
        for node in ast.walk(tree):
            if isinstance(node, (ast.FunctionDef, ast.ClassDef, ast.Module)):
                yield ast.get_docstring(node) or ""


def documentation(root: Path) -> Iterator[str]:
    """What packages say of themselves: descriptions, and pages in their folders."""
    for path in sorted(root.glob("*.dist-info/METADATA")):
        body = path.read_text(encoding="utf-8", errors="replace").partition("\n\n")[2]
        yield from (body[start:] for start in range(0, len(body), 1500))
    for pattern in ("*/**/*.md", "*/**/*.rst"):
        for path in sorted(root.glob(pattern)):
            body = path.read_text(encoding="utf-8", errors="replace")
            yield from (body[start:] for start in range(0, min(len(body), 60_000), 1500))


def licences(root: Path) -> Iterator[str]:
    for path in sorted({*root.glob("*.dist-info/**/LICEN*"), *Path("/usr/share/doc").glob("*/copyright")}):
        if path.is_file():
            body = path.read_text(encoding="utf-8", errors="replace")
            yield from (body[start:].partition("\n")[2] for start in range(0, min(len(body), 30_000), 1500))


def lines_of(path: Path) -> Iterator[str]:
    for line in path.read_text(encoding="utf-8").splitlines():
        text = json.loads(line)["text"]
        yield from (text[start:] for start in range(0, len(text), 1200))


def clean_texts(options: argparse.Namespace, draw: random.Random) -> list[tuple[str, str]]:
    """(source, text), each text once; docstrings fill up to the count."""
    root = Path(sysconfig.get_paths()["purelib"])
    found: dict[str, list[str]] = {}
    sources = {"c4": lines_of(options.english), "udhr": lines_of(options.languages), "licences": licences(root),
               "documentation": documentation(root), "docstrings": docstrings(root)}  # fmt: skip
    for name, texts in sources.items():
        own = dict.fromkeys(text.strip()[:LONG] for text in texts if len(text.strip()) >= SHORT)
        found[name] = draw.sample(sorted(own), len(own))
    most = {"licences": 3000, "documentation": 6000}
    rows = [
        (name, text) for name, own in found.items() if name != "docstrings" for text in own[: most.get(name, len(own))]
    ]
    rest = options.count - len(rows)
    return rows[: options.count] + [("docstrings", text) for text in found["docstrings"][: max(0, rest)]]


def write_corpus(options: argparse.Namespace) -> dict[tuple[str, int], str]:
    """Kind of noise, "" for none, by file and line."""
    draw = random.Random(0)
    rows = clean_texts(options, draw)
    draw.shuffle(rows)
    pools: dict[str, list[str]] = {}
    for name, text in rows:
        pools.setdefault(name, []).append(text)
    kinds = list(UNMET)
    written: dict[str, list[str]] = {}
    labels = {}
    for name, text in rows:
        kind = draw.choice(kinds) if draw.random() < NOISE else ""
        text = UNMET[kind](text, draw, draw.sample(pools[name], min(200, len(pools[name])))) if kind else text
        own = written.setdefault(name, [])
        labels[f"{name}.jsonl", len(own)] = kind
        own.append(json.dumps({"text": text}))
    (options.folder / "corpus").mkdir(parents=True, exist_ok=True)
    for name, own in written.items():
        (options.folder / "corpus" / f"{name}.jsonl").write_text("\n".join(own) + "\n")
    return labels


def make_model(folder: Path, corpus: Path) -> Path:
    """A Llama of 0.6 million parameters with a tokenizer of this corpus, untrained. --drop-junk goes by the texts."""
    import torch
    from tokenizers import ByteLevelBPETokenizer
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    tokenizer = ByteLevelBPETokenizer()
    texts = (json.loads(line)["text"] for path in sorted(corpus.glob("*.jsonl")) for line in path.open())
    tokenizer.train_from_iterator(texts, vocab_size=4000, special_tokens=["<eos>"], show_progress=False)
    whole = PreTrainedTokenizerFast(tokenizer_object=tokenizer._tokenizer, eos_token="<eos>", bos_token="<eos>")
    torch.manual_seed(0)
    config = LlamaConfig(vocab_size=4000, hidden_size=64, intermediate_size=192, num_hidden_layers=2,
                         num_attention_heads=4, max_position_embeddings=1024, bos_token_id=0,
                         eos_token_id=0)  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder / "untrained")
    whole.save_pretrained(folder / "untrained")
    return folder / "untrained"


def run(*words: object) -> str:
    done = subprocess.run([sys.executable, "-m", "samplewise", *map(str, words)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def train(folder: Path, model: Path) -> Path:
    run_file = folder / "train.yaml"
    run_file.write_text(json.dumps({
        "model": str(model), "data": {"path": str(folder / "corpus"), "max_length": 128, "held_out": 0.01},
        "rule": "uniform()", "output": str(folder / "trained"),
        "training": {"learning_rate": 2e-3, "max_steps": TRAINED, "per_device_train_batch_size": 16},
    }))  # fmt: skip
    run("train", run_file)
    return folder / "trained" / "model"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--english", type=Path, required=True)
    parser.add_argument("--languages", type=Path, required=True)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--count", type=int, default=20_000)
    options = parser.parse_args()
    labels = write_corpus(options)
    folder = options.folder
    model = train(folder, make_model(folder, folder / "corpus"))
    run(
        "score",
        "--model",
        model,
        "--data",
        folder / "corpus",
        "--out",
        folder / "scores",
        "--text",
        600,
        "--max-length",
        512,
    )
    run("report", folder / "scores", "--out", folder / "report.html")
    page = (folder / "report.html").read_text(encoding="utf-8")
    command = shlex.split(html.unescape(re.search(r"<code>(.*?)</code>", page)[1]))
    print("the page prints:", shlex.join(command))
    assert command[0] == "samplewise"
    assert command[-2] == "--out"
    print(run(*command[1:-1], folder / command[-1]))
    table(labels, folder / command[-1])
    changes(labels, folder / "scores")


def table(labels: dict[tuple[str, int], str], selected: Path) -> None:
    """What went, by source and by kind of noise; a text of which a window is kept is kept."""
    rows = map(json.loads, selected.open(encoding="utf-8"))
    kept = {(row["source"], row["row"]) for row in rows}
    every: Counter[str] = Counter()
    gone: Counter[str] = Counter()
    for place, kind in labels.items():
        names = ["all noise", f"noise: {kind}"] if kind else ["all clean", f"clean: {place[0]}"]
        every.update(names)
        gone.update(names if place not in kept else [])
    for name in sorted(every):
        print(f"{name:<32} {every[name]:>6,} texts, {gone[name] / every[name]:6.1%} left out")


def changes(labels: dict[tuple[str, int], str], scores: Path) -> None:
    """How often the loss changes more within a text of noise than within a clean one, by kind (the AUC)."""
    from junk import area

    from samplewise.corpus import open_scores

    found = open_scores(scores).to_pandas(["source", "row", "loss_change"])
    most = found["loss_change"].abs().groupby([found["source"], found["row"]]).max()
    of: dict[str, list[float]] = {}
    for place, value in most.dropna().items():
        of.setdefault(labels[place], []).append(value)
    clean = np.array(of.pop(""))
    print(f"\nloss_change, beside {len(clean):,} clean texts (median {np.median(clean):.2f} nats/token):")
    for kind, values in sorted(of.items()):
        print(f"noise: {kind:<25} {len(values):>6,} texts, AUC {area(clean, np.array(values)):.3f}")


if __name__ == "__main__":
    main()
