"""What all command lines of the project share: the app, the settings, one line for an error, and the exit code."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated

import typer
from pydantic import ValidationError
from rich.console import Console

from level1_pipeline import problem
from level1_pipeline.errors import MLOpsError, SettingRefused
from level1_pipeline.settings import Settings

console = Console(highlight=False, soft_wrap=True)
Reason = Annotated[str, typer.Option(help="Why, for the audit log.")]
REFUSED, USAGE = 1, 2  # exit codes: the project's own errors, and a command line that nobody understands


def new_app(description: str) -> typer.Typer:
    """An empty command line. Its commands return their exit code, or None for 0."""
    return typer.Typer(
        help=description,
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )


def print_result(subject: str, message: str) -> None:
    """The last line of a command: what came out."""
    console.print(f"{subject} | {problem.NAME} | {message}", markup=False)


def open_settings() -> Settings:
    """The settings of the environment, with a home that exists.

    Raises:
        SettingRefused: a value is not possible; the message names each variable.
    """
    try:
        return Settings().prepare()
    except ValidationError as error:
        # A setting of a group has the variable that bears its own name: the last part of its place.
        lines = [f"MLOPS_{str(detail['loc'][-1]).upper()}: {detail['msg']}" for detail in error.errors()]
        raise SettingRefused(f"{'; '.join(lines)} (docs/settings.md lists all settings)") from error


def run(app: typer.Typer, program: str, arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; an error of the project becomes one line on standard error.

    Args:
        app: the command line.
        program: how a person starts it, for the help, as `python -m serving`.
        arguments: by default those of the process.
    """
    try:
        code = app(arguments, prog_name=program, standalone_mode=False)
    except MLOpsError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return REFUSED
    except typer.TyperException as error:  # the command line is wrong: say where, as Typer itself would
        print(f"{program}: {error.format_message()} (try --help)", file=sys.stderr)
        return USAGE
    return code if isinstance(code, int) else 0
