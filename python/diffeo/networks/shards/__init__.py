"""Many inputs measured in parts, by the workers of joblib.

In order: measured_shards.
"""
