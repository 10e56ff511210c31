"""What all command lines share: an error is one line, and the exit code says whose fault it was."""

from __future__ import annotations

import subprocess
import sys

import pytest
import typer

from level1_pipeline.command_line import new_app, open_settings, run
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
