"""Seconds and peak memory of selecting among made-up scores: `python bench/selection.py [--rows 50_000_000]`.

The scores are made first, and kept in --folder for the next time. Each selection runs in a process of its own, through
the command; the memory is the largest resident set of that process (Linux). --by-hand also runs the SQL that one
would write in DuckDB for the same ids or weights, and a shorter one for nearly the same, each in a process of its own,
and shows the ratios of CPU times.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from hashlib import file_digest
from pathlib import Path

import numpy as np

CASES = {
    "band": ["--rule", "band(drop_top=0.1, drop_bottom=0.3)"],
    "band per source": ["--rule", "band(drop_top=0.1)", "--within", "source"],
    "budget of tokens": ["--rule", "band(drop_top=0.1)", "--tokens", "BUDGET"],
    "random": ["--rule", "random_keep(0.5)"],
    "band, documents": ["--rule", "band(drop_top=0.1)", "--unit", "document"],
    "a tilt, ir_dro": ["--rule", "ir_dro(r=1)", "--weights"],
}
HAND = {
    "band": """
        SELECT id FROM (SELECT id, row_number() OVER (ORDER BY loss DESC, id) AS place, count(*) OVER () AS n FROM s)
        WHERE place > n * 0.1 AND place <= n * 0.7
    """,
    "band per source": """
        SELECT id FROM (
            SELECT id, row_number() OVER (PARTITION BY source ORDER BY loss DESC, id) AS place,
                count(*) OVER (PARTITION BY source) AS n
            FROM s
        ) WHERE place > n * 0.1
    """,
    "budget of tokens": """
        SELECT id FROM (
            SELECT id, sum(n_tokens) OVER (ORDER BY loss DESC, id ROWS UNBOUNDED PRECEDING) AS used
            FROM s, (SELECT quantile_disc(loss, 0.9) AS q FROM s) WHERE loss <= q
        ) WHERE used <= BUDGET
    """,
    "random": "SELECT id FROM s ORDER BY hash(id, 7) LIMIT (SELECT count(*) // 2 FROM s)",
    "a tilt, ir_dro": """
        SELECT id, doc_id, source, row, "window", exp(loss - top) / mean AS sample_weight
        FROM s, (SELECT avg(exp(loss - top)) AS mean, any_value(top) AS top
                 FROM s, (SELECT max(loss) AS top FROM s))
    """,
}
"""The same ids, ties by id and all, or at random as many, or the same weights: written by hand for this table alone."""
LOOSE = {
    "band": """
        SELECT id FROM s, (SELECT quantile_disc(loss, [0.3, 0.9]) AS q FROM s) WHERE loss > q[1] AND loss <= q[2]
    """,
    "band per source": """
        SELECT id FROM s JOIN (SELECT source, quantile_disc(loss, 0.9) AS q FROM s GROUP BY source) USING (source)
        WHERE loss <= q
    """,
    "random": "SELECT id FROM s WHERE hash(id, 7) < 9223372036854775808::UBIGINT",
}
"""The shortest that one would write: all of a tie is kept or none, and at random about as many."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=50_000_000)
    parser.add_argument("--folder", type=Path, default=Path("build/bench-select"))
    parser.add_argument("--cases", nargs="*", default=list(CASES))
    parser.add_argument("--by-hand", action="store_true")
    options = parser.parse_args()
    scores = options.folder / f"scores-{options.rows}"
    if not (scores / "manifest.json").exists():
        make(scores, options.rows)
    print(f"{options.rows:,} rows\n{'':<20}{'seconds':>9}{'CPU s':>9}{'peak MB':>9}")
    for name in options.cases:
        budget = str(options.rows * 40)  # of 256 tokens in the mean
        arguments = [word.replace("BUDGET", budget) for word in CASES[name]]
        wall, cpu, peak = run(scores, options.folder / "ids.parquet", arguments)
        more = ""
        for told, queries in (("by hand", HAND), ("loosely", LOOSE)):
            if options.by_hand and name in queries:
                own = by_hand(scores, options.folder / "hand.parquet", queries[name].replace("BUDGET", budget))
                more += f"   {told} {own:.1f} CPU s, ratio {cpu / own:.2f}"
        print(f"{name:<20}{wall:>9.1f}{cpu:>9.1f}{peak:>9.0f}{more}", flush=True)


