"""Workloads under faults, from a seed, with a history that is checked: ``python -m tests.chaos``."""
