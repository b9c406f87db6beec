"""Plans on a graph: roles on each mesh, stages, tensor-parallel axes, recompute, partial sums."""

from __future__ import annotations

import pytest
import torch
from subjects import gpt, mlp, subject, traced

import superscaler as ss
from superscaler import policies
from superscaler.compiler import partition_of
from superscaler.graph.operator import Phase
from superscaler.plan import Plan, PlanSplit, PlanStage
from superscaler.transform.layout import input_layout, output_layout
from superscaler.transform.partial import propagate_partial
from superscaler.transform.partition import REPLICATE, VALUE, Partition
from superscaler.transform.recompute import module_regions, recompute
from superscaler.transform.select import select
from superscaler.transform.stages import assign_stages
from superscaler.transform.tensor_parallel import tensor_parallel_axes, token_axes


def placed(plan: Plan) -> Partition:
    return partition_of(mlp().graph, plan, mlp().axes)


def role_names(partition: Partition, name: str) -> list[str]:
    """What each grid dim does to an operator: an axis's name, `same` or `sum`."""
    op = select(partition.graph, name)[0]
    iters = partition.axes_of(op).iters
    words = {REPLICATE: "same", VALUE: "sum"}
    return [
        words.get(r) or partition.axes.axes[iters[r].axis].name for r in partition.placed[op].roles
    ]


def test_data_parallel_splits_the_batch() -> None:
    partition = placed(policies.data_parallel(dp=2))
    assert role_names(partition, "layers.0.fc1.mm") == ["batch"]
    assert role_names(partition, "layers.0.fc1.t") == ["same"]
    weight = mlp().graph.updates[0]
    grad = output_layout(partition, *mlp().graph.producer[weight.grad])
    assert VALUE in grad.roles


def test_megatron_splits_columns_then_rows() -> None:
    partition = placed(policies.megatron(tp=2))
    assert role_names(partition, "layers.0.fc1.mm") == ["layers.0.fc1.weight:0"]
    assert role_names(partition, "layers.0.fc2.mm") == ["layers.0.fc1.weight:0"]
    fc2 = select(mlp().graph, "layers.0.fc2.mm", phase="forward")[0]
    assert output_layout(partition, fc2, 0).roles == (VALUE,)


def test_microbatches_are_a_dim_in_time() -> None:
    partition = placed(policies.pipeline(pp=2, microbatches=4))
    grid = partition.placed[select(mlp().graph, "layers.0.fc1.mm")[0]].grid
    assert (grid.names[0], grid.time_dims, grid.time_shape) == ("mb", (0,), (4,))


def test_where_limits_a_split() -> None:
    splits = (PlanSplit("batch", "dp", ("layers.0",)),)
    partition = placed(Plan((PlanStage((0, 1), {"dp": 2}),), splits=splits))
    assert role_names(partition, "layers.0.fc1.mm") == ["batch"]
    assert role_names(partition, "layers.1.fc1.mm") == ["same"]


def test_the_first_split_listed_wins() -> None:
    rows, batch = PlanSplit("layers.*.fc1.weight:0", "x"), PlanSplit("batch", "x")
    stages = (PlanStage((0, 1), {"x": 2}),)
    assert role_names(placed(Plan(stages, splits=(batch, rows))), "layers.0.fc1.mm") == ["batch"]
    assert role_names(placed(Plan(stages, splits=(rows, batch))), "layers.0.fc1.mm") != ["batch"]


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_zero_shards_the_updates(stage: int) -> None:
    partition = placed(policies.zero(dp=2, stage=stage))
    for update in mlp().graph.updates:
        layout = input_layout(partition, update.operator, 0)
        assert layout.roles[0] >= 0
        assert partition.placed[update.operator].gather == ("use" if stage == 3 else "step")


# stages


@pytest.mark.parametrize("count", [1, 2, 3, 4])
@pytest.mark.parametrize("name", ["mlp", "gpt"])
def test_stages_are_monotone(name: str, count: int) -> None:
    toy = {"mlp": mlp(layers=4), "gpt": gpt(layers=4, tied=True)}[name]
    graph = toy.graph
    stages = assign_stages(graph, toy.axes, policies.pipeline(pp=count, microbatches=2))
    forward = [stages[op.id] for op in graph.operators if op.phase is Phase.FORWARD]
    assert forward == sorted(forward)
    assert set(forward) == set(range(count))
    for op in graph.operators:
        for t in op.inputs:
            if op.phase is Phase.BACKWARD and t in graph.producer:
                maker = graph.operators[graph.producer[t][0]]
                if maker.phase is Phase.BACKWARD:
                    assert stages[op.id] <= stages[maker.id]


