"""Faults on purpose: kills, failing disks, damaged files, neighbours, clocks, bad numbers and changed inputs."""
