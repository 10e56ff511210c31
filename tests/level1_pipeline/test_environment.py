"""The environment that others left is taken over: what is foreign goes, what is ours is set, own calls use no proxy."""

from __future__ import annotations

import os
import urllib.request
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from level1_pipeline.environment import QUIET, THREADS, take_over, without_password
from tests.support import ROOT

USUAL = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), "LOGNAME": "tester"}
Take = Callable[..., dict[str, str]]


@pytest.fixture
def take(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Take]:
    """What of an environment is left, and added to it."""
    before = dict(os.environ)

    def taken(given: dict[str, str], **settings: str) -> dict[str, str]:
        os.environ.clear()
        os.environ.update(USUAL | given)
        take_over(tmp_path, **settings)
        return dict(os.environ)

    with warnings.catch_warnings():
        yield taken
    os.environ.clear()
    os.environ.update(before)


@pytest.mark.evidence("the machine is unusual")
@pytest.mark.parametrize(
    "name",
    [
        "PREFECT_API_URL",
        "PREFECT_API_DATABASE_CONNECTION_URL",
        "PREFECT_SERVER_DATABASE_CONNECTION_URL",
        "PREFECT_SERVER_API_AUTH_STRING",
        "PREFECT_API_AUTH_STRING",
        "PREFECT_API_KEY",
        "PREFECT_PROFILE",
        "PREFECT_PROFILES_PATH",
        "PREFECT__FLOW_RUN_ID",
        "MLFLOW_RUN_ID",
        "MLFLOW_EXPERIMENT_NAME",
        "MLFLOW_EXPERIMENT_ID",
        "MLFLOW_TRACKING_URI",
        "MLFLOW_REGISTRY_URI",
        "MLFLOW_BACKEND_STORE_URI",
        "_MLFLOW_SERVER_ARTIFACT_ROOT",
        "GX_CLOUD_ACCESS_TOKEN",
        "EVIDENTLY_SECRET",
        "UVICORN_ROOT_PATH",
        "GUNICORN_CMD_ARGS",
        "WEB_CONCURRENCY",
        "GIT_DIR",
    ],
)
def test_a_variable_of_another_project_reaches_no_tool(take: Take, name: str) -> None:
    assert name not in take({name: "of another project"})


def test_what_our_tools_need_wins_over_the_shell_except_for_the_users_choice_of_speed(
    take: Take, tmp_path: Path
) -> None:
    given = dict.fromkeys([*QUIET, *THREADS, "PREFECT_HOME"], "other")
    assert {name: take(given)[name] for name in QUIET} == QUIET
    assert take(given)["PREFECT_HOME"] == str(tmp_path / "prefect")
    assert {name: take(given)[name] for name in THREADS} == dict.fromkeys(THREADS, "other")
    assert {name: take({})[name] for name in THREADS} == THREADS


def test_the_keys_of_a_server_that_the_settings_name_are_kept(take: Take) -> None:
    keys = {"MLFLOW_TRACKING_TOKEN": "a", "MLFLOW_TRACKING_USERNAME": "b", "MLFLOW_S3_ENDPOINT_URL": "c"}
    assert keys.items() <= take(keys, tracking_uri="https://tracking.example").items()
    keys = {"PREFECT_API_KEY": "a", "PREFECT_API_AUTH_STRING": "b", "PREFECT_CLIENT_CUSTOM_HEADERS": "{}"}
    assert keys.items() <= take(keys, prefect_api_url="https://prefect.example/api").items()
    assert "PREFECT_API_URL" not in take({"PREFECT_API_URL": "other"}, prefect_api_url="https://prefect.example/api")


# ---- proxies


