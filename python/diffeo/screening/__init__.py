"""What two observations show without any pair: a `Screening`.

In order: spectra, overlay -> findings -> screen_observations.
"""
