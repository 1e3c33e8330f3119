"""Attacks on what `samplewise score` reads: records, conversations, templates, and folders of files."""

from __future__ import annotations

import gzip
import json
from typing import Any

from fuzz.inputs import corrupt
from fuzz.inputs.attack import Attack, Ground
from fuzz.inputs.world import SMALL, dialogues, documents

TOOL = {"type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}
CHAT = [
    {"instruction": "w1 w2", "input": "w3", "output": "w4 w5"},
    {"conversations": [{"from": "human", "value": "w1"}, {"from": "gpt", "value": "w2 w3"}], "system": "w9"},
    {"prompt": "w1 w2", "completion": "w3"},
    {"messages": [{"role": "user", "content": "w1"}, {"role": "assistant", "content": "w2", "weight": 0.5}],
     "sample_weight": 1.0, "sample_id": 3, "group": "a", "reference_loss": 2.0},
    {"messages": [{"role": "user", "content": [{"type": "text", "text": "w1"}]}, {"role": "assistant", "content": "",
     "tool_calls": [TOOL]}, {"role": "tool", "content": "w4"}, {"role": "assistant", "content": "w2", "train": True}],
     "tools": [{"type": "function", "function": {"name": "add", "parameters": {"a": {"type": "number"}}}}]},
]  # fmt: skip
TEMPLATES = [
    "{% for message in messages %}{{ message['role'] + ' ' + message['content'] + ' ' }}{% endfor %}",
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'assistant' %}{% generation %}{{ m.content }}{{ eos_token }}"
    "{% endgeneration %}{% else %}{{ m.content }} {% endif %}{% endfor %}",
    "{% for m in messages | reverse %}{{ m.content }} {% endfor %}", "{{ messages[5].content }}", "{{ 1 / 0 }}",
    "{{ messages[0].content + 1 }}", "{{ raise_exception('no') }}", "{% for i in range(10**9) %}x{% endfor %}",
    "{{ 'x' * 10**9 }}", "{{ messages | tojson }}", "{% include 'x' %}", "{{ ''.__class__.__mro__ }}", "{% if %}",
    "{% macro f(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}", "{{ messages[0].tool_calls[0].function.arguments | items }}",
    "{{ none.x.y }}", "{% generation %}", "{{ strftime_now('%Q') }}",
    "{% for m in messages %}{{ m['nope'] }}{% endfor %}",
]  # fmt: skip


def _score(ground: Ground, place: str, *options: str, what: str) -> Attack:
    out = ground.folder / "out"
    words = ["score", "--model", str(ground.world.model), "--data", place, "--out", str(out), *SMALL, *options]
    return Attack([*words, *(["--strict"] if ground.dice.random() < 0.15 else [])], what, scores=out)


def records(ground: Ground) -> Attack:
    """Records of text: wrong values, broken lines, odd files."""
    dice = ground.dice
    rows: list[Any] = documents(dice.choice([1, 4, 12]))
    kinds = corrupt.structure(dice, rows, dice.choice([1, 2, 4]))
    text = "".join(json.dumps(row) + "\n" for row in kinds) if isinstance(kinds, list) else json.dumps(kinds)
    raw = text.encode("utf-8", "surrogatepass")
    if dice.random() < 0.5:
        raw = corrupt.data(dice, raw) if dice.random() < 0.5 else _encoded(ground, corrupt.text(dice, text, 2))
    return _stored(ground, raw, ())


def _encoded(ground: Ground, text: str) -> bytes:
    coding = ground.dice.choice(["utf-8", "utf-8-sig", "utf-16", "utf-32", "latin-1"])
    return text.encode(coding, "surrogatepass" if coding.startswith("utf") else "replace")


def _stored(ground: Ground, raw: bytes, options: tuple[str, ...]) -> Attack:
    """The bytes in a file, under a name that says what they are, or not."""
    dice, folder = ground.dice, ground.folder / "data"
    folder.mkdir()
    name = dice.choice(
        ["a.jsonl"] * 4 + ["a.json", "a.txt", "a.csv", "a.parquet", "a.jsonl.gz", "a.jsonl.zst", "a", "A.JSONL"]
    )
    if name.endswith(".gz") and dice.random() < 0.6:
        raw = gzip.compress(raw)
        raw = raw if dice.random() < 0.5 else corrupt.data(dice, raw)
    (folder / name).write_bytes(raw)
    if dice.random() < 0.2:
        (
            folder / dice.choice(["README.md", "state.json", "dataset_infos.json", ".hidden", "b.jsonl", "c.tar"])
        ).write_bytes(dice.choice([b"", b"{}", b'{"text": "w1 w2 w3"}\n', b"# words"]))
    place = str(folder / name) if dice.random() < 0.6 else str(folder)
    shown = raw[:1500].decode("utf-8", "backslashreplace")
    return _score(ground, place, *options, what=f"{name} ({' '.join(options)}): {shown}")


def conversations(ground: Ground) -> Attack:
    """Rows of instructions in all forms, corrupted."""
    dice = ground.dice
    rows: list[Any] = [*dialogues(2), *dice.sample(CHAT, dice.randint(1, 3))]
    rows = corrupt.structure(dice, rows, dice.choice([1, 2, 3]))
    rows = rows if isinstance(rows, list) else [rows]
    raw = "".join(json.dumps(row) + "\n" for row in rows).encode("utf-8", "surrogatepass")
    options = ["--kind", "instructions", "--template", dice.choice(["plain", "plain", *TEMPLATES[:2]])]
    if dice.random() < 0.2:
        options += ["--format", dice.choice(["alpaca", "sharegpt", "messages", "prompt_completion", "auto", "x"])]
    return _stored(ground, raw, tuple(options))


def template(ground: Ground) -> Attack:
    """A chat template, corrupted or hostile, on good conversations."""
    dice = ground.dice
    text = dice.choice(TEMPLATES)
    if dice.random() < 0.5:
        text = corrupt.text(dice, text, dice.randint(1, 2))
    given = text.replace("\x00", "0").encode("utf-8", "replace").decode()
    if dice.random() < 0.4:
        path = ground.folder / "template.jinja"
        path.write_bytes(
            text.encode("utf-8", "surrogatepass")
            if dice.random() < 0.7
            else corrupt.data(dice, text.encode("utf-8", "replace"))
        )
        given = str(path)
    options = ["--kind", "instructions", "--template", given]
    return _score(ground, str(ground.world.conversations), *options, what=f"a template: {text[:800]!r}")
