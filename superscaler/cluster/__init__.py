"""Machine descriptions, operator and link costs."""

from superscaler.cluster.cluster import Cluster
from superscaler.cluster.given import ClusterLike, as_cluster
from superscaler.cluster.machine import Device, Host, Link, Nodes

__all__ = ["Cluster", "ClusterLike", "Device", "Host", "Link", "Nodes", "as_cluster"]
