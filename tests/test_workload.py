"""Loading a workload file: what is accepted, and the message for everything that is not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

import superscaler as ss
from superscaler.errors import WorkloadError
from superscaler.runtime.failures import BatchError
from superscaler.runtime.train import batches
from superscaler.workload import Workload, cast, load_workload

FILE = """
from typing import Literal
import torch
import superscaler as ss

def step(model, batch):
    return model(batch).float().square().mean()

def workload(size: int = 4, lr=0.1, bias: bool = True, clip: float | None = None,
             act: Literal["relu", "gelu"] = "relu", dtype: torch.dtype = torch.float32, name="x"):
    seen.update(locals())
    model = torch.nn.Linear(size, size, bias=bias).to(dtype)
    return ss.Workload(step=step, model=model, optimizer=lambda p: torch.optim.SGD(p, lr=lr),
                       batch=torch.ones(2, size, dtype=dtype), clip_grad_norm=clip)

def needs(size: int):
    return workload(size)

def anything(**settings):
    seen.update(settings)
    return workload()

def wrong():
    return 3

def failing():
    return torch.ones(2) @ torch.ones(3)

seen = {}
not_callable = 3
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "models.py"
    path.write_text(FILE)
    return path


def settings_seen(workload: Workload) -> dict[str, object]:
    return workload.step.__globals__["seen"]


def test_defaults(file: Path) -> None:
    workload = load_workload(f"{file}:workload")
    assert workload.model.weight.shape == (4, 4)
    assert (workload.clip_grad_norm, workload.data, workload.init, workload.seed) == (None,) * 3 + (
        0,
    )


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("size", "8", 8),
        ("lr", "1e-3", 1e-3),
        ("bias", "no", False),
        ("bias", "TRUE", True),
        ("clip", "2", 2.0),
        ("clip", "none", None),
        ("act", "gelu", "gelu"),
        ("dtype", "float64", torch.float64),
        ("name", "3", "3"),
        ("size", 6, 6),
    ],
)
def test_settings_take_the_parameters_type(file: Path, key: str, text: str, value: object) -> None:
    seen = settings_seen(load_workload(f"{file}:workload", {key: text}))
    assert seen[key] == value
    assert type(seen[key]) is type(value)


def test_settings_without_a_parameter_are_guessed(file: Path) -> None:
    texts = {"a": "3", "b": "0.5", "c": "yes", "d": "none", "e": "adam"}
    seen = settings_seen(load_workload(f"{file}:anything", texts))
    assert [seen[key] for key in "abcde"] == [3, 0.5, True, None, "adam"]


def test_files_beside_it_can_be_imported(tmp_path: Path) -> None:
    (tmp_path / "sibling_of_a_workload.py").write_text(FILE)
    (tmp_path / "main.py").write_text("from sibling_of_a_workload import workload\n")
    assert isinstance(load_workload(f"{tmp_path / 'main.py'}:workload"), Workload)


def test_an_edited_file_is_read_again(file: Path) -> None:
    load_workload(f"{file}:workload")
    file.write_text(FILE.replace("size: int = 4", "size: int = 6"))
    assert load_workload(f"{file}:workload").model.weight.shape == (6, 6)


@pytest.mark.parametrize(
    ("suffix", "settings", "message"),
    [
        ("", {}, r"no callable is named; write FILE.py:callable, such as examples/gpt.py:workload"),
        (":", {}, r"no callable is named"),
        (
            ":missing",
            {},
            r"models.py: it has no callable 'missing'; "
            r"its functions: anything, failing, needs, step, workload, wrong",
        ),
        (":not_callable", {}, r"it has no callable 'not_callable'"),
        (
            ":workload",
            {"sise": "3"},
            r"models.py:workload': it has no setting 'sise'; "
            r"its settings: size, lr, bias, clip, act, dtype, name",
        ),
        (":wrong", {"size": "3"}, r"it has no setting 'size'; it takes none"),
        (":needs", {}, r"no value for size; give --set size=VALUE"),
        (
            ":workload",
            {"size": "big"},
            r"setting 'size' takes int, not 'big'; write --set size=4",
        ),
        (":workload", {"bias": "maybe"}, r"setting 'bias' takes bool, not 'maybe'"),
        (":workload", {"clip": "x"}, r"setting 'clip' takes None or float, not 'x'"),
        (":workload", {"act": "tanh"}, r"setting 'act' takes 'relu' or 'gelu', not 'tanh'"),
        (":workload", {"dtype": "float65"}, r"setting 'dtype' takes dtype, not 'float65'"),
        (":wrong", {}, r"the callable returned int; return superscaler.Workload\(step="),
        (
            ":failing",
            {},
            r"the callable raised RuntimeError: .*\(at .*models.py:27: "
            r"return torch.ones\(2\) @ torch.ones\(3\)\)",
        ),
    ],
)
def test_messages(file: Path, suffix: str, settings: dict[str, str], message: str) -> None:
    with pytest.raises(WorkloadError, match=message):
        load_workload(f"{file}{suffix}", settings)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("step", None, "expected a callable step(model, batch) as step, found None"),
        ("model", "gpt", "expected a torch.nn.Module as model, found 'gpt'"),
        ("optimizer", None, "as optimizer, found None"),
        (
            "optimizer",
            "adamw",
            "expected a callable from parameters to an optimizer, such as lambda p: "
            "torch.optim.AdamW(p, lr=1e-3), as optimizer, found 'adamw'",
        ),
        ("data", [1], "expected a callable that gives batches as data, found [1]"),
        ("clip_grad_norm", "1", "expected a number above 0, or None as clip_grad_norm, found '1'"),
        ("clip_grad_norm", -1.0, "as clip_grad_norm, found -1.0"),
        ("init", 3, "expected a callable of the module, or a checkpoint's path as init, found 3"),
        ("seed", 0.5, "expected a whole number as seed, found 0.5"),
    ],
)
def test_fields_of_another_kind(file: Path, field: str, value: object, message: str) -> None:
    workload = load_workload(f"{file}:workload")
    with pytest.raises(WorkloadError) as caught:
        replace(workload, **{field: value})  # type: ignore[arg-type]
    assert message in str(caught.value)


