"""What a call costs, ours and the peers'. `python -m benchmarks` runs it all; see README.md."""
