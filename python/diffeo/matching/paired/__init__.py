"""Maps learned from pairs alone, with their derivatives: local polynomials and kernels, chosen for each query.

In order: components, tangents -> sample -> local_polynomials, kernel_fit -> direction -> both_ways.
"""
