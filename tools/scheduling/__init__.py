"""What the scheduler's benchmarks share."""