def test_stages_by_pattern() -> None:
    stages = (PlanStage((0,), modules=("layers.0",)), PlanStage((1,), modules=("layers.1", "head")))
    found = assign_stages(mlp().graph, mlp().axes, Plan(stages))
    for op in mlp().graph.operators:
        if op.module.startswith("layers.0") and op.phase is Phase.FORWARD:
            assert found[op.id] == 0
        if op.module.startswith("head"):
            assert found[op.id] == 1


# tensor-parallel axes


def test_axes_worth_splitting_in_gpt() -> None:
    axes = gpt().axes
    names = {axes.axes[a].name for a in tensor_parallel_axes(gpt().graph, axes, 2)}
    for layer in range(2):
        assert any(n.startswith(f"layers.{layer}.attention") for n in names)
        assert any(n.startswith(f"layers.{layer}.") and "attention" not in n for n in names)
    assert "batch" not in names


def test_axes_worth_splitting_in_llama() -> None:
    llama = subject("llama")
    found = tensor_parallel_axes(llama.graph, llama.axes, 2)
    owners = {
        t.name: set(llama.axes.slots[t.id]) & set(found)
        for t in llama.graph.tensors
        if t.name.endswith("proj.weight") and t.kind.value == "param"
    }
    assert owners
    assert all(owners.values()), owners


def test_what_does_not_divide_is_not_chosen() -> None:
    assert tensor_parallel_axes(mlp().graph, mlp().axes, 3) == []


def test_token_axes() -> None:
    axes = gpt().axes
    split = set(tensor_parallel_axes(gpt().graph, axes, 2))
    assert [axes.axes[a].size for a in token_axes(gpt().graph, axes, split)] == [8]


# recompute and partial sums


def test_recompute_runs_matching_modules_again() -> None:
    regions = module_regions(mlp().graph, ("layers.0",))
    graph, axes = recompute(mlp().graph, mlp().axes, regions)
    again = [op for op in graph.operators if op.name.endswith(".again")]
    assert again
    assert {op.module.split(".")[1] for op in again} == {"0"}
    assert [op.id for op in graph.operators] == list(range(len(graph.operators)))
    assert len(axes.operators) == len(graph.operators)
    made = {t: op.id for op in graph.operators for t in op.outputs}
    for op in graph.operators:
        assert all(made[t] < op.id for t in op.inputs if t in made)
        if op.phase is Phase.BACKWARD and not op.name.endswith(".again"):
            kept = [graph.operators[made[t]] for t in op.inputs if t in made]
            inside = [
                k for k in kept if k.phase is Phase.FORWARD and k.module.startswith("layers.0")
            ]
            assert not inside


def test_recompute_of_nothing_changes_nothing() -> None:
    graph, _ = recompute(mlp().graph, mlp().axes, {})
    assert graph.operators == mlp().graph.operators


def test_partial_sums_are_reduced_late() -> None:
    """Views and transposes of a weight gradient work on partial sums: one reduction, at the end."""
    partition = placed(policies.data_parallel(dp=2))
    after = propagate_partial(partition)
    changed = [op for op in mlp().graph.operators if after.placed[op.id] != partition.placed[op.id]]
    for op in changed:
        assert VALUE in after.placed[op.id].roles
        assert after.placed[op.id].linear
    for op in mlp().graph.operators:
        if op.phase is Phase.UPDATE:
            assert VALUE not in after.placed[op.id].roles


@pytest.mark.parametrize("plan", ["hybrid(microbatches=4)", "hybrid(pp=2, microbatches=2, zero=0)"])
def test_views_of_parameters_run_where_their_readers_do(plan: str) -> None:
    """A product with the sum of the batch is one for all microbatches, whose losses wait for it:
    its backward cannot wait for a transpose in the first microbatch's."""

    class Pooled(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(8, 8)
            self.weight = torch.nn.Parameter(torch.randn(8, 8))

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            h = self.layer(x).tanh()
            return h, h.sum(0, keepdim=True) @ self.weight

    def step(model: torch.nn.Module, batch: torch.Tensor) -> torch.Tensor:
        h, pooled = model(batch)
        return (h + pooled.detach().mean()).square().mean() + pooled.sum()

    torch.manual_seed(0)
    workload = ss.Workload(step, Pooled(), lambda p: torch.optim.SGD(p, lr=0.1), torch.randn(8, 8))
    of = traced(workload)
    assert of.check(of.compile(plan).files).ok
