"""The decorator, and the step that it makes."""

from __future__ import annotations

import functools
import os
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from superscaler.cluster import ClusterLike, as_cluster
from superscaler.errors import ParallelizeError
from superscaler.parallelize.eager import EagerExecutor
from superscaler.parallelize.form import Form, batch_form
from superscaler.parallelize.guard import ModelGuard
from superscaler.parallelize.members import Members, is_told_elsewhere
from superscaler.parallelize.program import make_program
from superscaler.parallelize.uncaught import show_uncaught
from superscaler.parallelize.weights import fill_model, whole_state
from superscaler.policies import as_plan
from superscaler.runtime import RankExecutor, RankProgram, load_rank
from superscaler.runtime.checkpoint import load_checkpoint, save_checkpoint
from superscaler.runtime.data import as_dtype
from superscaler.runtime.initialize import initial_weights
from superscaler.runtime.local import lone_rank
from superscaler.runtime.world import Launch

if TYPE_CHECKING:
    from superscaler.plan import Plan

Step = Callable[[Any, Any], Any]
OptimizerFactory = Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]
Executor = RankExecutor | EagerExecutor

MANY_FORMS = 8


def parallelize(
    plan: Plan | str | Path,
    optimizer: OptimizerFactory,
    clip_grad_norm: float | None = None,
    *,
    cache: str | Path | None = ".superscaler",
    cluster: ClusterLike | None = None,
    seed: int = 0,
    timeout: float = 60.0,
    torch_compile: bool = False,
) -> Callable[[Step], ParallelStep]:
    """Make `step(model, batch)`, which returns the loss, into a whole training step.

        @parallelize(plan="data_parallel(dp=2)", optimizer=lambda p: torch.optim.AdamW(p, lr=3e-4))
        def train_step(model, batch):
            return model(batch["x"]).square().mean()

        loss = train_step(model, batch)          # forward, backward, update

    The same script runs under `python` and under `torchrun`. Under torchrun, with as many processes
    as the plan has devices, the first call compiles the step (rank 0, while the others wait) and
    each rank trains its part of the model from the model's present weights; every process gives
    each call the same global batch. Under plain python the step runs as it is, on one device, with
    the same numbers. What is compiled trains weights of its own: `sync(model)` copies them into the
    model, to validate or to export it; `save(folder)` and `load(folder)` are checkpoints.

    Parameters
    ----------
    plan : a plan, the path of a YAML file, or a policy call.
    optimizer : a callable from parameters to a `torch.optim.Optimizer`.
    clip_grad_norm : the largest global norm of the gradients.
    cache : the folder in which compiled programs are kept, by what they were compiled from; None:
        they are kept nowhere.
    cluster : the machine, its file or its name, for the choice of collectives.
    seed : of dropout and other random operators, and of weights on the meta device.
    timeout : seconds that processes wait for each other to start.
    torch_compile : under torchrun, operators between communication go through `torch.compile`, at
        the first step; what is predicted of time and memory is without it.
    """

    show_uncaught(is_told_elsewhere)

    def decorate(step: Step) -> ParallelStep:
        return ParallelStep(
            step,
            plan,
            optimizer,
            clip_grad_norm,
            Path(cache) if cache else None,
            cluster,
            seed,
            timeout,
            torch_compile,
        )

    return decorate


