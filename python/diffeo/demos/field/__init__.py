"""The paper's second experiment: networks that learned a vector field.

In order: oscillator -> pictures, transfer -> experiment.
"""
