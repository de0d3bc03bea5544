"""What every stage leans on, and no stage owns: checked arrays, wording, threads, progress, memory."""
