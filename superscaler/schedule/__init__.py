"""Space-time scheduling: segments, tasks and the order all devices follow."""
