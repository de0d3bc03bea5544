"""What a polynomial of the whole layout says of the measurements, and of lengths between samples that are far apart.

In order: polynomial -> trend_lengths.
"""
