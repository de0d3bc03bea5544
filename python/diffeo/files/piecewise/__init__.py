"""What a file holds of maps by pieces.

In order: stored_pieces.
"""