def _one_batch_then_an_error() -> Iterator[torch.Tensor]:
    yield torch.ones(2, 4)
    raise OSError("the disk is gone")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (lambda: 5, r"the workload's data\(\) gave 5; give an iterable of batches, or yield them"),
        (list, r"the workload's data\(\) gave no batch; give at least one"),
        (
            lambda: 1 / 0,
            r"data\(\) raised ZeroDivisionError: division by zero \(at .*: lambda: 1 / 0,\)",
        ),
        (_one_batch_then_an_error, r"raised OSError: the disk is gone \(at .*: raise OSError"),
    ],
)
def test_data_that_gives_no_batches(file: Path, data: Any, message: str) -> None:
    workload = replace(load_workload(f"{file}:workload"), data=data)
    with pytest.raises(BatchError, match=message):
        list(islice(batches(workload), 2))


def test_message_of_a_missing_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(WorkloadError, match=f"there is no file gpt.py in {tmp_path}; check"):
        load_workload("gpt.py:workload")
    with pytest.raises(WorkloadError, match="is a folder; name a Python file in it"):
        load_workload(f"{tmp_path}:workload")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "import missing_package",
            r"ModuleNotFoundError: No .*models.py:2: import missing_package",
        ),
        ("1 / 0", r"raised ZeroDivisionError: division by zero \(at .*models.py:2: 1 / 0\)"),
        ("def f(:", r"raised SyntaxError: .*\(at .*models.py:2: def f\(:\)"),
    ],
)
def test_message_of_a_file_that_raises(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "models.py"
    path.write_text(f"import torch\n{line}\n")
    with pytest.raises(WorkloadError, match=message):
        load_workload(f"{path}:workload")


def test_message_of_another_file_type(tmp_path: Path) -> None:
    path = tmp_path / "models.txt"
    path.write_text(FILE)
    with pytest.raises(WorkloadError, match=r"not a Python file; its name must end in \.py"):
        load_workload(f"{path}:workload")


def test_an_interrupt_stays_one(tmp_path: Path) -> None:
    path = tmp_path / "models.py"
    path.write_text("raise KeyboardInterrupt\n")
    with pytest.raises(KeyboardInterrupt):
        load_workload(f"{path}:workload")


def test_cast_copies_the_model_and_casts_everything(file: Path) -> None:
    workload = load_workload(f"{file}:workload")
    wide = cast(workload, torch.float64)
    assert workload.model.weight.dtype == torch.float32
    assert {p.dtype for p in wide.model.parameters()} == {torch.float64}
    loss = wide.step(wide.model, wide.batch)
    assert loss.dtype == torch.float64  # although the step says .float()
    assert torch.get_default_dtype() == torch.float32


def test_cast_casts_further_batches_but_no_integers() -> None:
    def data() -> list[dict[str, torch.Tensor]]:
        return [{"x": torch.ones(2), "ids": torch.ones(2, dtype=torch.long)}]

    workload = Workload(
        step=lambda model, batch: model(batch["x"]).sum(),
        model=torch.nn.Linear(2, 2),
        optimizer=lambda p: torch.optim.SGD(p, lr=0.1),
        batch=data()[0],
        data=data,
    )
    wide = cast(workload, torch.float64)
    assert wide.data is not None
    assert [{k: x.dtype for k, x in batch.items()} for batch in wide.data()] == [
        {"x": torch.float64, "ids": torch.long}
    ]


class Pair(NamedTuple):
    x: torch.Tensor
    y: torch.Tensor


def test_a_batch_that_is_a_named_tuple() -> None:
    workload = ss.Workload(
        step=lambda model, batch: (model(batch.x) - batch.y).square().mean(),
        model=torch.nn.Linear(4, 4),
        optimizer=torch.optim.SGD,
        batch=Pair(torch.randn(4, 4), torch.randn(4, 4)),
    )
    assert ss.verify(workload, "data_parallel(dp=2)", processes=False).ok


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_a_model_with_an_attribute_that_has_a_gradient_history() -> None:
    workload = ss.Workload(
        step=lambda model, x: model(x).square().mean(),
        model=torch.nn.utils.weight_norm(torch.nn.Linear(4, 4)),
        optimizer=torch.optim.SGD,
        batch=torch.randn(4, 4),
    )
    assert ss.verify(workload, "data_parallel(dp=2)", processes=False).ok
