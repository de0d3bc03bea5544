"""What every stage leans on, and no stage owns.

In order: wording, memory, instruction_set, core, arrays, threads, progress,
engine, placed.
"""
