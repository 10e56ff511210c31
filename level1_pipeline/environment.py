"""The environment as other programs left it: what our tools read there is set or taken away.

Prefect, MLflow and the libraries below them read hundreds of variables. A shell that serves another project may have
any of them set: its database would be filled, its server asked, or a command would end. So none of them reaches a tool,
except those that hold the keys of a server that our own settings name. One variable is not taken away here but where
a command begins (`command_line.run`), because the service sets it again for its workers: PROMETHEUS_MULTIPROC_DIR.
"""

from __future__ import annotations

import getpass
import importlib
import os
import re
import sys
import traceback
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from urllib.parse import unquote, urlsplit

# Telemetry is off; nothing but the addresses in Settings is contacted.
QUIET = {
    "DO_NOT_TRACK": "true",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_UI_V2_ENABLED": "false",  # its new pages ask an analytics company at every visit, whatever is set
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    # Aliases only mirror the route: a registry that is down must not hold up a rollback (its default: 4 minutes).
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "GX_ANALYTICS_ENABLED": "false",
    "RAY_USAGE_STATS_ENABLED": "0",
    # Our own commands say what happens.
    "PREFECT_LOGGING_LEVEL": "CRITICAL",  # an error reaches the person as our message, without its traceback
    "PREFECT_LOGGING_TO_API_ENABLED": "false",
    "MLFLOW_LOGGING_LEVEL": "ERROR",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MPLBACKEND": "Agg",  # plots are files; the window or notebook of another program is not ours
    "PYTHONUTF8": "1",  # of our child processes: their files are UTF-8 in every locale
}
# Threads that wait must not spin for long: beside any other busy process that makes a fit five times slower. Nor must
# they sleep at once: on a virtual machine, where it is dear to wake them, that makes a fit alone five times slower. A
# choice of speed, so the user's own one wins. OpenBLAS spins always, and our matrices are small.
THREADS = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "10000", "OPENBLAS_NUM_THREADS": "1"}
FOREIGN = ("PREFECT_", "MLFLOW_", "_MLFLOW_", "GX_", "EVIDENTLY_", "UVICORN_", "GUNICORN_")
# How many workers, and which repository: for another server, and (inside a git hook) for another checkout.
FOREIGN_NAMES = ("WEB_CONCURRENCY", "GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE")
KEYS_OF_MLFLOW = ("MLFLOW_TRACKING_", "MLFLOW_S3_")  # they open the server that `tracking_uri` names
KEYS_OF_PREFECT = (
    "PREFECT_API_KEY",
    "PREFECT_API_AUTH_STRING",
    "PREFECT_API_SSL_CERT_FILE",
    "PREFECT_API_TLS_INSECURE_SKIP_VERIFY",
    "PREFECT_CLIENT_CUSTOM_HEADERS",
)
THIS_MACHINE = ("127.0.0.1", "localhost", "::1")


def take_over(home: Path, tracking_uri: str = "", prefect_api_url: str = "", hosts: Iterable[str] = ()) -> None:
    """Make the environment of this process, and of its children, ours. To be called before the tools are imported.

    Args:
        home: the folder of all state.
        tracking_uri: as in the settings; a name and password in it go to MLflow in variables, never in an address.
        prefect_api_url: as in the settings; without it no Prefect server of the environment is used.
        hosts: where our own services listen, beside this machine's usual names.
    """
    for name in [name for name in os.environ if _is_foreign(name, prefect_api_url)]:
        del os.environ[name]
    os.environ.update(QUIET)
    for name, value in THREADS.items():
        os.environ.setdefault(name, value)
    os.environ["PREFECT_HOME"] = str(home / "prefect")
    os.environ.update(_credentials(tracking_uri))
    _keep_own_calls_off_proxies(hosts)
    _name_the_user(home)
    if os.environ.pop("PYTHONWARNINGS", None):  # the tools warn while they are imported; an error would end us
        warnings.resetwarnings()
        for kind in (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning):
            warnings.simplefilter("ignore", kind)


