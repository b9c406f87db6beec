"""Search: what a program's tasks cost; the order, stages and copies ahead that suit a cluster."""
