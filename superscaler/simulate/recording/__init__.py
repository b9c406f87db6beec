"""Recording: what one call of an emitted function does, found by running it on meta tensors."""
