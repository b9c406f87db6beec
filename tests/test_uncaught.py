"""What a script shows of errors that it does not catch."""

from __future__ import annotations

import sys
from typing import Any

import pytest
import torch
from torch import nn

import superscaler as ss
from superscaler.parallelize import uncaught
from superscaler.parallelize.uncaught import show_uncaught


@pytest.fixture
def hook(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The hook, and a flag: whether another process tells of the error."""
    elsewhere = [False]
    monkeypatch.setattr(sys, "excepthook", sys.__excepthook__)
    show_uncaught(lambda message: elsewhere[0])
    return elsewhere


def shown(capsys: pytest.CaptureFixture[str], call: Any) -> str:
    try:
        call()
    except (ss.SuperScalerError, RuntimeError, KeyboardInterrupt) as error:
        sys.excepthook(type(error), error, error.__traceback__)
    return capsys.readouterr().err


def train(plan: str, step: Any) -> Any:
    decorated = ss.parallelize(plan, lambda p: torch.optim.SGD(p, lr=0.1), cache=None)(step)
    return lambda: decorated(nn.Linear(2, 2), torch.ones(2, 2))


def wrong(model: nn.Module, batch: torch.Tensor) -> torch.Tensor:
    return model(batch @ torch.ones(3, 3))


@pytest.mark.parametrize("plan", ["data_parallel(dp=1)", "data_parallel(dp=2)"])
def test_users_lines_and_the_message(
    plan: str, hook: list[bool], capsys: pytest.CaptureFixture[str]
) -> None:
    """Compiled, and as it is on one device."""
    text = shown(capsys, train(plan, wrong))
    assert "superscaler/" not in text
    assert "torch/" not in text
    assert "in wrong\n    return model(batch @ torch.ones(3, 3))\n" in text
    assert "RuntimeError: " in text.splitlines()[-1]


def test_errors_of_the_plan_show_the_call(
    hook: list[bool], capsys: pytest.CaptureFixture[str]
) -> None:
    text = shown(capsys, train("no_such(plan=1)", wrong))
    assert "in shown\n    call()\n" in text
    assert text.splitlines()[-1].startswith("error: ")


def test_what_another_process_tells_is_not_told_again(
    hook: list[bool], capsys: pytest.CaptureFixture[str]
) -> None:
    hook[0] = True
    assert shown(capsys, train("data_parallel(dp=1)", wrong)).count("Error") == 0


def test_faults_of_ours_are_shown_whole(
    hook: list[bool], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uncaught, "_user_frames", None)  # so that the hook itself fails
    with pytest.raises(TypeError):
        shown(capsys, train("no_such(plan=1)", wrong))


def test_interrupts_go_the_usual_way(hook: list[bool], capsys: pytest.CaptureFixture[str]) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    hook[0] = True
    assert shown(capsys, interrupt).endswith("KeyboardInterrupt\n")


def test_one_hook_for_all_steps(hook: list[bool]) -> None:
    before = sys.excepthook
    show_uncaught(lambda message: True)
    assert sys.excepthook is before