@pytest.mark.evidence("the machine is unusual")
@pytest.mark.parametrize("name", ["http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"])
def test_a_proxy_stays_for_others_and_is_never_used_for_this_machine(take: Take, name: str) -> None:
    left = take({name: "http://proxy.example:3128"})
    assert left[name] == "http://proxy.example:3128"
    assert all(urllib.request.proxy_bypass(host) for host in ("127.0.0.1", "localhost", "127.0.0.1:8000"))
    assert not urllib.request.proxy_bypass("hooks.example")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, "127.0.0.1,localhost,::1,10.1.2.3"),
        ({"no_proxy": "a.example, .b.example"}, "a.example,.b.example,127.0.0.1,localhost,::1,10.1.2.3"),
        ({"NO_PROXY": "10.0.0.0/8,localhost"}, "10.0.0.0/8,localhost,127.0.0.1,::1,10.1.2.3"),
        ({"no_proxy": "a:80", "NO_PROXY": "b"}, "a:80,b,127.0.0.1,localhost,::1,10.1.2.3"),
        ({"no_proxy": "fe80::/10,[::1],a b,ünï,x"}, "x,127.0.0.1,localhost,::1,10.1.2.3"),
        ({"no_proxy": "*"}, "*"),
    ],
)
def test_the_hosts_that_need_no_proxy_are_completed(take: Take, given: dict[str, str], expected: str) -> None:
    left = take({"http_proxy": "http://proxy.example", **given}, hosts=("127.0.0.1", "10.1.2.3"))
    assert (left["no_proxy"], left["NO_PROXY"]) == (expected, expected)


@pytest.mark.parametrize("address", ["socks5://p:1080", "http://", "http://p:port", "http://[::1", "quic://p", ""])
@pytest.mark.parametrize("name", ["http_proxy", "ALL_PROXY"])
def test_a_proxy_that_no_tool_understands_is_no_proxy(take: Take, name: str, address: str) -> None:
    assert name not in take({name: address})


@pytest.mark.parametrize("address", ["p:3128", "http://user:secret@p:3128", "https://p", "HTTP://P:1"])
def test_a_proxy_in_any_usual_form_is_kept(take: Take, address: str) -> None:
    assert take({"https_proxy": address})["https_proxy"] == address


# ---- users and passwords


@pytest.mark.evidence("the machine is unusual")
@pytest.mark.parametrize("error", [KeyError("getpwuid(): uid not found: 1234"), OSError("No username set")])
def test_a_user_without_a_name_is_a_number(monkeypatch: pytest.MonkeyPatch, take: Take, error: Exception) -> None:
    def nameless() -> str:
        raise error

    monkeypatch.setattr("getpass.getuser", nameless)
    assert take({"LOGNAME": ""})["LOGNAME"] == f"uid-{os.getuid()}"


def test_a_home_folder_that_is_missing_is_replaced_by_ours(take: Take, tmp_path: Path) -> None:
    assert take({"HOME": "/nonexistent"})["HOME"] == str(tmp_path)
    assert take({"HOME": str(tmp_path.parent)})["HOME"] == str(tmp_path.parent)


def test_warnings_that_the_shell_makes_errors_are_none(take: Take) -> None:
    warnings.simplefilter("error")
    assert "PYTHONWARNINGS" not in take({"PYTHONWARNINGS": "error"})
    warnings.warn("of a library", DeprecationWarning, stacklevel=1)


def test_the_password_in_an_address_goes_to_mlflow_in_variables(take: Take) -> None:
    address = "https://ann:p%40ss@tracking.example:8443/path"
    left = take({"MLFLOW_TRACKING_PASSWORD": "other"}, tracking_uri=address)
    assert (left["MLFLOW_TRACKING_USERNAME"], left["MLFLOW_TRACKING_PASSWORD"]) == ("ann", "p@ss")
    assert without_password(address) == "https://tracking.example:8443/path"
    assert [without_password(text) for text in ("", "sqlite:////a/b.db", "http://h:1")] == [
        "",
        "sqlite:////a/b.db",
        "http://h:1",
    ]


def test_threads_wait_alike_in_the_commands_in_make_and_in_level_0() -> None:
    makefile, notebooks = ((ROOT / name).read_text() for name in ("Makefile", "level0_notebooks/run.py"))
    assert [name for name, value in THREADS.items() if f"export {name} ?= {value}\n" not in makefile] == []
    waiting = {name: value for name, value in THREADS.items() if name != "OPENBLAS_NUM_THREADS"}
    assert [name for name, value in waiting.items() if f'setdefault("{name}", "{value}")' not in notebooks] == []
