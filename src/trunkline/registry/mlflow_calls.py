"""Calls to MLflow: its settings for this process, its errors as ours, and tries again while it is away.

A home of mlflow. MLflow's own retries are off: they send a request again of which nobody knows whether it had arrived,
and a run is there twice.
"""

from __future__ import annotations

import logging
import os
import random
import time
import warnings
from collections.abc import Callable, Iterator
from typing import TypeVar

from trunkline.errors import EngineError, ProjectError, TransientError
from trunkline.project.pickles import NO_PICKLES
from trunkline.registry.address import login, scrubbed, shown
from trunkline.registry.protocol import InvalidRecord

__all__ = ["ABSENT", "Calls", "PATIENCE_SECONDS", "THERE", "let_in", "one_login", "quiet_process"]

_T = TypeVar("_T")

PATIENCE_SECONDS = 15.0
"""For how long a call is tried again, unless told else."""

ABSENT = {"RESOURCE_DOES_NOT_EXIST", "NOT_FOUND"}
THERE = {"RESOURCE_ALREADY_EXISTS"}

# What MLflow reads from the environment. The first table is not for the user to change: no pickle is ever loaded, no
# value is cut short without a word, nothing phones home. The second is how this adapter wants MLflow unless told else.
_FIXED = {
    **NO_PICKLES,
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_TRUNCATE_LONG_VALUES": "false",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_UV_AUTO_DETECT": "false",
}
_DEFAULTS = {"MLFLOW_LOGGING_LEVEL": "CRITICAL", "MLFLOW_HTTP_REQUEST_TIMEOUT": "60"}

_PASSING = {"TEMPORARILY_UNAVAILABLE", "DEADLINE_EXCEEDED", "REQUEST_LIMIT_EXCEEDED", "RESOURCE_EXHAUSTED", "ABORTED"}
# Errors of what MLflow works with, by the package and the class: those that may pass, and all that are no bug of ours.
_PASSING_KINDS = {
    "botocore.ConnectionError",
    "botocore.HTTPClientError",
    "builtins.ConnectionError",
    "builtins.TimeoutError",
    "requests.ChunkedEncodingError",
    "requests.ConnectionError",
    "requests.ContentDecodingError",
    "requests.RetryError",
    "requests.Timeout",
    "sqlalchemy.DisconnectionError",
    "sqlalchemy.InterfaceError",
    "sqlalchemy.OperationalError",
    "sqlalchemy.TimeoutError",
    "urllib3.ProtocolError",
    "urllib3.TimeoutError",
}
_OBJECT_STORES = {"azure", "boto3", "botocore", "google", "s3transfer"}
_FOREIGN = {"alembic", "mlflow", "requests", "sqlalchemy", "urllib3", *_OBJECT_STORES}
_UNKNOWN_LOGIN = {"UNAUTHENTICATED", "CUSTOMER_UNAUTHORIZED"}
_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 5.0


class Calls:
    """Calls to the MLflow at `uri`, for any thread: `call(action)`.

    A call that fails for a passing reason is tried again, with pauses that double, for `patience` seconds. While MLflow
    is known to be away, each call is tried once: who has ten things to say waits once.
    """

    def __init__(self, uri: str, patience: float = PATIENCE_SECONDS) -> None:
        self._uri = uri
        self._patience = patience
        self._away = False

    def __call__(self, action: Callable[[], _T]) -> _T:
        """`action()`, which may be called several times."""
        until, pause = time.monotonic() + (0.0 if self._away else self._patience), _FIRST_PAUSE
        while True:
            try:
                found = self._once(action)
            except TransientError:
                left = until - time.monotonic()
                if left <= 0:
                    self._away = True
                    raise
            else:
                self._away = False
                return found
            time.sleep(min(left, pause * random.uniform(0.5, 1.0)))
            pause = min(pause * 2, _LONGEST_PAUSE)

    def unless(self, codes: set[str], action: Callable[[], _T]) -> _T | None:
        """`action()`, as by a call; None instead of an error whose MLflow code is one of `codes`."""

        def attempt() -> _T | None:
            try:
                return action()
            except Exception as exc:
                if getattr(exc, "error_code", None) in codes:
                    return None
                raise

        return self(attempt)

    def make(self, make: Callable[[], _T], find: Callable[[], _T | None]) -> _T:
        """`make()`, which may be done once only: if it failed half-way, `find()` tells what it had made after all."""
        tried = False

        def attempt() -> _T:
            nonlocal tried
            if tried and (there := find()) is not None:
                return there
            tried = True
            return make()

        return self(attempt)

    def _once(self, action: Callable[[], _T]) -> _T:
        try:
            return action()
        except Exception as exc:
            if not _is_foreign(exc):
                raise
            raise _translated(exc, self._uri) from exc