def _is_foreign(name: str, prefect_api_url: str) -> bool:
    if name.startswith(KEYS_OF_MLFLOW) and name != "MLFLOW_TRACKING_URI":
        return False
    if prefect_api_url and name in KEYS_OF_PREFECT:
        return False
    return name.startswith(FOREIGN) or name in FOREIGN_NAMES


def without_password(url: str) -> str:
    """A web address without the name and password that may stand in it; others as they are."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or "@" not in parts.netloc:
        return url
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def _credentials(tracking_uri: str) -> Mapping[str, str]:
    parts = urlsplit(tracking_uri)
    if parts.scheme not in ("http", "https") or parts.username is None:
        return {}
    return {
        "MLFLOW_TRACKING_USERNAME": unquote(parts.username),
        "MLFLOW_TRACKING_PASSWORD": unquote(parts.password or ""),
    }


def _keep_own_calls_off_proxies(hosts: Iterable[str]) -> None:
    """What we ask of ourselves goes through no proxy; everything else goes as the user wants."""
    # Some libraries read the small name first, some the large one. An entry that is no name
    # and no IPv4 network (of IPv6, say) ends the HTTP client of Prefect.
    listed = ",".join(os.environ.get(name, "") for name in ("no_proxy", "NO_PROXY"))
    wanted = [entry.strip() for entry in listed.split(",")]
    wanted = [entry for entry in wanted if re.fullmatch(r"(https?://)?[\w.*/-]+(:\d+)?", entry, re.ASCII)]
    entries = ",".join(dict.fromkeys([*wanted, *THIS_MACHINE, *hosts]))
    os.environ["no_proxy"] = os.environ["NO_PROXY"] = "*" if "*" in wanted else entries
    for scheme in ("http", "https", "all"):
        for name in (f"{scheme}_proxy", f"{scheme}_PROXY".upper()):
            if name in os.environ and not _is_usable_proxy(os.environ[name]):
                del os.environ[name]


def _is_usable_proxy(address: str) -> bool:
    """Whether our HTTP clients understand it: Prefect's ends at a SOCKS proxy, even where it would not be used."""
    try:
        parts = urlsplit(address if "://" in address else f"http://{address}")
        return parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        return False


def as_text(given: str) -> str:
    """What the system handed over, for a database: bytes that are no UTF-8, which none takes, become escapes."""
    return given.encode("utf-8", "backslashreplace").decode()


def user_name() -> str:
    """The user who runs this process; in a container it may have a number only."""
    try:
        return as_text(getpass.getuser())
    except (KeyError, OSError):  # no such user on this machine, and no variable names one
        return f"uid-{os.getuid()}"


def _name_the_user(home: Path) -> None:
    """Tools ask who the user is and where the user's files lie: without answers they fail, or warn at each start."""
    os.environ["LOGNAME"] = user_name()
    try:
        usable = os.access(Path.home(), os.W_OK)
    except RuntimeError:
        usable = False
    if not usable:
        os.environ["HOME"] = str(home)


# ---- where each command begins

PROBLEM = Path(__file__).with_name("problem.py")
REFUSED = 1


def start(command_line: str) -> int:
    """Run the `main` of a module, and return its exit code. A problem.py that Python cannot read is one line."""
    try:
        importlib.import_module("level1_pipeline.problem")
    except Exception as error:  # whatever the file of a cloner raises
        text = " ".join((error.msg if isinstance(error, SyntaxError) else str(error)).split())
        print(f"ProblemRefused: {_place(error)}: {type(error).__name__}: {text}; mend that", file=sys.stderr)
        return REFUSED
    code: int = importlib.import_module(command_line).main()
    return code


def _place(error: Exception) -> str:
    """Where it is wrong: in problem.py itself, or in a module that it imports."""
    lines = [(frame.filename, frame.lineno) for frame in traceback.extract_tb(error.__traceback__)]
    if isinstance(error, SyntaxError) and error.filename:
        lines.append((error.filename, error.lineno))
    ours = [(file, line) for file, line in lines if Path(file).is_relative_to(PROBLEM.parent) and file != __file__]
    file, line = ours[-1] if ours else (str(PROBLEM), None)
    name = Path(file).relative_to(PROBLEM.parent.parent).as_posix()
    return f"{name}, line {line}" if line else name
