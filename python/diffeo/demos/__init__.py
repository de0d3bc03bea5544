"""Experiments on networks trained on the spot; run them with ``diffeo demo NAME``.

In order: training, page, attempts -> scalar, field, horse, family.
"""
