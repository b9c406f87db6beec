"""The decorator: one script under python and under torchrun, and what it refuses."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

import superscaler as ss
from superscaler.errors import ParallelizeError
from superscaler.parallelize import ParallelStep
from superscaler.parallelize.cache import Entry, content_key
from superscaler.runtime.failures import CheckpointError

README = Path(__file__).parents[1] / "README.md"


class Net(nn.Module):
    """Embedding, norm, dropout, and a head that shares the embedding's weight."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens = nn.Embedding(16, 8)
        self.fc1 = nn.Linear(8, 16)
        self.norm = nn.BatchNorm1d(16)
        self.dropout = nn.Dropout(0.2)
        self.fc2 = nn.Linear(16, 8)
        self.head = nn.Linear(8, 16, bias=False)
        self.head.weight = self.tokens.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.norm(self.fc1(self.tokens(x))))
        return self.head(self.fc2(self.dropout(x)))


def loss_and_accuracy(model: nn.Module, batch: dict[str, torch.Tensor]) -> object:
    logits = model(batch["x"])
    hits = logits.argmax(-1) == batch["y"]
    return nn.functional.cross_entropy(logits, batch["y"]), {"hits": hits.sum()}


def adamw(parameters: object) -> torch.optim.Optimizer:
    return torch.optim.AdamW(parameters, lr=1e-2)  # type: ignore[arg-type]


def make_net() -> Net:
    torch.manual_seed(0)
    return Net().double()


def make_batch(seed: int = 0, size: int = 8) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randint(16, (size,), generator=generator) for name in "xy"}


def decorated(plan: str = "hybrid()", **options: object) -> ParallelStep:
    options = {"cache": None} | options
    return ss.parallelize(plan=plan, optimizer=adamw, **options)(loss_and_accuracy)


def test_the_package_and_the_decorator() -> None:
    assert ss.parallelize.__name__ == "parallelize"
    assert decorated().__name__ == "loss_and_accuracy"


# one process


def test_one_device_and_plain_python_are_equal(capsys: pytest.CaptureFixture[str]) -> None:
    compiled = decorated("hybrid()", clip_grad_norm=0.5)
    eager = decorated("data_parallel(dp=2)", clip_grad_norm=0.5)
    models = make_net(), make_net()
    for seed in range(4):
        loss, metrics = compiled(models[0], make_batch(seed))
        other, others = eager(models[1], make_batch(seed))
        assert float(loss) == pytest.approx(float(other), rel=1e-12)
        assert (loss.dtype, metrics["hits"].dtype) == (torch.float64, torch.int64)
        assert torch.equal(metrics["hits"], others["hits"])
        assert float(compiled.grad_norm) == pytest.approx(float(eager.grad_norm), rel=1e-12)
    told = capsys.readouterr().err
    assert told.count("one process, so the step runs as it is, on one device") == 1
    for name, value in eager.state_dict().items():
        assert torch.allclose(value, compiled.state_dict()[name], rtol=0, atol=1e-9), name


def test_sync_fills_the_users_model() -> None:
    step, model, other = decorated(), make_net(), Net().double()
    step(model, make_batch())
    assert torch.equal(model.fc1.weight, make_net().fc1.weight)  # the ranks have their own
    step.sync(model)
    step.sync(other)
    assert not torch.equal(model.fc1.weight, make_net().fc1.weight)
    assert torch.equal(model.fc1.weight, other.fc1.weight)
    assert torch.equal(model.norm.running_mean, other.norm.running_mean)
    step(model, make_batch())  # a sync is no change of the user's


def test_the_real_optimizer_takes_schedulers() -> None:
    step, model = decorated(), make_net()
    step.prepare(model, make_batch())
    scheduler = torch.optim.lr_scheduler.LambdaLR(step.optimizer, lambda n: 0.5**n)
    step(model, make_batch())
    scheduler.step()
    assert step.optimizer.param_groups[0]["lr"] == 5e-3


