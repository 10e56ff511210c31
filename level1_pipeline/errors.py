"""Every error that the project raises on purpose. Each message says what happened, why, and what to do.

    MLOpsError
    ├── SettingRefused          a setting has a value that is not possible
    │   └── ClockRefused          the home lives by another clock
    ├── ProblemRefused          problem.py breaks what the other parts rely on
    ├── NotFound                what was asked for does not exist: a version, a row, a line, the replay clock
    ├── Refused                 it exists, and must not be used or done
    │   ├── BundleRefused         a damaged bundle, one for another problem, or one with types that nobody reviewed
    │   │   └── OtherContract         a whole bundle, for other inputs or another task than those of problem.py
    │   ├── PromotionRefused      a version that may not be served now
    │   ├── StoreRefused          a damaged operations store, or one that a newer release has used
    │   ├── RouteRefused          a change of the route that makes no sense or is not safe
    │   ├── InputFileRefused      a file to score
    │   ├── BatchRefused          a folder to write scores into
    │   ├── TrustedSetRefused     confirmed labels that were changed, are gone, or differ from the source's
    │   ├── OutcomeFileRefused    a file of outcomes
    │   ├── HomeRefused           a kept home that was damaged, or whose audit log does not go on from the one before
    │   ├── ReleaseRefused        no release can be made, or the folder is not what was made
    │   └── DeletionRefused       so many old rows that the clock is more likely to be wrong
    ├── TrainingStopped         a training ends before a model is made
    │   ├── DataCheckFailed       the data breaks the schema
    │   ├── NotEnoughData         too few rows with a label
    │   └── StepFileChanged       a file of the run is not what its step wrote
    ├── NotCompilable           a pipeline that the tree compiler does not understand
    ├── LeaseHeld, LeaseLost    another process acts now
    ├── DatabaseBusy            another process keeps what must be deleted; try again
    ├── NoRollout               no rollout is going on
    └── NoAnswer                a service refused, or could not be reached

A command prints these as one line and ends with exit code 1 (DataCheckFailed: 4); any other exception is a fault of
the code.
"""

from __future__ import annotations


class MLOpsError(Exception):
    """The base of all of them."""


class SettingRefused(MLOpsError):
    """A setting has a value that is not possible."""


class ClockRefused(SettingRefused):
    """The home lives by another clock than the command."""


class ProblemRefused(MLOpsError):
    """The problem, as problem.py states it, cannot be trained and compared."""


class NotFound(MLOpsError, LookupError):
    """What was asked for does not exist."""


class Refused(MLOpsError):
    """It exists, and must not be used or done."""


class BundleRefused(Refused):
    """The bundle is damaged, is for another problem, or holds what must not be loaded."""


class OtherContract(BundleRefused):
    """The bundle is whole, but its model was made for other inputs or another task than those of today's problem.py."""


class PromotionRefused(Refused):
    """This version may not be served in this way now."""


class StoreRefused(Refused):
    """The operations store is damaged, or a newer release has used it."""


class RouteRefused(Refused):
    """This change of the route makes no sense or is not safe."""


class InputFileRefused(Refused, ValueError):
    """The input cannot be scored as a whole."""


class BatchRefused(Refused):
    """These rows cannot be scored into this folder."""


class TrustedSetRefused(Refused):
    """The frozen trusted set was changed or is gone, or the source holds other labels than those confirmed."""


class OutcomeFileRefused(Refused, ValueError):
    """The file cannot be read as outcomes to its end; nothing of it is kept."""


class ReleaseRefused(Refused):
    """No release can be made of this checkout, or this folder is not the release that was made."""


class HomeRefused(Refused):
    """A kept home is not what was kept, or another one must not be kept after it."""


class DeletionRefused(Refused):
    """So much would be deleted by its age that a person has to confirm it."""


class TrainingStopped(MLOpsError):
    """A training ended before a model was made."""


class DataCheckFailed(TrainingStopped):
    """The data breaks the schema. The message names column, rule, count and examples."""


class NotEnoughData(TrainingStopped):
    """There are too few rows with a known label to train and to judge a model."""


class StepFileChanged(TrainingStopped):
    """A file is not what the step that wrote it had written."""


class NotCompilable(MLOpsError):
    """The tree compiler does not understand the pipeline; scikit-learn itself serves it."""


class LeaseHeld(MLOpsError):
    """Somebody else holds the lease."""


class LeaseLost(MLOpsError):
    """The lease expired and went to somebody else, so this holder may not write any more."""


class DatabaseBusy(MLOpsError, TimeoutError):
    """Another process keeps an old state of the database open."""


class NoRollout(MLOpsError):
    """There is no rollout that this could be about."""


class NoAnswer(MLOpsError):
    """The service refused, or could not be reached."""
