"""The groups of settings: each is the policy of its part, and is handed to it whole."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, field_serializer, field_validator
from pydantic_settings import (
    BaseSettings,
    DotEnvSettingsSource,
    EnvSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

TRIGGERS = ("monitoring", "staleness", "new data", "schedule")  # that start trainings at Level 2 without a person
APPROVALS = ("shadow", "canary", "bake", "champion", "all")  # steps of a rollout that can wait for a person


def _choices(text: object, possible: tuple[str, ...]) -> object:
    """The set that a comma-separated text names. Raises ValueError for a name that is not possible."""
    if not isinstance(text, str):
        return text
    chosen = set(filter(None, (name.strip() for name in text.split(","))))
    if unknown := sorted(chosen - set(possible)):
        raise ValueError(f"'{unknown[0]}' is not known; possible are {', '.join(possible)} (several: comma-separated)")
    return chosen


class Group(BaseModel):
    """Settings that belong together. Each is one environment variable, `MLOPS_` and the name of the field."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, validate_default=True)

    @field_serializer("*", when_used="json")
    def _in_order(self, value: Any) -> Any:
        """A set has no order, and the same settings must give the same text."""
        return sorted(value) if isinstance(value, frozenset) else value


class RolloutPolicy(Group):
    """What a rollout demands: shares, minimum samples, alarms, and who must agree (docs/rollout.md says why)."""

    canary_shares: Annotated[tuple[float, ...], NoDecode] = Field(
        (0.05, 0.25, 0.5), description="of the traffic, step by step; less traffic, fewer steps: 0.25,0.5"
    )
    canary_hours: float = Field(
        24.0, gt=0, description="each canary step lasts at least this long, and so does the bake"
    )
    canary_max_days: float = Field(
        7.0, gt=0, description="a canary step or bake that stays inconclusive this long is rolled back as not proved"
    )
    shadow_days: int = Field(3, ge=2, description="days with outcomes that a shadow is judged on, at least")
    refresh_shadow_days: int = Field(
        0, ge=0, description="the same for a refresh: the champion's recipe on newer rows, which the gate has judged"
    )
    refresh_canary_shares: Annotated[tuple[float, ...], NoDecode] = Field(
        (0.5,), description="the canary's shares for a refresh"
    )
    shadow_max_days: float = Field(
        14.0, gt=0, description="a shadow that stays inconclusive this long is rolled back as not proved"
    )
    min_requests: int = Field(
        500, gt=0, description="answers of each arm, over all canary steps, before a version becomes champion"
    )
    step_requests: int = Field(100, gt=0, description="answers of the candidate in each canary step, at least")
    min_outcomes: int = Field(
        100, gt=0, description="canary answers with a matured outcome before a version becomes champion"
    )
    max_error_rate: float = Field(
        0.001,
        ge=0,
        lt=1,
        description="share of its answers that a candidate may fail (raise, or say NaN) where the champion does not",
    )
    max_slowdown: float = Field(
        3.0, gt=1, description="a candidate that takes this many times the champion's time for a row (and 1 ms) fails"
    )
    max_memory_mb: float = Field(
        500.0, gt=0, description="memory in MB that loading a candidate and scoring 1,000 rows may take"
    )
    max_shift: float = Field(
        1.0,
        gt=0,
        description="mean score of the candidate against the champion's, in standard deviations of both; beyond: fail",
    )
    approvals: Annotated[frozenset[str], NoDecode] = Field(
        frozenset(), description="steps that wait for a person: any of `shadow,canary,bake,champion`, or `all`"
    )
    max_rollbacks: int = Field(
        3, gt=0, description="after so many rollbacks in a row a person must start the next rollout, or say `reset`"
    )

    def of_refresh(self) -> RolloutPolicy:
        """The rules for a refresh."""
        own = {"shadow_days": self.refresh_shadow_days, "canary_shares": self.refresh_canary_shares}
        return self.model_copy(update=own)

    @field_validator("canary_shares", "refresh_canary_shares", mode="before")
    @classmethod
    def _growing_shares(cls, given: object) -> object:
        """Shares of the traffic that grow and lie between 0 and 1."""
        try:
            shares = tuple(map(float, given.split(","))) if isinstance(given, str) else tuple(given)  # type: ignore[arg-type]
        except ValueError:
            shares = ()
        if not shares or list(shares) != sorted({share for share in shares if 0 < share < 1}):
            raise ValueError(f"'{given}' are not shares that grow and lie between 0 and 1; write for example 0.25,0.5")
        return shares

    @field_validator("approvals", mode="before")
    @classmethod
    def _known_steps(cls, given: object) -> object:
        steps = _choices(given, APPROVALS)
        return set(APPROVALS) - {"all"} if isinstance(steps, set | frozenset) and "all" in steps else steps


