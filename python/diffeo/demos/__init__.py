"""Experiments on networks trained on the spot; run them with ``diffeo demo NAME``."""