def quiet_process() -> None:
    """MLflow's settings, before MLflow is imported, and its import, without what it warns about itself."""
    os.environ.update(_FIXED)
    for key, value in _DEFAULTS.items():
        os.environ.setdefault(key, value)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import mlflow.pyfunc  # noqa: F401
    # Failures come to us as exceptions; the lines that MLflow and urllib3 log beside them would be said twice.
    logging.getLogger("mlflow").setLevel(os.environ["MLFLOW_LOGGING_LEVEL"].upper())
    logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)


def one_login(uri: str, other: str) -> None:
    """Raise `ProjectError` for two addresses that log in differently: MLflow has one login for both."""
    (_, *mine), (_, *others) = login(uri), login(other)
    if mine != others and any(mine) and any(others):
        raise ProjectError(
            f"{shown(uri)} and {shown(other)} have different logins, and MLflow knows one for both",
            hint="let one account work on both servers, or keep runs and versions on one",
        )


def let_in(uri: str) -> str:
    """The address for MLflow: a login in it goes where MLflow looks for one, out of what it shows and records."""
    bare, user, password = login(uri)
    if user and password:
        os.environ.update(MLFLOW_TRACKING_USERNAME=user, MLFLOW_TRACKING_PASSWORD=password)
    elif user:
        os.environ["MLFLOW_TRACKING_TOKEN"] = user
    return bare


def _is_foreign(exc: Exception) -> bool:
    """Whether an error is one of MLflow's or of what it works with, by its class: none of these is imported for it."""
    return isinstance(exc, OSError | ImportError) or bool(_FOREIGN & {kind.partition(".")[0] for kind in _kinds(exc)})


def _kinds(exc: BaseException) -> set[str]:
    """Its classes, each with the package that it comes from."""
    return {f"{kind.__module__.partition('.')[0]}.{kind.__name__}" for kind in type(exc).__mro__}


def _translated(exc: Exception, uri: str) -> EngineError:
    """One of our errors for one of theirs: transient by the class of what lies beneath or by MLflow's own code."""
    where, code = shown(uri), getattr(exc, "error_code", None)
    status = getattr(getattr(exc, "response", None), "status_code", 0)
    said = scrubbed(str(getattr(exc, "message", exc)), uri).strip().splitlines()
    first = said[0] if said else type(exc).__name__
    if code in _PASSING or status in (429, 502, 503, 504) or any(_PASSING_KINDS & _kinds(link) for link in _chain(exc)):
        why = "" if _kinds(exc) & {"mlflow.MlflowException", "requests.RequestException"} else f": {first}"
        hint = f"is the server up? MLFLOW_TRACKING_URI={where}"
        return TransientError(f"MLflow at {where} does not answer{why}", hint=hint)
    if code in _UNKNOWN_LOGIN or status == 401:
        return EngineError(f"MLflow at {where} does not let us in: {_who()}", hint=_LOGIN)
    if code == "PERMISSION_DENIED" or status == 403:
        hint = "ask who runs the server: for the permission EDIT, or, from a proxy, for this host in --allowed-hosts"
        return EngineError(f"MLflow at {where} does not let us do this ({_who()}): {first}", hint=hint)
    if isinstance(exc, ImportError):
        hint = f"pip install {exc.name}" if exc.name else "pip install what the message names"
        return EngineError(f"MLflow at {where} wants a package that is not here: {first}", hint=hint)
    kind = InvalidRecord if _is_invalid(exc) else EngineError
    return kind(f"MLflow at {where} refused: {first}")


def _is_invalid(exc: Exception) -> bool:
    """Whether MLflow itself says that what it was given is wrong: a proxy's 400, and a damaged database, say no such
    thing."""
    code, kinds = getattr(exc, "error_code", None), _kinds(exc)
    if code == "INVALID_PARAMETER_VALUE":
        return True
    data = any("sqlalchemy.DataError" in _kinds(link) for link in _chain(exc))
    return code == "BAD_REQUEST" and ("mlflow.RestException" in kinds or data)


_LOGIN = "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"


def _who() -> str:
    """With what we came; never the password or the token."""
    if user := os.environ.get("MLFLOW_TRACKING_USERNAME"):
        return f"as {user!r}"
    return "with a token" if os.environ.get("MLFLOW_TRACKING_TOKEN") else "without a login"


def _chain(exc: BaseException | None) -> Iterator[BaseException]:
    while exc is not None:
        yield exc
        exc = exc.__cause__ or exc.__context__
