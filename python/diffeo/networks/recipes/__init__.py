"""What is asked of a measurement of a network, and what it gives.

In order: measured -> recipe.
"""