def run(scores: Path, out: Path, arguments: list[str]) -> tuple[float, float, float]:
    """Wall seconds, processor seconds and peak resident MB of one command."""
    program = (
        "import re, sys, time; from samplewise.cli.app import app\n"
        "code = app(sys.argv[1:], prog_name='samplewise', standalone_mode=False)\n"
        "peak = re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1]\n"
        "print('used', time.process_time(), peak); sys.exit(code or 0)"
    )
    kind = [] if "--weights" in arguments else ["--ids"]
    command = [sys.executable, "-c", program, "select", str(scores), *kind, "--out", str(out), *arguments]
    start = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True)
    wall = time.perf_counter() - start
    if done.returncode:  # a rule that weighs refuses what its memory does not hold
        raise SystemExit(done.stdout + done.stderr)
    _, cpu, peak = done.stdout.splitlines()[-1].split()
    return wall, float(cpu), float(peak) / 1024


def by_hand(scores: Path, out: Path, query: str) -> float:
    """Processor seconds of one query of DuckDB, its import included."""
    program = (
        "import duckdb, sys, time; c = duckdb.connect(config={'memory_limit': '2GB'})\n"
        "c.read_parquet(sys.argv[1] + '/*.parquet').create_view('s')\n"
        "c.execute(f\"COPY ({sys.argv[2]}) TO '{sys.argv[3]}' (FORMAT parquet)\"); print(time.process_time())"
    )
    done = subprocess.run([sys.executable, "-c", program, str(scores), query, str(out)], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    return float(done.stdout.split()[-1])  # behind the bar that DuckDB draws for what takes long


def make(folder: Path, rows: int, shard: int = 1_000_000) -> None:
    """A folder of scores; about one document in five has two windows."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from samplewise.corpus.manifest import Manifest, Shard, write_manifest
    from samplewise.corpus.place import Place
    from samplewise.corpus.table import COLUMNS, OPTIONAL, schema_of

    types = {name: kind for name, kind in COLUMNS.items() if name not in OPTIONAL}
    folder.mkdir(parents=True, exist_ok=True)
    shards, documents, tokens = [], 0, 0
    for index, start in enumerate(range(0, rows, shard)):
        columns = columns_of(start, min(shard, rows - start), np.random.default_rng(index))
        columns["source"] = pa.DictionaryArray.from_arrays(
            np.zeros(len(columns["id"]), np.int32), [f"part-{index:05d}.jsonl"]
        ).cast("string")
        table = pa.table({name: pa.array(columns[name]) for name in types}).cast(schema_of(types))
        path = folder / f"shard-{index:05d}.parquet"
        pq.write_table(table, path, compression="zstd", use_dictionary=["source"], row_group_size=2**17)
        with path.open("rb") as written:
            shards.append(
                Shard(path.name, table.num_rows, path.stat().st_size, file_digest(written, "sha256").hexdigest())
            )
        documents += int((columns["window"] == 0).sum())
        tokens += int(columns["n_tokens"].sum())
    write_manifest(Place(folder), Manifest(documents, documents, 0, rows, tokens, shards, types))


def columns_of(start: int, count: int, draw: np.random.Generator) -> dict[str, object]:
    row = np.arange(start, start + count)
    window = (row % 5 == 1).astype(np.int32)
    n_tokens = draw.integers(1, 512, count, dtype=np.int32)
    loss = draw.gamma(9, 1 / 3, count).astype(np.float32)
    return {
        "id": scrambled(row), "doc_id": scrambled(row - window), "row": row - window, "window": window,
        "n_tokens": n_tokens, "n_bytes": n_tokens * 4, "loss": loss,
        "loss_q10": loss * 0.1, "loss_q50": loss * 0.8, "loss_q90": loss * 2,
    }  # fmt: skip


def scrambled(row: np.ndarray) -> np.ndarray:
    """63-bit names, each its own, that compress as badly as hashes."""
    return ((row.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(1)).astype(np.int64)


if __name__ == "__main__":
    main()
