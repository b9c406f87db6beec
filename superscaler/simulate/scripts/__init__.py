"""Scripts: what a rank does in a step, in order, with the memory of every value."""
