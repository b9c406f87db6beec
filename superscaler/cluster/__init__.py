"""Machine descriptions, operator and link costs."""

from superscaler.cluster.cluster import Cluster
from superscaler.cluster.given import ClusterLike, ProfileLike, as_cluster, as_profile
from superscaler.cluster.machine import Device, Host, Link, Nodes

__all__ = [
    "Cluster",
    "ClusterLike",
    "Device",
    "Host",
    "Link",
    "Nodes",
    "ProfileLike",
    "as_cluster",
    "as_profile",
]
