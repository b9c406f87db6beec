"""The executor: numbers equal to one process, lifetimes, accumulation, buffers, errors."""

import weakref

import pytest
import torch
from emitted import linear_program, linear_reference, one_rank_files, train

from superscaler.runtime import RankExecutor, load_rank, load_ranks, run_ranks_in_threads
from superscaler.runtime.failures import BatchError, ProgramError, TaskFailure, WeightsError

OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.9),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.1),
}


@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)
@pytest.mark.parametrize(("tp", "dp"), [(1, 1), (2, 1), (1, 2), (3, 2)])
def test_training_equals_one_process(tp, dp, make):
    torch.manual_seed(0)
    w = torch.randn(6, 4, dtype=torch.float64)
    batches = [torch.randn(8, 6, dtype=torch.float64) for _ in range(3)]
    losses, gradient, weight = linear_reference(w, batches, make)
    got, executors = train(linear_program(tp, dp), {"w": w}, batches, make, record_gradients=True)
    for rank, executor in enumerate(executors):
        assert got[rank] == pytest.approx(losses, rel=1e-12)
        rows = slice(rank % tp * 6 // tp, (rank % tp + 1) * 6 // tp)
        torch.testing.assert_close(executor.parameters["w", ()].detach(), weight[rows])
        torch.testing.assert_close(executor.gradients["w", ()], gradient[rows])


def test_the_optimizer_is_made_of_the_local_parameters_in_the_groups_of_whole_ones():
    calls = []

    def make(parameters):
        calls.append([tuple(p.shape) for p in parameters])
        return torch.optim.SGD(parameters, lr=0.1)

    files, batch = linear_program(2), torch.zeros(8, 6, dtype=torch.float64)
    train(files, {"w": torch.zeros(6, 4)}, [batch, batch], make)
    assert sorted(calls) == [[(3, 4)], [(3, 4)], [(6, 4)], [(6, 4)]]  # two ranks, as threads


def run_one(files, steps=1, batch=(), **options):
    def main(rank, communicator):
        executor = RankExecutor(load_rank(files, rank), communicator, **options)
        return [executor.step(batch) for _ in range(steps)], executor

    return run_ranks_in_threads(1, main)[0]


LIFETIMES = """
import weakref
ALIVE = []

def make(ctx):
    x, y = torch.ones(3), torch.ones(3)
    ALIVE.append((weakref.ref(x), weakref.ref(y)))
    return x, y, torch.ones(3)

def use(ctx, x):
    del x
    assert ALIVE[-1][0]() is None, "x dies in this task"
    assert ALIVE[-1][1]() is not None, "y is read later"
    return ()

def last(ctx, y):
    return (y.sum(),)
"""


def test_values_die_where_the_task_that_reads_them_last_deletes_them():
    files = one_rank_files(
        LIFETIMES,
        '[("make", ()), ("use", ()), ("last", ())]',
        '{"make": Task(make, (), ("x", "y", "never_read")), "use": Task(use, ("x",)), '
        '"last": Task(last, ("y",), ("loss",))}',
    )
    (first, second), _ = run_one(files, steps=2)
    assert first[0] == second[0] == 3.0


def test_what_nothing_reads_is_dropped_and_results_stay():
    kept = []

    def main(rank, communicator):
        files = one_rank_files(
            "def make(ctx):\n    x = torch.ones(3)\n    return x, x.sum()\n\n"
            "def look(ctx):\n    ctx['probe'].append(1)\n    return ()\n",
            '[("make", ()), ("look", ())]',
            '{"make": Task(make, (), ("x", "loss")), "look": Task(look)}',
            CONSTANTS={"probe": []},
        )
        program = load_rank(files, rank)
        inner = program.tasks["make"].function

        def make(ctx):
            result = inner(ctx)
            kept.append(weakref.ref(result[0]))
            return result

        def look(ctx):
            assert kept[0]() is None
            return ()

        program.tasks["make"] = type(program.tasks["make"])(make, (), ("x", "loss"))
        program.tasks["look"] = type(program.tasks["look"])(look)
        return RankExecutor(program, communicator).step(())[0]

    assert run_ranks_in_threads(1, main)[0] == 3.0


ACCUMULATE = """
SEEN = []

def make(ctx):
    g = torch.ones(2)
    SEEN.append(g)
    return g, g  # the second value aliases the first

def check(ctx, total, aliases):
    assert [alias.tolist() for alias in aliases.values()] == [[1.0, 1.0]] * 3
    assert list(aliases) == [(0,), (1,), (2,)]
    return (total.sum(),)
"""


def test_accumulation_never_changes_a_tensor_that_others_see():
    files = one_rank_files(
        ACCUMULATE,
        '[("make", (0,)), ("make", (1,)), ("make", (2,)), ("check", ())]',
        '{"make": Task(make, (), ("total+", "alias@0")), '
        '"check": Task(check, ("total", "alias@*"), ("loss",))}',
    )
    (step, again), _ = run_one(files, steps=2)
    assert step[0] == again[0] == 6.0


def test_accumulation_after_a_read_makes_a_new_tensor():
    code = """
def make(ctx):
    return (torch.ones(1),)

def peek(ctx, total):
    return (total,)

def last(ctx, seen, total):
    return (seen * 10 + total,)
"""
    files = one_rank_files(
        code,
        '[("make", ()), ("make", ()), ("peek", ()), ("make", ()), ("last", ())]',
        '{"make": Task(make, (), ("total+",)), "peek": Task(peek, ("total",), ("seen",)), '
        '"last": Task(last, ("seen", "total"), ("loss",))}',
    )
    ((loss, _),), _ = run_one(files)
    assert loss == 23.0


def test_new_buffers_take_effect_after_the_step():
    files = one_rank_files(
        "def count(ctx, steps):\n    return steps + 1, steps * 1.0\n",
        '[("count", ())]',
        '{"count": Task(count, ("steps",), ("steps_new", "loss"))}',
        BUFFERS=[{"key": ("steps", ()), "name": "steps", "slots": (), "box": ()}],
        NEW_BUFFERS=[(("steps_new", ()), ("steps", ()))],
        manifest={"buffers": {"steps": {"shape": [], "dtype": "int64"}}},
    )
    steps, executor = run_one(files, steps=3)
    assert [float(loss) for loss, _ in steps] == [0.0, 1.0, 2.0]
    assert executor.buffers["steps", ()] == 3


def test_results_reach_every_rank_from_their_owners():
    files = linear_program(2)
    files["manifest.json"] = files["manifest.json"].replace(
        '"metrics": {}', '"metrics": {"twice": 1}'
    )
    files["rank_1.py"] = files["rank_1.py"].replace(
        "'metrics': {}", "'metrics': {'twice': ('loss', ())}"
    )
    programs = load_ranks(files)

    def main(rank, communicator):
        make = OPTIMIZERS["sgd"]
        executor = RankExecutor(programs[rank], communicator, optimizer=make)
        executor.load_weights({"w": torch.ones(6, 4)})
        return executor.step(torch.ones(8, 6, dtype=torch.float64))

    for loss, metrics in run_ranks_in_threads(2, main):
        assert loss == 8 * 4 * 36
        assert metrics["twice"] == loss


def test_a_failing_task_names_itself_the_module_and_the_line():
    batch = torch.zeros(8, 6, dtype=torch.float64)
    files = linear_program(2)
    files["program_0.py"] = files["program_0.py"].replace(
        "dw = aten.mm.default(aten.t.default(x)", "dw = aten.mm.default(x"
    )
    with pytest.raises(TaskFailure) as caught:
        train(files, {"w": torch.zeros(6, 4)}, [batch])
    message = str(caught.value)
    assert "task backward_0 (0,), in linear, model.py:7, in forward" in message
    assert "dw = aten.mm.default(x, aten.mul.Tensor(y, 2))" in message
    assert "RuntimeError: mat1 and mat2" in message


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        (torch.zeros(7, 6), r"x has shape \[7, 6\], the program was compiled for \[8, 6\]"),
        (torch.zeros(8, 6), "x has dtype torch.float32, the program was compiled for torch.float6"),
        ([torch.zeros(8, 6)] * 2, "the batch has 2 tensors, the program was compiled for 1: x"),
        (3, "x is a int, expected a tensor"),
    ],
)
def test_a_batch_of_another_form_is_refused(batch, message):
    with pytest.raises(BatchError, match=message):
        train(linear_program(1), {"w": torch.zeros(6, 4)}, [batch])


def test_weights_of_another_model_are_refused():
    with pytest.raises(WeightsError, match="no weights were given for w"):
        train(linear_program(1), {"v": torch.zeros(6, 4)}, [])
    with pytest.raises(WeightsError, match=r"w has shape \[4, 4\], .* compiled for \[6, 4\]"):
        train(linear_program(1), {"w": torch.zeros(4, 4)}, [])


def test_a_read_of_what_is_not_there_is_refused_at_load():
    files = linear_program(1)
    files["program_0.py"] = files["program_0.py"].replace('reads=("dw",)', 'reads=("dv",)')
    with pytest.raises(ProgramError, match=r"task update_0 \(\) reads dv, which nothing"):
        train(files, {"w": torch.zeros(6, 4)}, [])


def test_the_step_needs_an_optimizer_only_for_updates():
    files = one_rank_files(
        "def f(ctx):\n    return (torch.ones(()),)\n",
        '[("f", ())]',
        '{"f": Task(f, (), ("loss",))}',
    )
    assert run_one(files)[0][0][0] == 1.0
