"""Problems of parts of the samples, from which a map is made again, and what samples in no chart add to its error.

In order: halves_and_groups, fields, left_out, no_counterpart, stray_landmarks, pieces_posed -> pieces_joined.
"""
