"""What every stage leans on, and no stage owns.

In order: wording, notebook, memory, instruction_set, core, arrays, dense,
blas, threads, point_tree, progress, engine, placed.
"""
