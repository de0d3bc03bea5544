"""One observation with intrinsic coordinates, both ways."""
