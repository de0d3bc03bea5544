"""Maps learned from pairs alone, with their derivatives: local polynomials and kernels, chosen for each query.

In order: components, tangents, radial, framed_landmarks -> sample -> local_polynomials, kernel_fit -> kernel_choice ->
local_kernels -> targets -> direction -> both_ways.
"""
