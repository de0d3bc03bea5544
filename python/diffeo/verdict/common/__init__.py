"""What one observation tells of common inputs, whatever it is compared with.

In order: seen_inputs -> joined_inputs.
"""
