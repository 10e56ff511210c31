"""What all command lines share: an error is one line, and the exit code says whose fault it was."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from rich.table import Table

from level1_pipeline.command_line import LiteralConsole, Reason, new_app, open_settings, print_result, run
from level1_pipeline.errors import NotFound
from level1_pipeline.settings import Settings
from tests.support import ROOT


@pytest.fixture
def app() -> typer.Typer:
    app = new_app("A command line of a test.")

    @app.command()
    def score(number: int) -> int:
        """Give a number back.

        Example: score 3
        """
        if number > 100:
            raise NotFound("there is no such number: take a smaller one")
        return number

    @app.command()
    def show() -> None:
        """Say nothing."""
        open_settings()

    @app.command()
    def tell(reason: Reason) -> None:
        """Give words back."""
        print_result("test", reason)

    return app


def test_a_commands_exit_code_is_what_it_returns(app: typer.Typer, home: Settings) -> None:
    assert run(app, "test", ["score", "3"]) == 3
    assert run(app, "test", ["show"]) == 0


def test_an_error_of_the_project_is_one_line_and_exit_code_1(
    app: typer.Typer, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(app, "test", ["score", "101"]) == 1
    assert capsys.readouterr().err == "NotFound: there is no such number: take a smaller one\n"


@pytest.mark.parametrize("arguments", [["score", "three"], ["score"], ["score", "3", "--no"], ["shcore"]], ids=" ".join)
def test_a_wrong_command_line_is_one_line_and_exit_code_2(
    app: typer.Typer, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(app, "test", arguments) == 2
    assert capsys.readouterr().err.startswith("test: ")


@pytest.mark.parametrize(
    ("variable", "value"), [("MLOPS_CANARY_HOURS", "-1"), ("MLOPS_CLOCK", "noon"), ("MLOPS_APPROVALS", "nobody")]
)
def test_a_setting_that_is_not_possible_is_one_line_that_names_its_variable(
    app: typer.Typer,
    home: Settings,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    variable: str,
    value: str,
) -> None:
    monkeypatch.setenv(variable, value)
    assert run(app, "test", ["show"]) == 1
    line = capsys.readouterr().err
    assert line.startswith(f"SettingRefused: {variable}: ")
    assert line.count("\n") == 1


@pytest.mark.parametrize("file", [b"MLOPS_ACTOR=\xff\xfe", b"MLOPS_LEASE_SECONDS=soon", b"MLOPS_HOME=a/file"])
def test_a_bad_file_of_settings_is_one_line(
    app: typer.Typer, home: Settings, capsys: pytest.CaptureFixture[str], file: bytes
) -> None:
    Path("a").write_text("no folder")
    Path(".env").write_bytes(file)
    assert run(app, "test", ["show"]) == 1
    line = capsys.readouterr().err
    assert line.startswith("SettingRefused: ")
    assert line.count("\n") == 1


def test_a_home_of_nobody_is_one_line(
    app: typer.Typer, home: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLOPS_HOME", "~nobody-of-this-name/state")
    assert run(app, "test", ["show"]) == 1
    assert "write the whole path" in capsys.readouterr().err


def test_help_is_no_error(app: typer.Typer, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(app, "test", ["--help"]) == 0
    assert "A command line of a test." in capsys.readouterr().out
    run(app, "test", ["score", "--help"])
    assert "Example: score 3" in capsys.readouterr().out


@pytest.mark.integration
def test_the_help_of_level_1_waits_for_no_large_library() -> None:
    look = (
        "import sys; from level1_pipeline.cli import main; main(['train', '--help'])\n"
        "large = {'mlflow', 'prefect', 'sklearn', 'pandas', 'great_expectations', 'sqlalchemy'} & set(sys.modules)\n"
        "assert not large, large"
    )
    done = subprocess.run([sys.executable, "-c", look], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Example: python -m level1_pipeline train" in done.stdout


WORDS = [
    "see [hotfix] and [/predict]",
    "[bold]x[/bold] [/]",
    ":warning: :name:",
    "$5 \"no\" & 'yes' <b>",
    "→ é 漢 🚀",
    "100 % \\",
]


@pytest.mark.parametrize("message", WORDS)
def test_what_people_say_is_printed_as_it_is(
    message: str, app: typer.Typer, capsys: pytest.CaptureFixture[str]
) -> None:
    file = io.StringIO()
    table = Table(message, title=message)
    table.add_row(message)
    console = LiteralConsole(file=file, width=200)
    console.print(table)
    console.print(message)
    assert file.getvalue().count(message) == 4
    assert run(app, "test", ["tell", "--reason", message]) == 0
    assert capsys.readouterr().out.endswith(f" | {message}\n")


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("\x1b[2J\x07", "\\x1b[2J\\x07"),
        ("a\u202eb\r\x9b", "a\\u202eb\\r\\x9b"),
        ("\udcff", "\\udcff"),
        ("a\nb", "a\\nb"),
    ],
)
def test_what_a_terminal_would_obey_is_shown_instead(
    message: str, shown: str, app: typer.Typer, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(app, "test", ["tell", "--reason", message]) == 0
    assert capsys.readouterr().out.endswith(f" | {shown}\n")


@pytest.mark.integration
@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "cp437", "utf-16"])
def test_no_encoding_of_the_terminal_ends_a_command(encoding: str) -> None:
    code = (
        "import sys; from level1_pipeline import command_line as c; from rich.table import Table\n"
        "app = c.new_app('Words.')\n"
        "@app.command()\n"
        "def tell(reason: c.Reason):\n"
        "    table = Table('→', title='漢 🚀'); table.add_row(reason); c.console.print(table); print(reason)\n"
        "    with c.console.status('…'): raise c.MLOpsError(reason)\n"
        "sys.exit(c.run(app, 'test'))"
    )
    command = [sys.executable, "-c", code, "--reason", "→ ✓ 漢 🚀"]
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, check=False)
    assert done.returncode == 1, done.stderr
    assert "MLOpsError: " in done.stderr.decode(encoding)


def test_everything_is_printed_by_the_console_that_takes_no_markup() -> None:
    packages = ("level1_pipeline", "serving", "monitoring", "level2_cicd")
    modules = {path: path.read_text() for package in packages for path in (ROOT / package).rglob("*.py")}
    others = [
        str(path) for path, text in modules.items() if re.search(r"(?<!Literal)Console\(|rich import print", text)
    ]
    assert others == []
    assert not [str(path) for path, text in modules.items() if "markup=True" in text or "from_markup" in text]
