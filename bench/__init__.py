"""Speed, memory and accuracy of diffeo beside its baselines: one ``bench_<stage>.py`` a stage, for pytest-benchmark.

Run from the root of the repository: ``python -m bench.compare --help``.
"""
