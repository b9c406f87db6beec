"""Machine descriptions, operator and link costs."""

from superscaler.cluster.cluster import Cluster
from superscaler.cluster.machine import Device, Host, Link, Nodes

__all__ = ["Cluster", "Device", "Host", "Link", "Nodes"]
