"""Random plans of random models: each is refused with an error, or agrees with eager PyTorch.

    python tools/fuzz_plans.py --num 2000 --seed 0
    python tools/fuzz_plans.py --seed 0 --only 1234 --shrink     one plan again, made smaller

A plan is either data (`Plan`: stages, meshes, splits, microbatches, optimizer sharding) or a script
of op_trans, op_assign and op_order on random operators. Ranks are threads of this process; with
--gloo-every K every K-th accepted plan also runs on Gloo processes. Anything but a refusal or
agreement in float64 is a failure.
"""

from __future__ import annotations

import argparse
import logging
import pprint
import sys
import time
from collections.abc import Iterable, Iterator
from functools import cache
from multiprocessing import get_context
from pathlib import Path

import torch
from fuzzing.report import Summary
from fuzzing.shrink import shrink
from fuzzing.trial import FAILED, Outcome, Subject, attempt, plan_of, subject_of

NUM_MODELS = 40


def main() -> int:
    """Exit status 1 if a plan failed."""
    options = _options()
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)
    if options.only is not None:
        return _again(options)
    begin = time.perf_counter()
    summary = Summary()
    for outcome in _outcomes(options):
        summary.add(outcome)
        if outcome.verdict == FAILED:
            what = f"# {outcome.subject}, {outcome.why}"
            print(f"FAILED {_command(options, outcome)}  {what}", flush=True)
    text = summary.text(time.perf_counter() - begin)
    print(text)
    if options.report is not None:
        options.report.write_text(text + "\n")
    return int(summary.num_failed > 0)


def _command(options: argparse.Namespace, outcome: Outcome) -> str:
    """How to run one plan again."""
    command = f"python tools/fuzz_plans.py --seed {options.seed} --only {outcome.number}"
    command += f" --models {options.models}" if options.models != NUM_MODELS else ""
    return command + (
        " --gloo-every 1" if _is_on_processes(options.gloo_every, outcome.number) else ""
    )


def _is_on_processes(every: int, number: int) -> bool:
    return every > 0 and number % every == every - 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--num", type=int, default=200, help="how many plans")
    parser.add_argument("--first", type=int, default=0, help="the number of the first plan")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=1, help="processes to share the work")
    parser.add_argument("--models", type=int, default=NUM_MODELS, help="how many models")
    parser.add_argument("--gloo-every", type=int, default=0, metavar="K")
    parser.add_argument("--report", type=Path, help="write the summary to this file too")
    parser.add_argument("--only", type=int, metavar="NUMBER", help="run this plan only")
    parser.add_argument("--shrink", action="store_true", help="with --only: make a failure smaller")
    parser.add_argument("--verbose", action="store_true", help="with --only: print the graph")
    parser.add_argument("--save", type=Path, metavar="DIR", help="with --only: keep the program")
    return parser.parse_args()


def _outcomes(options: argparse.Namespace) -> Iterator[Outcome]:
    """The plans' outcomes, as they come; a worker takes all plans of a model."""
    numbers = range(options.first, options.first + options.num)
    chunks = [[n for n in numbers if n % options.models == m] for m in range(options.models)]
    work = [(options.seed, options.models, options.gloo_every, chunk) for chunk in chunks if chunk]
    if options.jobs == 1:
        for item in work:
            yield from _run_chunk(item)
        return
    with get_context("spawn").Pool(options.jobs, _start_worker) as pool:
        for found in pool.imap_unordered(_run_list, work):
            yield from found


def _start_worker() -> None:
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)


Work = tuple[int, int, int, Iterable[int]]


def _run_list(work: Work) -> list[Outcome]:
    return list(_run_chunk(work))


def _run_chunk(work: Work) -> Iterator[Outcome]:
    seed, models, gloo_every, numbers = work
    for number in numbers:
        subject = _subject(seed, number % models)
        on_processes = _is_on_processes(gloo_every, number)
        yield attempt(number, subject, plan_of(seed, number, subject), on_processes)


@cache
def _subject(seed: int, number: int) -> Subject:
    return subject_of(seed, number)


def _again(options: argparse.Namespace) -> int:
    """One plan again, with all there is to say about it."""
    subject = _subject(options.seed, options.only % options.models)
    plan = plan_of(options.seed, options.only, subject)
    on_processes = options.gloo_every > 0
    outcome = attempt(options.only, subject, plan, on_processes)
    if options.shrink and outcome.verdict == FAILED:

        def fails(smaller: object) -> bool:
            other = attempt(options.only, subject, smaller, on_processes)  # type: ignore[arg-type]
            return other.verdict == FAILED and other.why == outcome.why

        plan = shrink(plan, fails)
        outcome = attempt(options.only, subject, plan, on_processes)
    if options.verbose:
        _print_graph(subject)
    if options.save is not None:
        subject.compiled(plan).save(options.save)
    pprint.pprint(plan, width=110, compact=True)
    print(f"{outcome.verdict}: {outcome.why}\n{outcome.detail}")
    return int(outcome.verdict == FAILED)


def _print_graph(subject: Subject) -> None:
    graph, axes = subject.graph, subject.axes
    for op in graph.operators:
        own = axes.operators[op.id]
        iters = " ".join(
            f"{axes.axes[it.axis].name}={it.size}{'!' * it.frozen}" for it in own.iters
        )
        reads = ", ".join(graph.tensors[t].name for t in op.inputs)
        print(f"{op.id:4} {op.name} = {op.target}({reads})  [{iters}]")


if __name__ == "__main__":
    sys.exit(main())
