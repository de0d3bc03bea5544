"""The paper's first experiment: networks that learned scalar functions.

In order: reconstructed -> experiment.
"""
