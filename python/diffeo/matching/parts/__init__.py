"""Problems of parts of the samples, from which a map is made again.

In order: halves_and_groups.
"""
