"""The commands with a module of their own; `samplewise.cli` registers them."""
