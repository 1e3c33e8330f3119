"""The one engine of a step: plan, modes, rows, observers."""
