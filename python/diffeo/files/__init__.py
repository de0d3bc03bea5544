"""What is saved and loaded: containers, what each holds of an object, and the arrays that people bring.

In order: container -> schema -> how_measured, older_formats -> observation, charts, landmark_correction, expected_error,
embedded, transformation -> piecewise, pairs, report -> saved -> arrays.
"""
