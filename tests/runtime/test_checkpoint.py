"""Checkpoints saved under one layout load under another; gathering."""

import pytest
import torch
from emitted import linear_program, linear_reference, train

from superscaler.runtime import RankExecutor, load_ranks, run_ranks_in_threads
from superscaler.runtime.checkpoint import latest_checkpoint, load_checkpoint, save_checkpoint
from superscaler.runtime.failures import CheckpointError
from superscaler.runtime.layout import full_state_dict


def make(parameters):
    return torch.optim.AdamW(parameters, lr=0.1)


def batches(num):
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(8, 6, dtype=torch.float64, generator=generator) for _ in range(num)]


W = torch.randn(6, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("before", "after"), [((2, 1), (3, 2)), ((3, 2), (1, 1)), ((1, 2), (2, 1))]
)
def test_training_goes_on_under_another_layout(tmp_path, before, after):
    data = batches(4)
    losses, _, weight = linear_reference(W, data, make)
    _, executors = train(linear_program(*before), {"w": W}, data[:2], make)
    save_checkpoint(executors, tmp_path / "step-2")
    programs = load_ranks(linear_program(*after))

    def main(rank, communicator):
        executor = RankExecutor(programs[rank], communicator, optimizer=make)
        load_checkpoint(executor, latest_checkpoint(tmp_path))
        assert executor.step_number == 2
        got = [float(executor.step(batch)[0]) for batch in data[2:]]
        return got, full_state_dict(executor)

    for rank, (got, state) in enumerate(run_ranks_in_threads(len(programs), main)):
        assert got == pytest.approx(losses[2:], rel=1e-12)
        if rank == 0:
            torch.testing.assert_close(state["w"], weight)
        else:
            assert state == {}


def test_options_of_the_optimizer_are_restored(tmp_path):
    _, executors = train(linear_program(2), {"w": W}, batches(1), make)
    for executor in executors:
        executor.optimizer.param_groups[0]["lr"] = 0.5
    save_checkpoint(executors, tmp_path)

    def load(executor):
        load_checkpoint(executor, tmp_path)
        return executor.optimizer.param_groups[0]["lr"]

    assert train(linear_program(1), {"w": W}, [], make, after=load)[1] == [0.5]


def test_strided_and_overlapping_parts_are_stored_once(tmp_path):
    """Rank 0 holds every second pair of rows, rank 1 all: rank 1 stores what rank 0 has not."""
    files = linear_program(1, 2)
    strided = {"slots": ((3, 2), (4,)), "box": (((0, 3), (0, 1)), ((0, 4),))}
    entry = "'slots': ((6,), (4,)), 'box': (((0, 6),), ((0, 4),))"
    assert entry in files["rank_0.py"]
    files["rank_0.py"] = files["rank_0.py"].replace(entry, repr(strided)[1:-1])
    layout = f"[0, {list(strided['slots'])}, {list(strided['box'])}]"
    layout = layout.replace("(", "[").replace(")", "]").replace(",]", "]")
    files["manifest.json"] = files["manifest.json"].replace(
        '"w": [[0, [[6], [4]]', f'"w": [{layout}, [1, [[6], [4]]'
    )
    _, executors = train(files, {"w": W}, [])
    save_checkpoint(executors, tmp_path)

    def load(executor):
        load_checkpoint(executor, tmp_path)
        return executor.parameters["w", ()].detach()

    (loaded,) = train(linear_program(1), {"w": torch.zeros(6, 4)}, [], after=load)[1]
    assert torch.equal(loaded, W)
    zeros = {"w": torch.zeros(6, 4)}
    part, whole = train(files, zeros, [], after=load)[1]
    assert torch.equal(part, W.reshape(3, 2, 4)[:, 0])
    assert torch.equal(whole, W)


def test_checkpoints_that_do_not_fit_are_refused(tmp_path):
    def load(executor):
        load_checkpoint(executor, tmp_path)

    with pytest.raises(CheckpointError, match="holds no complete checkpoint"):
        train(linear_program(1), {"w": W}, [], after=load)
    small = linear_program(1, inner=3)
    _, executors = train(small, {"w": W[:3]}, [], make)
    save_checkpoint(executors, tmp_path)
    message = r"model.w has shape \[3, 4\], the program was compiled for \[6, 4\]"
    with pytest.raises(CheckpointError, match=message):
        train(linear_program(1), {"w": W}, [], make, after=load)


def test_no_checkpoint_yet(tmp_path):
    assert latest_checkpoint(tmp_path) is None