class RetrainingPolicy(Group):
    """When a training may start by itself: budgets and prices."""

    cooldown_days: float = Field(6.5, ge=0, description="from one automatic training to the next")
    min_new_outcomes: int = Field(
        2000,
        ge=0,
        description="outcomes that must have matured since the last training that was judged, before the next",
    )
    period_days: float = Field(28.0, gt=0, description="the period of the three budgets below")
    max_trainings: int = Field(4, gt=0, description="automatic trainings in a period")
    max_compute_seconds: float = Field(1800.0, gt=0, description="of all trainings in a period")
    max_rejected: int = Field(
        3, gt=0, description="rejected candidates or stopped trainings in a row, in a period, before giving up (ticket)"
    )
    training_seconds: float = Field(60.0, gt=0, description="what a training that was not measured is taken to need")
    training_dollars_per_hour: float = Field(3.0, ge=0, description="price of compute while a training runs")
    training_dollars: float = Field(
        800.0,
        ge=0,
        description="price of a training beside its compute: a day of the people who look after a new version",
    )


class LoopPolicy(Group):
    """How often the control loop looks, and what starts trainings."""

    monitor_every_days: float = Field(
        1.0, gt=0, description="the control loop looks at the newest week this often, on the clock"
    )
    operate_seconds: float = Field(60.0, gt=0, description="pause between two cycles of the control loop")
    outcomes_rest_seconds: float = Field(
        60.0, ge=0, description="a file in `<home>/outcomes` is taken when nobody has changed it for this long"
    )
    triggers: Annotated[frozenset[str], NoDecode] = Field(
        frozenset({"monitoring", "staleness"}),
        description="what starts trainings at Level 2: any of `monitoring,staleness,new data,schedule`; empty: only a person",
    )
    schedule_days: float = Field(28.0, gt=0, description="with the trigger `schedule`: days between two trainings")

    @field_validator("triggers", mode="before")
    @classmethod
    def _known_triggers(cls, given: object) -> object:
        return _choices(given, TRIGGERS)


GROUPS: dict[str, type[Group]] = {"rollout": RolloutPolicy, "retraining": RetrainingPolicy, "loop": LoopPolicy}
# Editors of some systems begin a file with a mark, which would hide its first variable: `utf-8-sig` reads both.
ENV_FILE = SettingsConfigDict(env_prefix="MLOPS_", env_file=".env", env_file_encoding="utf-8-sig", extra="ignore")


class _Flat(RolloutPolicy, RetrainingPolicy, LoopPolicy, BaseSettings):
    """All fields of the groups under the names that they have in the environment."""

    model_config = ENV_FILE


def _may_be_empty(default: object) -> bool:
    return isinstance(default, frozenset) or (not default and not isinstance(default, int | float))


class WithGroups:
    """A source of settings that finds those of a group, too, whose variables do not name it, and no empty ones."""

    def __init__(self, source: PydanticBaseSettingsSource):
        kind = DotEnvSettingsSource if isinstance(source, DotEnvSettingsSource) else EnvSettingsSource
        self.source, self.flat = source, kind(_Flat)
        self.defaults = {name: field.default for name, field in source.settings_cls.model_fields.items()}
        self.defaults |= {name: field.default for name, field in _Flat.model_fields.items()}

    def __call__(self) -> dict[str, Any]:
        """The values that are set: those of a group in a dictionary under its name."""
        values = self._given(self.flat())
        settings = {name: value for name, value in self._given(self.source()).items() if name not in GROUPS}
        for group, kind in GROUPS.items():
            if given := {name: values[name] for name in kind.model_fields if name in values}:
                settings[group] = given
        return settings

    def _given(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """An empty variable is no value, except where the default is empty, too (no key, nobody), or a set."""
        given = {name: "" if isinstance(value, str) and not value.strip() else value for name, value in values.items()}
        takes_empty = {name for name, default in self.defaults.items() if _may_be_empty(default)}
        return {name: value for name, value in given.items() if value != "" or name in takes_empty}
