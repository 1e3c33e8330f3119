"""`samplewise` and `python -m samplewise`."""

from __future__ import annotations

import importlib.util
import sys


def main() -> None:
    """The command line; without its packages one line says how to get them."""
    missing = [name for name in ("typer", "rich", "yaml") if importlib.util.find_spec(name) is None]
    if missing:
        print(f'samplewise: {missing[0]} is not installed: pip install "samplewise[cli]"', file=sys.stderr)
        raise SystemExit(1)
    from samplewise.cli.app import app
    from samplewise.cli.streams import fill_closed, spell_out_letters

    fill_closed()
    spell_out_letters()
    app(prog_name="samplewise")


if __name__ == "__main__":
    main()
