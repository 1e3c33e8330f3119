"""registered.json: what a comparison set out to do, written before its first arm runs, and what was added later."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from samplewise.config.settings_file import to_yaml
from samplewise.core.checkpoint import write_bytes
from samplewise.core.json_file import as_written, read_json
from samplewise.evidence.plan import PlanConfig
from samplewise.evidence.primary import primary_of

REGISTERED = "registered.json"
SCHEMA = "samplewise-registered-1"
_DAMAGED = "Restore the file: it says what was planned before the first arm ran."

Entry = Mapping[str, Any]


def register(
    folder: Path, plan: PlanConfig, arms: Sequence[str], *, finished: int, before: Entry | None, file: Path | None
) -> None:
    """Write an entry for arms and seeds that the folder has none for; the entries before it stay as they are.

    finished: the runs that could be seen. before: of a folder that began without a registration, its `unregistered`.
    file: the plan's own file, whose SHA-256 is stored too.
    """
    entries = registered(folder) or ([] if before is None else [before])
    known = {key: {each for entry in entries for each in entry[key]} for key in ("arms", "seeds")}
    new = [arm for arm in arms if arm not in known["arms"]]
    seeds = [seed for seed in plan.seeds if seed not in known["seeds"]]
    if new or seeds:
        own = {} if file is None else {"file_sha256": hashlib.sha256(file.read_bytes()).hexdigest()}
        at = datetime.now(UTC).isoformat(timespec="seconds")
        digest = hashlib.sha256(to_yaml(plan).encode()).hexdigest()
        entries = [*entries, {
            "at": at, "sha256": digest, **own, "arms": new, "seeds": seeds, "after_runs": finished,
        }]  # fmt: skip
    primary = primary_of(plan)
    stated = {"schema": SCHEMA, "primary": None if primary is None else primary.to_json(), "entries": entries}
    write_bytes(folder / REGISTERED, (json.dumps(stated, indent=1, ensure_ascii=False) + "\n").encode())


def unregistered(plan: PlanConfig, arms: Sequence[str]) -> dict[str, Any]:
    """The first entry of a comparison that began before there were registrations: at an unknown time."""
    digest = hashlib.sha256(to_yaml(plan).encode()).hexdigest()
    return {"at": None, "sha256": digest, "arms": list(arms), "seeds": list(plan.seeds), "after_runs": 0}


def registered(folder: Path) -> list[Entry] | None:
    """The entries, the first one first; None where there is no file."""
    path = folder / REGISTERED
    if not path.exists():
        return None
    with as_written(path, "the registration of a comparison", _DAMAGED):
        return list(read_json(path, "the registration of a comparison", _DAMAGED)["entries"])


def later_arms(folder: Path) -> set[str]:
    """The arms that were added when runs of others could be seen."""
    return {arm for entry in registered(folder) or [] if entry["after_runs"] for arm in entry["arms"]}


def registration_lines(folder: Path) -> list[str]:
    """What was registered and when, a line for each entry."""
    lines = []
    for k, entry in enumerate(registered(folder) or []):
        at = "at an unknown time" if entry["at"] is None else entry["at"].replace("T", " ").replace("+00:00", " UTC")
        digest = f"plan SHA-256 {entry['sha256']}"
        if "file_sha256" in entry:
            digest += f", its file {entry['file_sha256']}"
        if k == 0:
            lines.append(f"Begun {at}, before the first arm; {digest}.")
            continue
        added = [f"arms {', '.join(entry['arms'])}"] if entry["arms"] else []
        added += [f"seeds {', '.join(map(str, entry['seeds']))}"] if entry["seeds"] else []
        seen = (
            f"after {entry['after_runs']} runs were finished" if entry["after_runs"] else "before any run was finished"
        )
        lines.append(f"Added {at}, {seen}: {'; '.join(added)}; {digest}.")
    return lines
