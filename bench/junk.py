"""How well the junk score finds noise, and what clean text it calls junk, at several shares of a corpus.

    python bench/junk.py --english C4.jsonl --languages UDHR.jsonl --latex FOLDER --out junk.md

--english, --languages: JSON lines with `text` (and `language`); --latex: a folder of .tex files. Code is what the
Python environment holds. None of these texts may have taken part in making the model. Texts are cut to 400 to 800
characters; noise is made of half of the English texts and held against the other half.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import sys
import sysconfig
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from junk_noise import NAMED, UNMET

from samplewise.corpus.junk import BORDER, judge_texts

SHARES = (0.01, 0.05, 0.2, 0.4)
CORPUS, DRAWS = 2000, 25
"""Texts of a corpus drawn, and corpora drawn of each share: the mean over them is shown."""
FEWEST = 320
"""Texts of each kind of noise."""


def cut(text: str, draw: random.Random) -> str:
    return text.strip()[: draw.randint(400, 800)]


def english(path: Path, draw: random.Random) -> tuple[list[str], list[str]]:
    """(clean texts, texts to make noise of): of different documents, a second stretch of long ones included."""
    documents = [json.loads(line)["text"] for line in path.read_text(encoding="utf-8").splitlines()]
    draw.shuffle(documents)
    halves = documents[::2], documents[1::2]
    found = []
    for own in halves:
        starts = [own, [text[900:].partition(" ")[2] for text in own]]
        found.append([cut(text, draw) for part in starts for text in part if len(text.strip()) >= 400])
    return found[0], found[1][:FEWEST]


def languages(path: Path, draw: random.Random) -> dict[str, list[str]]:
    """By language, several stretches of each part; a stretch in a dense script counts as long as it is."""
    found: dict[str, list[str]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        text = row["text"]
        stretches = [text[i : i + 800] for i in range(0, len(text), 800)]
        found.setdefault(row["language"], []).extend(cut(own, draw) for own in stretches if len(own) >= 200)
    return found


CODE = {"Python": ("numpy/**/*.py", "sklearn/**/*.py", "matplotlib/**/*.py", "pandas/**/*.py"),
        "C and C++": ("torch/include/**/*.h", "numpy/**/*.h", "pyarrow/include/**/*.h"),
        "JavaScript and CSS": ("*/**/*.css", "*/**/*.js")}  # fmt: skip


def code(draw: random.Random, count: int = 300) -> dict[str, list[str]]:
    """From the files of installed packages, somewhere inside of each."""
    root = Path(sysconfig.get_paths()["purelib"])
    found = {}
    for name, patterns in CODE.items():
        files = sorted({path for own in patterns for path in root.glob(own) if ".min." not in path.name})
        draw.shuffle(files)
        texts: list[str] = []
        for path in files[: count * 4]:
            whole = path.read_text(encoding="utf-8", errors="replace")
            lines = whole.split("\n")
            if len(whole) > 1500 and max(map(len, lines)) < 500:
                texts.append(cut("\n".join(lines[draw.randrange(max(1, len(lines) // 2)) :]), draw))
        found[name] = [text for text in texts if len(text) >= 300][:count]
    return found


def latex(folder: Path, draw: random.Random, count: int = 300) -> list[str]:
    files = sorted(path for path in folder.rglob("*.tex*") if path.is_file())
    draw.shuffle(files)
    texts = []
    for path in files:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        lines = data.decode(errors="replace").split("\n")
        texts.append(cut("\n".join(lines[draw.randrange(max(1, len(lines) // 2)) :]), draw))
    return [text for text in texts if len(text) >= 300][:count]


def area(clean: np.ndarray, noise: np.ndarray) -> float:
    """The area under the curve: how often noise scores above clean text, ties half."""
    every = np.sort(clean)
    above = np.searchsorted(every, noise, "left") + np.searchsorted(every, noise, "right")
    return float(above.mean() / (2 * len(every)))


def at_share(clean: np.ndarray, noise: np.ndarray, share: float) -> float:
    """The mean area over corpora drawn with this share of noise."""
    draw = np.random.default_rng(round(1000 * share))
    count = max(1, round(share * CORPUS))
    return float(np.mean([area(draw.choice(clean, CORPUS - count), draw.choice(noise, count)) for _ in range(DRAWS)]))


def scores(texts: Sequence[str]) -> np.ndarray:
    return np.nan_to_num(judge_texts(texts).score)


def same_in_any_corpus(clean: Sequence[str], noise: Sequence[str]) -> None:
    """A text's score does not depend on what stands beside it: run, not assumed."""
    alone = scores(noise[:50])
    for share in SHARES:
        mixed = [*noise[:50], *clean[: round(50 / share) - 50]]
        assert np.allclose(scores(mixed)[:50], alone), share


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--english", type=Path, required=True)
    parser.add_argument("--languages", type=Path, required=True)
    parser.add_argument("--latex", type=Path, required=True)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    draw = random.Random(0)
    clean, rest = english(options.english, draw)
    began = time.process_time()
    of_clean = scores(clean)
    said = f"{len(clean)} clean English texts; {len(rest)} of each kind of noise; junk: a score of {BORDER} or more"
    heads = " | ".join(f"AUC at {share:.0%}" for share in SHARES)
    lines = [said, "", f"| kind of noise | {heads} | called junk |", "|---|" + "---|" * (len(SHARES) + 1)]
    for title, kinds in (("named", NAMED), ("unmet", UNMET)):
        for kind, make in kinds.items():
            found = scores([make(text, draw, rest) for text in rest])
            cells = [f"{at_share(of_clean, found, share):.3f}" for share in SHARES]
            lines.append(
                f"| {kind}{'' if title == 'named' else ' *'} | "
                + " | ".join(cells)
                + f" | {np.mean(found >= BORDER):.1%} |"
            )
    same_in_any_corpus(clean, [NAMED["rot13"](text, draw, rest) for text in rest[:50]])
    lines += ["", "| clean text | texts | called junk |", "|---|---|---|"]
    groups = {
        "C4, English": clean,
        **code(draw),
        "LaTeX": latex(options.latex, draw),
        **languages(options.languages, draw),
    }
    every = []
    for name, texts in groups.items():
        found = scores(texts)
        every.append((name, len(texts), float(np.mean(found >= BORDER))))
    lines += [f"| {name} | {count} | {share:.1%} |" for name, count, share in every]
    other = every[5:]
    mean = sum(count * share for _, count, share in other) / sum(count for _, count, _ in other)
    lines += [f"| all {len(other)} languages | {sum(count for _, count, _ in other)} | {mean:.1%} |", ""]
    print("\n".join(lines))
    print(f"{time.process_time() - began:.0f} s of CPU time", file=sys.stderr)
    if options.out:
        options.out.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
