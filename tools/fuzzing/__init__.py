"""What `tools/fuzz_plans.py` is made of: random models, random plans, and trials of them."""
