"""Derivatives of measurements from neighbours in reference coordinates.

In order: axes -> local_fits.
"""
