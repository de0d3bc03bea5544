"""Bursts of inputs where derivatives do not tell how a network stretches: which layers, how wide, how many.

In order: burst_sizes -> slope_choice.
"""
