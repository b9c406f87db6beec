"""Clusters and profiles as a caller gives them: themselves, their file, or a name."""

from __future__ import annotations

from pathlib import Path

from superscaler.cluster.cluster import Cluster
from superscaler.cluster.profile import Profile
from superscaler.errors import PlanError

ClusterLike = Cluster | str | Path
ProfileLike = Profile | str | Path


def as_cluster(given: ClusterLike | None) -> Cluster | None:
    """The cluster that is meant; None stays None, which is the default one.

    Raises PlanError for a file or a name that there is none of, and for another kind of value.
    """
    if given is None or isinstance(given, Cluster):
        return given
    if isinstance(given, (str, Path)):
        return Cluster.load(given)
    raise PlanError(
        f"cluster: expected a Cluster, its file, or the name of one that ships, such as 'h100x8', "
        f"found {repr(given)[:80]}"
    )


def as_profile(given: ProfileLike | None) -> Profile | None:
    """The profile that is meant. Raises PlanError as `as_cluster` does."""
    if given is None or isinstance(given, Profile):
        return given
    if isinstance(given, (str, Path)):
        return Profile.load(given)
    raise PlanError(
        "profile: expected a Profile, or the file that superscaler profile wrote, found "
        f"{repr(given)[:80]}"
    )
