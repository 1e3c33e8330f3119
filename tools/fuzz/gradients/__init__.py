"""Random training configurations, each step's gradient against an independent fp64 oracle."""
