"""Figures of a deployed machine, measured by hand: python -m tests.bench --help."""
