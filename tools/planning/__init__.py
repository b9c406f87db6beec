"""What tools/bench_plans.py compares: cells, conventional plans, ours, and how both are measured."""