def test_the_loss_alone() -> None:
    @ss.parallelize("hybrid()", adamw, cache=None)
    def step(model: nn.Module, batch: torch.Tensor) -> torch.Tensor:
        return model(batch).square().mean()

    model = nn.Linear(4, 4)
    first, second = (step(model, torch.ones(2, 4)) for _ in range(2))
    assert isinstance(first, torch.Tensor)
    assert first.dtype == torch.float32
    assert second < first


@pytest.mark.parametrize("plan", ["hybrid()", "data_parallel(dp=2)"])
def test_a_model_on_the_meta_device(plan: str) -> None:
    with torch.device("meta"):
        model = Net()
    step = decorated(plan, seed=3)
    loss, _ = step(model, make_batch())
    assert float(loss) == pytest.approx(3.6, abs=2)


def test_batches_are_drawn_as_without_the_decorator() -> None:
    """Compiling leaves the random state alone, or ranks would draw different batches."""
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    decorated()(make_net(), make_batch())
    assert not torch.equal(expected, torch.rand(3))  # make_net seeds
    for plan in ("hybrid()", "data_parallel(dp=2)"):
        step, model = decorated(plan), make_net()
        torch.manual_seed(7)
        step(model, make_batch())
        assert torch.equal(expected, torch.rand(3))


@pytest.mark.parametrize("plans", [("hybrid()", "zero(dp=2)"), ("zero(dp=2)", "hybrid()")])
def test_checkpoints_load_under_another_plan(tmp_path: Path, plans: tuple[str, str]) -> None:
    first, second = (decorated(plan) for plan in plans)
    model = make_net()
    first(model, make_batch(0))
    first.save(tmp_path / "checkpoint")
    expected, _ = first(model, make_batch(1))
    second.load(tmp_path / "checkpoint")  # kept for the first call
    found, _ = second(make_net(), make_batch(1))
    assert float(found) == pytest.approx(float(expected), rel=1e-12)
    first.load(tmp_path / "checkpoint")
    again, _ = first(model, make_batch(1))
    assert float(again) == pytest.approx(float(expected), rel=1e-12)


# what is refused


def test_before_the_first_call(tmp_path: Path) -> None:
    step = decorated()
    with pytest.raises(ParallelizeError, match=r"loss_and_accuracy.optimizer: nothing was compil"):
        _ = step.optimizer
    with pytest.raises(ParallelizeError, match=r"call loss_and_accuracy\(model, batch\), or"):
        step.save(tmp_path)
    step.load(tmp_path / "nothing")
    with pytest.raises(CheckpointError, match="holds no complete checkpoint"):
        step(make_net(), make_batch())


def test_a_model_that_changed() -> None:
    step, model = decorated(), make_net()
    step(model, make_batch())
    with pytest.raises(ParallelizeError, match="was compiled for another model"):
        step(make_net(), make_batch())
    model.eval()
    with pytest.raises(ParallelizeError, match=r"now it is in eval mode; call model.train\(\)"):
        step(model, make_batch())
    model.train()
    model.fc1.weight.requires_grad_(False)
    with pytest.raises(ParallelizeError, match=r"the model changed since .*: fc1.weight"):
        step(model, make_batch())
    model.fc1.weight.requires_grad_(True)
    with torch.no_grad():
        model.fc1.weight.zero_()
    with pytest.raises(
        ParallelizeError, match=r"weights were changed, .*: call .*\.sync\(model\) bef"
    ):
        step(model, make_batch())


def test_unequal_world_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "3")
    message = "the plan needs 2 devices, 3 processes were started; start the script with `torchrun"
    with pytest.raises(ParallelizeError, match=message):
        decorated("data_parallel(dp=2)")(make_net(), make_batch())


# the cache


def test_an_equal_program_is_compiled_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    decorated(cache=tmp_path)(make_net(), make_batch())
    decorated(cache=tmp_path)(make_net(), make_batch())
    told = capsys.readouterr().err.splitlines()
    assert f"compiled into {tmp_path}/loss_and_accuracy-" in told[0]
    assert "loss_and_accuracy.sync(model) copies them into the model" in told[1]
    assert f"found in the cache, {tmp_path}/loss_and_accuracy-" in told[2]
    decorated(cache=tmp_path, clip_grad_norm=1.0)(make_net(), make_batch())
    decorated(cache=tmp_path)(make_net(), make_batch(size=4))
    assert len(list(tmp_path.iterdir())) == 3


