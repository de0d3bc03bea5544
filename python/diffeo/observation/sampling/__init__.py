"""Where an observation is sampled too thinly for its curvature, and inputs to add there.

In order: gaps -> judged_steps -> input_suggestions.
"""
