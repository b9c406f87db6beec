"""Every error a user can meet: one root, one class per stage of the pipeline."""


class SuperScalerError(Exception):
    """The root of all errors that are the user's to mend; the CLI prints no traceback of them."""


class TraceError(SuperScalerError):
    """The training step or the model cannot be captured as one graph."""


class GraphError(SuperScalerError):
    """A graph breaks a rule of the IR (`graph.verify`)."""


class TransformError(SuperScalerError):
    """`op_trans` or `op_assign` was asked for something the operator cannot do."""


class PlanError(SuperScalerError):
    """A plan is malformed, or does not fit the graph or the cluster it is compiled for."""


class ScheduleError(SuperScalerError):
    """An order contradicts the data dependencies or another order."""


class DoesNotFitError(ScheduleError):
    """No order of the tasks was found that fits the devices' memory."""


class MaterializeError(SuperScalerError):
    """A dependency cannot be preserved under the plan."""


class InvalidProgramError(MaterializeError):
    """The emitted program breaks a rule that every program keeps: a fault of the compiler."""


class WorkloadError(SuperScalerError):
    """A workload file or callable is missing or malformed."""


class VerifyError(SuperScalerError):
    """The ranks of a program did not come far enough to be compared with the untouched model."""


class ParallelizeError(SuperScalerError):
    """A step made by `parallelize` is called in a way that its program was not compiled for."""


class SimulateError(SuperScalerError):
    """A program cannot be simulated on a cluster, or a simulation cannot be read."""


class ViewError(SuperScalerError):
    """A picture of something that there is no picture of, or that cannot be written."""
