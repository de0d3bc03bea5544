"""Maps between sides that fall into pieces: one map for each pair of pieces, and which of them a measurement takes.

In order: routes -> by_pieces.
"""
