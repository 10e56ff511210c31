"""What all command lines of the project share: the app, the settings, one line for an error, and the exit code."""

from __future__ import annotations

import io
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.text import Text

from level1_pipeline import problem
from level1_pipeline.environment import as_text
from level1_pipeline.errors import DataCheckFailed, MLOpsError, SettingRefused
from level1_pipeline.settings import SECRETS, Settings

# Exit codes: the project's own errors, a command line that nobody understands, and data that cannot be used.
REFUSED, USAGE, BAD_DATA = 1, 2, 4
# Characters that a terminal obeys instead of showing them, those that turn the direction of a text, and halves of
# characters. A line break and a tab are harmless.
UNPRINTABLE = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    """A text of which a terminal shows each character: what it would obey is written as an escape, as in \\x1b."""
    return UNPRINTABLE.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


class LiteralConsole(Console):
    """Prints texts and cells of tables as they are. What people and data say is no markup, no emoji and no command."""

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, highlight=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        """The one place through which rich sends each plain text."""
        return super().render_str(printable(text), **options)


console = LiteralConsole(soft_wrap=True)


def _as_text(reason: str) -> str:
    """Of a reason that goes not only into the audit log: orders and tickets hold it, too."""
    return reason and as_text(reason)


Reason = Annotated[str, typer.Option(help="Why, for the audit log.", callback=_as_text)]


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
    console.print(f"{subject} | {getattr(problem, 'NAME', '?')} | {message}".replace("\n", "\\n"))


def open_settings() -> Settings:
    """The settings of the environment, with a home that exists.

    Raises:
        SettingRefused: a value is not possible; the message names each variable.
    """
    try:
        settings = Settings()
    except ValidationError as error:
        # A setting of a group has the variable that bears its own name: the last part of its place.
        lines = [f"MLOPS_{str(detail['loc'][-1]).upper()}: {detail['msg']}" for detail in error.errors()]
        raise SettingRefused(f"{'; '.join(lines)} (docs/settings.md lists all settings)") from error
    except (OSError, UnicodeError) as error:
        raise SettingRefused(
            f"the file .env in {Path.cwd()}, or one in {SECRETS}, cannot be read as text in UTF-8: {error}"
        ) from error
    try:
        return settings.prepare()
    except OSError as error:
        raise SettingRefused(f"MLOPS_HOME: the folder {settings.home} cannot be made: {error.strerror}") from error


def _database_errors() -> tuple[type[Exception], ...]:
    """What SQLAlchemy raises when a database cannot be used, if it was imported at all."""
    errors = sys.modules.get("sqlalchemy.exc")
    return (errors.OperationalError,) if errors else ()


def run(app: typer.Typer, program: str, arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; an error of the project becomes one line on standard error.

    Args:
        app: the command line.
        program: how a person starts it, for the help, as `python -m serving`.
        arguments: by default those of the process.
    """
    os.environ.pop("PROMETHEUS_MULTIPROC_DIR", None)  # of another program; the service gives its workers their own
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # what a terminal's encoding lacks must not end a command
            stream.reconfigure(errors="backslashreplace")
    try:
        code = app(arguments, prog_name=program, standalone_mode=False)
    except MLOpsError as error:
        print(printable(f"{type(error).__name__}: {error}"), file=sys.stderr)
        return exit_code(error)
    except typer.TyperException as error:  # the command line is wrong: say where, as Typer itself would
        print(printable(f"{program}: {error.format_message()} (try --help)"), file=sys.stderr)
        return USAGE
    except Exception as error:
        if not isinstance(error, (OSError, *_database_errors())):
            raise
        # A disk or a database: a traceback would explain nothing.
        what = str(getattr(error, "orig", error)).strip().partition("\n")[0]
        todo = "is MLOPS_HOME writable, is the disk full, is the database locked or away? then try again"
        print(printable(f"{type(error).__name__}: {what}; {todo}"), file=sys.stderr)
        return REFUSED
    return code if isinstance(code, int) else 0


def exit_code(error: MLOpsError) -> int:
    """How a command ends that such an error has ended."""
    return BAD_DATA if isinstance(error, DataCheckFailed) else REFUSED
