"""What tools/bench_plans.py compares: cells, conventional plans and ours, and how to measure."""
