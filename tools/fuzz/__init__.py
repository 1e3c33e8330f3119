"""Random attacks on the library: gradients against an oracle, and bad inputs against the command line."""
