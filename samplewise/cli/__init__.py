"""The commands with a module of their own; `samplewise.cli.app` registers them."""
