"""The IR: tensors, operators, axes and the graph they make."""
