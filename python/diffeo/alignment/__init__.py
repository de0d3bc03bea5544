"""One sample laid on another, in coordinates: an `Alignment`, or several that cannot be told apart.

In order: linear, motion, evening -> noisy_landmarks, rough_places, shape, observables, borders -> motion_search, lattices
-> robust, candidates -> curved.
"""
