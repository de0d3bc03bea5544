"""Predictors of one side's measurements that landmarks teach, with what they miss of landmarks left out, and their choice.

In order: predictor -> plain_fits, among_samples, choice.
"""
