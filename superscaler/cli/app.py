"""The application: its commands, and how errors reach the user."""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperGroup

from superscaler.cli.axes import axes
from superscaler.cli.compile import compile_command
from superscaler.cli.launch import PASS_THROUGH, launch
from superscaler.cli.output import print_error
from superscaler.cli.profile import profile
from superscaler.cli.show import show
from superscaler.cli.simulate import simulate
from superscaler.cli.trace import trace
from superscaler.cli.verify import verify
from superscaler.cli.view import view
from superscaler.errors import SuperScalerError

USER_ERROR = 2


class _Group(TyperGroup):
    """Commands whose errors, where they are the user's to mend, end in one line and exit code 2.

    Those are errors of ours, and files that the system cannot read or write.
    """

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except SuperScalerError as error:
            print_error(error)
            raise typer.Exit(USER_ERROR) from error
        except OSError as error:
            if error.filename is None:
                raise
            what = f"{error.filename}: {error.strerror}; name a file or folder that can be used"
            print_error(SuperScalerError(what))
            raise typer.Exit(USER_ERROR) from error


app = typer.Typer(
    cls=_Group,
    name="superscaler",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help=(
        "Compile a PyTorch training step and a parallelization plan into code for every rank, "
        "verify it, and run it.\n\n"
        "A [b]workload[/] is FILE.py:callable; the callable returns superscaler.Workload. A "
        "[b]plan[/] is a YAML file, the name of one that ships, or a policy call such as "
        "'zero(dp=2, stage=3)'."
    ),
)
app.command()(trace)
app.command()(axes)
app.command("compile")(compile_command)
app.command()(verify)
app.command(context_settings=PASS_THROUGH)(launch)
app.command()(show)
app.command()(simulate)
app.command()(view)
app.command()(profile)


def main() -> None:
    """The entry point `superscaler`."""
    app(prog_name="superscaler")
