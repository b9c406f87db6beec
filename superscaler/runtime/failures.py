"""What can go wrong while a program runs, as errors a user can read."""

from superscaler.errors import SuperScalerError


class RuntimeFailure(SuperScalerError):
    """Something went wrong while an emitted program was loaded or run."""


class ProgramError(RuntimeFailure):
    """A program is missing, malformed, or was compiled for another torch or another format."""


class LaunchError(RuntimeFailure):
    """The processes that were started are not the ones the program was compiled for."""


class WorldSizeError(LaunchError):
    """Another number of processes was started than the program has ranks."""


class BatchError(RuntimeFailure):
    """A batch does not look like the batch that was traced."""


class WeightsError(RuntimeFailure):
    """Weights are missing, or do not fit the program's parameters."""


class CheckpointError(RuntimeFailure):
    """A checkpoint is missing, or does not fit the program's parameters."""


class CommunicationError(RuntimeFailure):
    """Ranks do not meet in a communication: a deadlock, a mismatch or a missing peer."""


class PeerFailure(CommunicationError):
    """Another rank failed, so this rank has nobody left to talk to."""


class TaskFailure(RuntimeFailure):
    """A task of a rank's program raised; the cause is its `__cause__`."""