def damage_file(folder: Path) -> None:
    (folder / "rank_0.py").write_text("PROGRAM = 3\n")


def damage_by_removing(folder: Path) -> None:
    (folder / "program_0.py").unlink()


def damage_manifest(folder: Path) -> None:
    (folder / "manifest.json").write_text("{")


def damage_format(folder: Path) -> None:
    path = folder / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 0}))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (damage_file, "out of date: rank_0.py was changed or is missing"),
        (damage_by_removing, "out of date: program_0.py was changed or is missing"),
        (damage_manifest, "unreadable: .*manifest.json is not JSON"),
        (damage_format, "unreadable: .*manifest.json is of format 0, this version .* reads"),
    ],
)
def test_an_out_of_date_cache_is_compiled_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: object, message: str
) -> None:
    decorated(cache=tmp_path)(make_net(), make_batch())
    (folder,) = tmp_path.iterdir()
    damage(folder)  # type: ignore[operator]
    capsys.readouterr()
    decorated(cache=tmp_path)(make_net(), make_batch())
    assert re.search(rf"compiled again \(the cached program is {message}", capsys.readouterr().err)
    decorated(cache=tmp_path)(make_net(), make_batch())
    assert "found in the cache" in capsys.readouterr().err


def test_the_key_is_the_content() -> None:
    assert content_key("a", "b") == content_key("a", "b")
    assert content_key("a", "b") != content_key("ab", "")


def test_an_entry_of_another_key_is_out_of_date(tmp_path: Path) -> None:
    Entry(tmp_path / "program", "old").write({"manifest.json": json.dumps(SMALLEST)})
    assert Entry(tmp_path / "program", "old").damage() is None
    found = Entry(tmp_path / "program", "new").damage()
    assert found == "the cached program is out of date: it was compiled from something else"


SMALLEST = {"world_size": 1, "parameters": {}, "buffers": {}, "batch": {}, "results": {}}


# several processes

SCRIPT = """
import os, sys
sys.path.insert(0, {tests!r})
import torch
from test_parallelize import adamw, loss_and_accuracy, make_batch, make_net
import superscaler as ss

rank = int(os.environ.get("RANK", "0"))
plan, what = sys.argv[1:3]
out = open(f"out.{{rank}}", "w")
options = {{"clip_grad_norm": 0.5, "timeout": 10.0, "torch_compile": what == "compiled"}}
step = ss.parallelize(plan, adamw, **options)(loss_and_accuracy)
if what == "seeds":
    step(make_net(), make_batch(seed=rank))
if what == "no model":
    raise RuntimeError("of the model")
model = make_net()
if what == "step":
    step = ss.parallelize(plan, adamw)(lambda model, batch: model(batch["no such key"]))
if what == "load":
    step.load("checkpoint")
for number in range(3):
    loss, metrics = step(model, make_batch(number))
    print(f"{{loss:.9f}} {{metrics['hits']}} {{step.grad_norm:.9f}}", file=out, flush=True)
if what == "save":
    step.save("checkpoint")
if what == "own error" and rank == 1:
    raise ValueError("of the user")
if what == "another shape" and rank == 1:
    step(model, make_batch(size=4))
if what == "shapes":
    for size in (4, 8, 4):
        loss, metrics = step(model, make_batch(size=size))
        print(f"{{loss:.9f}} {{metrics['hits']}} {{step.grad_norm:.9f}}", file=out, flush=True)
loss, metrics = step(model, make_batch(3))
print(f"{{loss:.9f}} {{metrics['hits']}} {{step.grad_norm:.9f}}", file=out, flush=True)
step.sync(model)
total = sum(x.sum() for x in model.state_dict().values())
print(f"{{total:.9f}} {{len(step.state_dict())}}", file=out, flush=True)
if what == "compiled":
    from superscaler.runtime.runs import compiled_run
    print(compiled_run.cache_info().currsize, file=out)
"""


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "script.py"
    path.write_text(SCRIPT.format(tests=str(Path(__file__).parent)))
    return path


