"""Every setting of the project (environment variables `MLOPS_…` or a `.env` file), in groups that are the policies of their parts.

Settings are built at entry points only and handed down; nothing reads the environment elsewhere.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationInfo, field_validator
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SecretsSettingsSource,
    SettingsConfigDict,
)

from level1_pipeline import environment, problem
from level1_pipeline.policies import ENV_FILE, GROUPS, LoopPolicy, RetrainingPolicy, RolloutPolicy, WithGroups

DATABASES = ("sqlite", "postgresql")
SECRETS = Path("/run/secrets")  # where containers get files that hold passwords, each with the name of a variable


def _as_variable(value: object) -> str:
    """A value as the environment holds it: nothing is empty, several are comma-separated."""
    if isinstance(value, tuple | frozenset):
        return ",".join(str(part) for part in (value if isinstance(value, tuple) else sorted(value)))
    return "" if value is None else str(value)


class Settings(BaseSettings):
    """Where state lives and how decisions get their time. Frozen; see docs/settings.md."""

    model_config = SettingsConfigDict(
        **ENV_FILE,
        frozen=True,
        hide_input_in_errors=True,
    )

    home: Path = Field(Path(".mlops"), description="folder of all state: databases, artifacts, bundles, reports")
    tracking_uri: str = Field("", repr=False, description="MLflow's database; empty: SQLite at `<home>/mlflow.db`")
    store_uri: str = Field(
        "",
        repr=False,
        description="operations database (routes, predictions, audit); empty: SQLite at `<home>/operations.db`",
    )
    prefect_api_url: str = Field(
        "",
        repr=False,
        description="API of a running Prefect server; empty: each training starts its own on 127.0.0.1 and ends it",
    )
    source: Path | None = Field(None, description="folder of the raw data files; empty: the installed data package")
    clock: str = Field(
        "wall",
        description="time of all decisions: `wall`, `replay` (kept in the store) or a fixed ISO time with offset",
    )
    lease_seconds: float = Field(
        30.0, gt=0, description="a lease not renewed for this long is free; a killed holder blocks no longer"
    )
    actor: str = Field("", description="who acts, for the audit log; empty: the user running the command")

    serving_host: str = Field(
        "127.0.0.1", description="address that the service binds; without an API key it stays 127.0.0.1"
    )
    serving_port: int = Field(8000, ge=0, le=65535, description="port of the service; 0: any free one")
    predict_key_hash: str = Field(
        "", description="SHA-256 of the keys that may predict, comma-separated (`python -m serving key`)"
    )
    admin_key_hash: str = Field(
        "", description="SHA-256 of the keys that may post outcomes and read metrics, comma-separated"
    )
    max_body_bytes: int = Field(1_000_000, gt=0, description="a larger request body is refused (413)")
    max_rows: int = Field(1000, gt=0, description="a request with more rows is refused (422)")
    max_connections: int = Field(
        500, gt=0, description="open connections of a worker; beyond, the oldest idle one is closed for a new one"
    )
    max_connections_of_address: int = Field(
        250, gt=0, description="of these from one address; raise it where a proxy stands before the service"
    )
    keep_alive_seconds: int = Field(
        5, gt=0, description="an idle connection stays open this long; set it above the idle time of your proxy"
    )
    rate_limit: float = Field(
        500.0, ge=0, description="requests a second for each client and worker, twice that at once (429); 0: no limit"
    )
    predict_seconds: float = Field(
        2.0,
        gt=0,
        description="for one call of a model; then it counts as failed, and where a canary hangs the champion answers",
    )
    watch_seconds: float = Field(1.0, gt=0, description="how often the service looks for a new route")
    flush_seconds: float = Field(
        0.5, gt=0, description="how often predictions are written; what kill -9 may lose at most"
    )
    log_rows: int = Field(50_000, gt=0, description="predictions kept in memory while the store fails; more are lost")
    shadow_rows: int = Field(2000, gt=0, description="copies that wait for the shadow model; more are dropped")

    webhook: str = Field(
        "",
        repr=False,
        description="URL that hears of tickets, failed trainings and runs, and rollouts that wait (POST, JSON); empty: nobody is told",
    )
    retention_days: float = Field(
        400.0, gt=0, description="logged predictions and their outcomes are deleted when older than this, in days"
    )

    keep_training_data: bool = Field(
        False,
        description="keep the rows of each training, once for each digest, for the day when the source has changed",
    )

    approve_releases: bool = Field(True, description="a release enters production only after a person approved it")

    rollout: Annotated[RolloutPolicy, NoDecode] = Field(RolloutPolicy(), description="the policy of rollouts")
    retraining: Annotated[RetrainingPolicy, NoDecode] = Field(
        RetrainingPolicy(), description="the policy of retraining"
    )
    loop: Annotated[LoopPolicy, NoDecode] = Field(LoopPolicy(), description="the policy of the control loop")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[Any, ...]:
        """What a caller gives wins over the environment, that over the file `.env`, and that over files of secrets."""
        variables = init_settings, WithGroups(env_settings), WithGroups(dotenv_settings)
        return (*variables, SecretsSettingsSource(settings_cls, SECRETS)) if SECRETS.is_dir() else variables

    @field_validator("webhook", "prefect_api_url")
    @classmethod
    def _web_address(cls, url: str) -> str:
        if url and not re.match("https?://[^/]", url):
            raise ValueError("this must be a URL that begins with http:// or https://")
        return url

    @field_validator("tracking_uri", "store_uri")
    @classmethod
    def _database(cls, url: str, field: ValidationInfo) -> str:
        """The message does not repeat the address: it may hold a password."""
        if not url or (field.field_name == "tracking_uri" and re.match("https?://[^/]", url)):
            return url
        url = re.sub("^postgres(ql)?://", "postgresql+psycopg://", url)  # the driver that is installed
        import sqlalchemy as sa  # loaded in any case by whoever names a database

        try:
            parts = sa.make_url(url)
            parts.get_dialect().import_dbapi()
        except (sa.exc.ArgumentError, ImportError, ValueError):
            parts = None
        if parts is None or parts.get_backend_name() not in DATABASES:
            raise ValueError("this must be the address of a database, such as postgresql://user@host/name")
        return url

    @field_validator("predict_key_hash", "admin_key_hash")
    @classmethod
    def _hashes_of_keys(cls, hashes: str) -> str:
        if not all(re.fullmatch("[0-9a-f]{64}", part.strip()) for part in hashes.split(",") if hashes):
            raise ValueError("this is no SHA-256 in hexadecimal; make a key and its hash with: python -m serving key")
        return hashes

    @field_validator("source", mode="before")
    @classmethod
    def _empty_is_none(cls, source: object) -> object:
        return None if source == "" else source

    @field_validator("home")
    @classmethod
    def _absolute(cls, home: Path) -> Path:
        try:
            return home.expanduser().resolve()
        except RuntimeError:
            raise ValueError("nobody knows the home folder of this user; write the whole path") from None

    @field_validator("clock")
    @classmethod
    def _known_clock(cls, clock: str) -> str:
        if clock in ("wall", "replay"):
            return clock
        try:
            aware = datetime.fromisoformat(clock).tzinfo is not None
        except ValueError:
            aware = False
        if not aware:
            raise ValueError(
                f"'{clock}' is no time with a UTC offset; write for example 2013-04-01T00:00:00-04:00, 'wall' or 'replay'"
            )
        return clock

    @property
    def tracking(self) -> str:
        """MLflow's tracking and registry URI. The password in a web address goes another way: see `environment`."""
        return environment.without_password(self.tracking_uri) or f"sqlite:///{self.home / 'mlflow.db'}"

    @property
    def operations(self) -> str:
        """SQLAlchemy URL of the operations store."""
        return self.store_uri or f"sqlite:///{self.home / 'operations.db'}"

    @property
    def bundles(self) -> Path:
        """Folder of the published bundles of this problem, one folder for each version."""
        return self.home / "bundles" / problem.NAME

    @property
    def summer(self) -> Path:
        """Home of the simulated summer, apart from this one."""
        return self.home / "level2"

    @property
    def who(self) -> str:
        """The name that the audit log records."""
        return environment.as_text(self.actor) or environment.user_name()

    def changed(self, values: Mapping[str, Any]) -> Settings:
        """A copy with other values of fields, those of the groups included, under the names of the environment.

        Raises:
            pydantic.ValidationError: a value of a group is not possible.
        """
        update: dict[str, Any] = {name: value for name, value in values.items() if name in type(self).model_fields}
        for group, kind in GROUPS.items():
            if given := {name: value for name, value in values.items() if name in kind.model_fields}:
                update[group] = kind(**(getattr(self, group).model_dump() | given))
        return self.model_copy(update=update)

    def environment(self) -> dict[str, str]:
        """The environment variables under which another process has the same settings."""
        values = self.model_dump(mode="json", exclude=set(GROUPS))
        values |= {name: value for group in GROUPS for name, value in getattr(self, group).model_dump().items()}
        return {f"MLOPS_{name.upper()}": _as_variable(value) for name, value in values.items()}

    def prepare(self) -> Settings:
        """Make the home folder and take over the tools' environment. Call before importing them."""
        self.home.mkdir(parents=True, exist_ok=True)
        environment.take_over(self.home, self.tracking_uri, self.prefect_api_url, [self.serving_host])
        return self
