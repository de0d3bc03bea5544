"""What every stage leans on, and no stage owns.

In order: wording, memory, arrays, threads, progress.
"""