class ParallelStep:
    """A training step: call it with a model and a batch."""

    def __init__(
        self,
        step: Step,
        plan: Plan | str | Path,
        optimizer: OptimizerFactory,
        clip_grad_norm: float | None,
        cache: Path | None,
        cluster: ClusterLike | None,
        seed: int,
        timeout: float,
        torch_compile: bool = False,
    ) -> None:
        functools.update_wrapper(self, step)
        self.name = getattr(step, "__name__", "step")
        self.step = step
        self.plan = plan
        self.optimizer_factory = optimizer
        self.clip_grad_norm = clip_grad_norm
        self.cache = cache
        self.cluster = as_cluster(cluster)
        self.seed = seed
        self.timeout = timeout
        self.torch_compile = torch_compile
        self._executor: Executor | None = None  # of the last batch's form
        self._executors: dict[Form, Executor] = {}
        self._members = Members(None)
        self._guard: ModelGuard | None = None
        self._num_changes = 0  # of the model's weights, taken over
        self._to_load: Path | None = None
        self._idle_optimizer: torch.optim.Optimizer | None = None

    def __call__(self, model: nn.Module, batch: Any) -> Any:
        """Forward, backward and update on a global batch; the loss, or the loss and metrics.

        A batch of another form (shapes, dtypes, structure, or numbers in it) than those before is
        compiled for; weights and optimizer are the same.

        Weights of the model that were changed after `sync(model)`, by another decorated step for
        example, are taken over. Raises ParallelizeError when the model is another one since the
        first call, or changed otherwise, or when the ranks have batches of different forms.
        """
        executor = self._ready(model, batch)
        with self._members.sharing_failure():
            loss, metrics = executor.step(batch)
        return self._as_returned(executor.program, loss, metrics)

    def prepare(self, model: nn.Module, batch: Any) -> None:
        """Compile and load weights as the first call would, without training."""
        self._ready(model, batch)

    @property
    def optimizer(self) -> torch.optim.Optimizer:
        """The real optimizer of this process's part, for learning-rate schedulers.

        Raises ParallelizeError before the first call or `prepare`.
        """
        executor = self._started("optimizer")
        if executor.optimizer is not None:
            return executor.optimizer
        if self._idle_optimizer is None:  # this rank has no parameter; schedulers want one
            self._idle_optimizer = self.optimizer_factory([nn.Parameter(torch.zeros(0))])
        return self._idle_optimizer

    @property
    def grad_norm(self) -> Tensor | None:
        """The global norm of the last step's gradients, when they are clipped."""
        return self._started("grad_norm").grad_norm

    @property
    def step_number(self) -> int:
        """How many steps were trained, those before a loaded checkpoint included."""
        return self._started("step_number").step_number

    def state_dict(self) -> dict[str, Tensor]:
        """All parameters and buffers, whole, on the CPU of rank 0; {} on other ranks.

        All ranks call it.
        """
        with self._members.sharing_failure():
            return whole_state(self._started("state_dict()"))

    def sync(self, model: nn.Module) -> None:
        """Copy the trained weights into `model`, on every rank; all ranks call it."""
        executor = self._started("sync(model)")
        with self._members.sharing_failure():
            fill_model(executor, model)
        if self._guard is not None and self._guard.is_of(model):
            self._guard = ModelGuard(self.name, model, executor.step_number)

    def save(self, folder: str | Path) -> None:
        """Save a checkpoint, which loads under any plan; all ranks call it."""
        with self._members.sharing_failure():
            save_checkpoint([cast(RankExecutor, self._started("save(folder)"))], folder)

    def load(self, folder: str | Path) -> None:
        """Load a checkpoint that was saved under this or another plan.

        Before the first call it is kept for it. Raises CheckpointError when it does not fit.
        """
        if self._executor is None:
            self._to_load = Path(folder)
            return
        with self._members.sharing_failure():
            load_checkpoint(cast(RankExecutor, self._executor), folder)
        if self._guard is not None:
            self._guard.forget()

    def _ready(self, model: nn.Module, batch: Any) -> Executor:
        if self._executor is None:
            with torch.random.fork_rng(devices=[]):  # batches drawn later are the same on all ranks
                self._executor = self._start(model, batch)
            self._guard = ModelGuard(self.name, model, self._executor.step_number)
            if self._to_load is not None:
                self.load(self._to_load)
            self._executors = {batch_form(batch): self._executor}
            return self._executor
        assert self._guard is not None
        self._guard.check(model)
        if isinstance(self._executor, EagerExecutor):
            return self._executor
        if self._guard.has_new_weights(model, self._executor.step_number):
            self._take_over(model, self._executor)
        self._executor = self._of_form(model, batch, self._executor)
        return self._executor

    def _take_over(self, model: nn.Module, executor: RankExecutor) -> None:
        """Go on with the model's weights: another step, or the user, changed them."""
        number = executor.step_number
        with self._members.sharing_failure():
            self._num_changes += 1
            parameters = dict(model.named_parameters())
            self._members.check_equal("model", parameters, turn=self._num_changes)
            executor.finish_copies()
            self._load_weights(model, executor)
        self._guard = ModelGuard(self.name, model, number)

    def _of_form(self, model: nn.Module, batch: Any, last: RankExecutor) -> RankExecutor:
        """The executor for batches of this form, which goes on where the last one stopped."""
        form = batch_form(batch)
        if form not in self._executors:
            with torch.random.fork_rng(devices=[]), self._members.sharing_failure():
                self._members.gather(f"a batch of another form ({form})", self.timeout)
                self._executors[form] = self._compiled(model, batch, last)
            self._warn_of_many_forms()
        found = cast(RankExecutor, self._executors[form])
        if found is not last:
            last.finish_copies()
            found.step_number = last.step_number
        return found

    def _warn_of_many_forms(self) -> None:
        if len(self._executors) == MANY_FORMS and self._members.rank == 0:
            _say(
                f"{self.name}: {MANY_FORMS} forms of batches were compiled for; pad batches to a "
                "few shapes, and give numbers that change as tensors"
            )

    def _start(self, model: nn.Module, batch: Any) -> Executor:
        plan = as_plan(self.plan)
        self.plan = plan
        is_launched = "RANK" in os.environ and "WORLD_SIZE" in os.environ
        launch = Launch.from_environment()
        needed = plan.num_devices
        if is_launched and launch.world_size != needed:
            raise ParallelizeError(
                f"{self.name}: the plan needs {needed} devices, {launch.world_size} processes "
                f"were started; start the script with `torchrun --nproc-per-node {needed}` (over "
                f"several nodes, nodes times processes per node is {needed}), or change the plan"
            )
        if needed > 1 and not is_launched:
            _say(
                f"{self.name}: one process, so the step runs as it is, on one device; "
                f"`torchrun --nproc-per-node {needed}` runs the plan"
            )
            return EagerExecutor(
                self.step, model, self.optimizer_factory, self.clip_grad_norm, self.seed
            )
        self._members = Members.meet(launch, self.timeout) if needed > 1 else Members(None)
        with self._members.sharing_failure():
            return self._compiled(model, batch)

    def _compiled(
        self, model: nn.Module, batch: Any, last: RankExecutor | None = None
    ) -> RankExecutor:
        plan = cast("Plan", self.plan)
        members = self._members
        members.check_equal("batch", batch)
        if last is None:
            members.check_equal("model", dict(model.named_parameters()))
        start = time.perf_counter()
        source, how = members.share(
            lambda: make_program(
                self.step,
                model,
                batch,
                self.optimizer_factory,
                self.clip_grad_norm,
                plan,
                self.cluster,
                self.cache,
            )
        )
        if members.rank == 0:
            seconds = time.perf_counter() - start
            _say(f"{self.name}: {how} for {plan.num_devices} ranks in {seconds:.1f} s")
            if last is None:
                _say(
                    f"{self.name}: the trained weights are its own; {self.name}.sync(model) copies "
                    f"them into the model, {self.name}.save(folder) keeps a checkpoint"
                )
        program = load_rank(source, members.rank, self.torch_compile)
        communicator = members.communicator(program.manifest.get("groups", ())) or lone_rank()
        executor = RankExecutor(
            program,
            communicator,
            optimizer=self.optimizer_factory,
            device=members.device,
            seed=self.seed,
            trained_by=last,
        )
        if last is None:
            self._load_weights(model, executor)
        return executor

    def _load_weights(self, model: nn.Module, executor: RankExecutor) -> None:
        wanted = {placed.name for placed, _ in executor.placed_values()}
        executor.load_weights(initial_weights(model, self.seed, wanted))

    def _as_returned(self, program: RankProgram, loss: Tensor, metrics: dict[str, Tensor]) -> Any:
        """The results in the types, and in the structure, that the step returns."""
        types = program.manifest.get("types")
        if types is None:
            return (loss, metrics) if metrics else loss
        loss = loss.to(as_dtype(types["loss"]))
        if not types["is_pair"]:
            return loss
        return loss, {name: x.to(as_dtype(types["metrics"][name])) for name, x in metrics.items()}

    def _started(self, what: str) -> Executor:
        if self._executor is None:
            name = self.name
            raise ParallelizeError(
                f"{name}.{what}: nothing was compiled yet; call {name}(model, batch), or "
                f"{name}.prepare(model, batch), first"
            )
        return self._executor


def _say(text: str) -> None:
    sys.stderr.write(f"superscaler: {text}\n")
    sys.stderr.flush()