def run(
    script: Path, processes: int, plan: str, what: str = ""
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, script.name, plan, what]
    if processes > 1:
        torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
        command = [command[0], *torchrun, *command[1:]]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        command,
        cwd=script.parent,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def numbers(script: Path, processes: int, plan: str, what: str = "") -> list[list[str]]:
    """What each rank printed."""
    done = run(script, processes, plan, what)
    assert done.returncode == 0, done.stderr
    return [(script.parent / f"out.{rank}").read_text().split() for rank in range(processes)]


@pytest.mark.dist
def test_the_same_numbers_under_torchrun(script: Path) -> None:
    (expected,) = numbers(script, 1, "zero(dp=2, stage=3)")
    assert len(expected) == 14
    first, second = numbers(script, 2, "zero(dp=2, stage=3)")
    assert first == expected
    assert second == [*expected[:-1], "0"]  # the state dict is rank 0's
    assert numbers(script, 4, "hybrid(tp=2, pp=2)")[0] == expected


@pytest.mark.dist
def test_operators_are_compiled_where_that_was_asked_for(script: Path) -> None:
    (expected,) = numbers(script, 1, "megatron(tp=2)")
    *found, num_runs = numbers(script, 2, "megatron(tp=2)", "compiled")[0]
    assert [float(x) for x in found] == pytest.approx([float(x) for x in expected], rel=1e-6)
    assert int(num_runs) > 0


@pytest.mark.dist
@pytest.mark.parametrize("plan", ["zero(dp=2, stage=3)", "hybrid(pp=2, microbatches=2)"])
def test_several_shapes_under_torchrun(script: Path, plan: str) -> None:
    (expected,) = numbers(script, 1, plan, "shapes")
    first, second = numbers(script, 2, plan, "shapes")
    assert first == expected
    assert second == [*expected[:-1], "0"]


@pytest.mark.dist
def test_checkpoints_between_numbers_of_processes(script: Path) -> None:
    numbers(script, 2, "zero(dp=2, stage=3)", "save")
    (expected,) = numbers(script, 1, "megatron(tp=2)", "load")
    assert numbers(script, 2, "megatron(tp=2)", "load")[0] == expected


@pytest.mark.dist
@pytest.mark.parametrize(
    ("what", "rank", "message"),
    [
        ("no model", "", "RuntimeError: of the model"),
        ("step", 0, "error: the step raised KeyError: 'no such key' (at "),
        ("own error", 1, "ValueError: of the user"),
        ("another shape", 1, "error: rank 1 has a batch of another form (int64[4], int64[4]), and"),
        ("seeds", 1, "error: rank 1 has another batch than rank 0; every process must make the "),
    ],
)
def test_a_failure_ends_all_and_is_told_once(
    script: Path, what: str, rank: int | str, message: str
) -> None:
    done = run(script, 2, "data_parallel(dp=2)", what)
    assert done.returncode == 1
    told = [line for line in done.stderr.splitlines() if message in line]
    prefix = f"[rank{rank}]: " if isinstance(rank, int) else ""
    assert [line.startswith(prefix + message) for line in told] == [True], done.stderr
    assert done.stderr.count('script.py", line ') >= 1
    assert "superscaler/parallelize" not in done.stderr


@pytest.mark.dist
def test_the_readmes_first_program(tmp_path: Path) -> None:
    text = re.search(r"```python\n(# train.py.*?)```", README.read_text(), re.DOTALL)
    assert text is not None
    path = tmp_path / "train.py"
    path.write_text(text[1])
    alone, both = (run(path, count, "") for count in (1, 2))
    assert alone.returncode == both.returncode == 0, both.stderr
    expected = [float(x) for x in re.findall(r"step \d+ loss ([\d.]+)", alone.stdout)]
    found = [float(x) for x in re.findall(r"step \d+ loss ([\d.]+)", both.stdout)]
    assert len(expected) == 20
    assert sorted(found) == pytest.approx(sorted(expected * 2), rel=1e-4)
