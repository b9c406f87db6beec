"""Machine descriptions, operator and link costs."""

from superscaler.cluster.cluster import Cluster, Link

__all__ = ["Cluster", "Link"]
