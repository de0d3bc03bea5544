"""Which operators of torch a network uses, and what they take: seen without disturbing them.

In order: operators.
"""
