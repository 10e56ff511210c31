"""Settings: from the environment, frozen, with messages that say what to write; and the clock."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from level1_pipeline.environment import QUIET
from level1_pipeline.policies import GROUPS
from level1_pipeline.settings import Settings
from level1_pipeline.store import clock
from level1_pipeline.store.database import Store


@pytest.mark.parametrize("name", list(Settings.model_fields))
def test_a_setting_cannot_be_changed_once_built(home: Settings, name: str) -> None:
    with pytest.raises(ValidationError, match="frozen"):
        setattr(home, name, getattr(home, name))


def test_every_setting_says_what_it_is_for() -> None:
    assert all(field.description for field in Settings.model_fields.values())


def test_settings_come_from_the_environment_with_our_prefix_only(
    home: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLOPS_LEASE_SECONDS", "7.5")
    monkeypatch.setenv("LEASE_SECONDS", "9")
    monkeypatch.setenv("ACTOR", "somebody")
    settings = Settings()
    assert (settings.lease_seconds, settings.actor) == (7.5, "")


def test_settings_come_from_a_dot_env_file_and_the_environment_wins(
    home: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path(".env").write_text("MLOPS_ACTOR=file\nMLOPS_LEASE_SECONDS=5\nSOMETHING_ELSE=1\n")
    monkeypatch.setenv("MLOPS_ACTOR", "environment")
    settings = Settings()
    assert (settings.actor, settings.lease_seconds) == ("environment", 5)


@pytest.mark.parametrize("given", [None, "state", "./a/../state"])
def test_a_relative_home_becomes_absolute_and_survives_a_change_of_folder(
    home: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, given: str | None
) -> None:
    settings = Settings(home=Path(given)) if given else Settings()
    monkeypatch.chdir("/")
    assert settings.home == tmp_path.resolve() / ("state" if given else ".mlops")
    assert settings.operations == f"sqlite:///{settings.home}/operations.db"
    assert settings.tracking == f"sqlite:///{settings.home}/mlflow.db"


def test_a_tilde_is_the_users_folder(home: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert Settings(home=Path("~/state")).home == tmp_path.resolve() / "state"


def test_databases_elsewhere_are_used_as_given(home: Settings) -> None:
    settings = Settings(store_uri="postgresql+psycopg://host/ops", tracking_uri="http://127.0.0.1:5000")
    assert (settings.operations, settings.tracking) == ("postgresql+psycopg://host/ops", "http://127.0.0.1:5000")


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "soon"])
def test_a_lease_without_a_positive_duration_is_refused(
    home: Settings, monkeypatch: pytest.MonkeyPatch, seconds: str
) -> None:
    monkeypatch.setenv("MLOPS_LEASE_SECONDS", seconds)
    with pytest.raises(ValidationError, match="lease_seconds"):
        Settings()


@pytest.mark.parametrize("clock", ["2013-04-01", "2013-04-01T00:00:00"])
def test_a_clock_without_an_offset_is_refused_with_an_example(home: Settings, clock: str) -> None:
    with pytest.raises(
        ValidationError,
        match=r"no time with a UTC offset; write for example 2013-04-01T00:00:00-04:00, 'wall' or 'replay'",
    ):
        Settings(clock=clock)


@pytest.mark.parametrize("clock", ["", "yesterday", "Wall"])
def test_a_clock_that_is_no_time_is_refused(home: Settings, clock: str) -> None:
    with pytest.raises(ValidationError, match="clock"):
        Settings(clock=clock)


@pytest.mark.parametrize("clock", ["", "yesterday", "Wall"])
def test_the_message_about_a_clock_that_is_no_time_says_what_to_write(home: Settings, clock: str) -> None:
    with pytest.raises(ValidationError, match="'wall' or 'replay'"):
        Settings(clock=clock)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        (
            "triggers",
            "monitoring, new_data",
            "'new_data' is not known; possible are monitoring, staleness, new data, schedule",
        ),
        ("triggers", "all", "'all' is not known; possible are monitoring, staleness, new data, schedule"),
        ("approvals", "cannary", "'cannary' is not known; possible are shadow, canary, bake, champion, all"),
        ("approvals", "canary champion", "'canary champion' is not known"),
        *[
            ("canary_shares", shares, "write for example 0.25,0.5")
            for shares in ("0", "1", "0.5,0.25", "0.25,0.25", "0.05,,0.5", "a half", "nan", "5%")
        ],
    ],
)
def test_a_list_that_names_what_there_is_not_is_refused_with_what_is_possible(
    home: Settings, monkeypatch: pytest.MonkeyPatch, name: str, value: str, message: str
) -> None:
    monkeypatch.setenv(f"MLOPS_{name.upper()}", value)
    with pytest.raises(ValidationError, match=f"(?s){name}.*{message}"):
        Settings()


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("triggers", "monitoring, new data,schedule", {"monitoring", "new data", "schedule"}),
        ("triggers", "", set()),
        ("approvals", "all", {"shadow", "canary", "bake", "champion"}),
        ("approvals", " champion, canary ", {"champion", "canary"}),
        ("canary_shares", "0.5", (0.5,)),
        ("canary_shares", "0.05, 0.25", (0.05, 0.25)),
    ],
)
def test_a_list_of_what_is_possible_is_kept(
    home: Settings, monkeypatch: pytest.MonkeyPatch, name: str, text: str, value: Any
) -> None:
    monkeypatch.setenv(f"MLOPS_{name.upper()}", text)
    kept = [getattr(getattr(Settings(), group), name) for group, kind in GROUPS.items() if name in kind.model_fields]
    assert kept == [value]


def test_another_process_gets_the_same_settings_from_the_environment(
    home: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = home.changed({"approvals": "all", "canary_shares": "0.25,0.5", "triggers": "", "max_rows": 7})
    for name, value in settings.environment().items():
        monkeypatch.setenv(name, value)
    assert Settings() == settings


def test_the_groups_take_nothing_from_variables_that_bear_their_names(
    home: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    for group in GROUPS:
        monkeypatch.setenv(f"MLOPS_{group.upper()}", "of another tool")
    assert [getattr(Settings(), group) for group in GROUPS] == [getattr(home, group) for group in GROUPS]


def test_a_fixed_clock_stands_still_and_speaks_utc(home: Settings) -> None:
    settings = Settings(clock="2013-04-01T00:00:00-04:00")
    assert clock.now(settings) == clock.now(settings) == datetime(2013, 4, 1, 4, tzinfo=UTC)
    assert clock.now(settings).tzinfo is UTC


def test_the_wall_clock_is_now(home: Settings) -> None:
    before = datetime.now(UTC)
    assert before <= clock.now(home) <= datetime.now(UTC)


def test_the_replay_clock_is_kept_in_the_store_for_all_processes(home: Settings) -> None:
    settings = Settings(home=home.home, clock="replay")
    with pytest.raises(LookupError, match="never set; start a replay, or use MLOPS_CLOCK=wall"):
        clock.now(settings)
    spring = datetime(2013, 4, 1, 4, tzinfo=UTC)
    for days in range(3):
        Store(home.operations).set_replay_time(spring + timedelta(days=days))
        assert clock.now(settings) == spring + timedelta(days=days)


def test_prepare_makes_the_home_and_silences_every_tool(home: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [*QUIET, "PREFECT_HOME"]:
        monkeypatch.setenv(name, "")  # so that it is put back afterwards
        monkeypatch.delenv(name)
    assert not home.home.exists()
    assert home.prepare() is home
    assert home.home.is_dir()
    assert {name: os.environ[name] for name in QUIET} == QUIET
    assert os.environ["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] == "false"
    assert os.environ["PREFECT_HOME"] == str(home.home / "prefect")


def test_the_actor_is_the_user_unless_given(home: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    assert home.who == "tester"
    monkeypatch.setenv("LOGNAME", "somebody")
    assert Settings().who == "somebody"


def test_an_empty_source_is_the_installed_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLOPS_SOURCE", "")
    assert Settings().source is None


EMPTY_IS_A_VALUE = ("MLOPS_TRIGGERS",)


@pytest.mark.parametrize("empty", ["", " "])
def test_an_empty_variable_is_no_value(home: Settings, monkeypatch: pytest.MonkeyPatch, empty: str) -> None:
    monkeypatch.delenv("MLOPS_PREFECT_API_URL", raising=False)  # tests that share a Prefect server leave it
    usual = Settings()
    for name in usual.environment():
        if name not in EMPTY_IS_A_VALUE:
            monkeypatch.setenv(name, empty)
    assert Settings() == usual
    assert usual.home.name == ".mlops"


def test_an_empty_variable_leaves_the_value_of_the_file_unless_nobody_is_a_value(
    home: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path(".env").write_text("MLOPS_LEASE_SECONDS=5\nMLOPS_WEBHOOK=http://hooks.example\nMLOPS_HOME=\nMLOPS_TRIGGERS\n")
    monkeypatch.setenv("MLOPS_LEASE_SECONDS", "")
    monkeypatch.setenv("MLOPS_WEBHOOK", "")
    settings = Settings()
    assert (settings.lease_seconds, settings.webhook, settings.home.name) == (5, "", ".mlops")
    assert settings.loop.triggers == {"monitoring", "staleness"}


def test_the_mark_at_the_beginning_of_a_file_hides_no_setting(home: Settings) -> None:
    Path(".env").write_bytes("\ufeffMLOPS_LEASE_SECONDS=5\r\nMLOPS_ACTOR=José\r\n".encode())
    assert (Settings().lease_seconds, Settings().actor) == (5, "José")


@pytest.mark.parametrize("name", ["tracking_uri", "store_uri"])
@pytest.mark.parametrize("url", ["here", "foo://a:s3cret@h/d", "postgresql+foo://a:s3cret@h/d", "mysql://a:s3cret@h/d"])
def test_an_address_of_no_database_is_refused_without_its_password(
    home: Settings, monkeypatch: pytest.MonkeyPatch, name: str, url: str
) -> None:
    monkeypatch.setenv(f"MLOPS_{name.upper()}", url)
    with pytest.raises(ValidationError, match="must be the address of a database") as refused:
        Settings()
    assert "s3cret" not in str(refused.value)


def test_the_usual_address_of_postgresql_means_the_driver_that_is_installed(home: Settings) -> None:
    url = "postgresql://ann:s3cret@h/d"
    settings = Settings(tracking_uri=url, store_uri=url)
    assert settings.tracking == settings.operations == "postgresql+psycopg://ann:s3cret@h/d"


def test_no_password_shows_when_settings_are_printed(home: Settings) -> None:
    url = "http://ann:s3cret@h/d"
    settings = Settings(tracking_uri=url, store_uri="postgresql://ann:s3cret@h/d", webhook=url, prefect_api_url=url)
    assert "s3cret" not in f"{settings!r} {settings}"
    assert settings.tracking == "http://h/d"


@pytest.fixture
def secrets(home: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The folder of secrets, with the addresses of a store and of a webhook."""
    monkeypatch.setattr("level1_pipeline.settings.SECRETS", tmp_path / "secrets")
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "mlops_store_uri").write_text("postgresql://ann:s3cret@h/d\n")
    (tmp_path / "secrets" / "mlops_webhook").write_text("http://hooks.example")
    return tmp_path / "secrets"


def test_a_secret_comes_from_a_file_that_is_named_like_its_variable(secrets: Path) -> None:
    assert Settings().store_uri == "postgresql+psycopg://ann:s3cret@h/d"
    assert "s3cret" not in f"{Settings()!r} {os.environ}"


def test_a_variable_wins_over_dot_env_and_that_over_a_secret(secrets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path(".env").write_text("MLOPS_WEBHOOK=http://file.example\nMLOPS_STORE_URI=postgresql://file/d\n")
    monkeypatch.setenv("MLOPS_WEBHOOK", "http://variable.example")
    assert (Settings().webhook, Settings().store_uri) == ("http://variable.example", "postgresql+psycopg://file/d")


def test_a_wrong_secret_is_refused_without_being_shown(secrets: Path) -> None:
    (secrets / "mlops_store_uri").write_text("mysql://ann:s3cret@h/d")
    with pytest.raises(ValidationError, match="must be the address of a database") as refused:
        Settings()
    assert "s3cret" not in str(refused.value)
