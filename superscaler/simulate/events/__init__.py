"""Events: when it happens, on all ranks at once."""
