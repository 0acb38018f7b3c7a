"""A study in a database, which searches of many machines share. A home of optuna, and SQLAlchemy's in this room."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import optuna
import sqlalchemy
import sqlalchemy.exc
from optuna.storages import BaseStorage, RDBStorage
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from trunkline.errors import EngineError, ProjectError, TransientError

__all__ = [
    "HEARTBEAT_SECONDS",
    "closing",
    "driver_url",
    "fail_stale",
    "open_database",
    "read_database",
    "shown",
    "translated",
    "turn",
]

HEARTBEAT_SECONDS = 15
"""How often a search says that its trials are alive; after four times that long in silence they are others' to try."""

_TURN_SECONDS = 30
_TURN_ROOM = 0x7472756E  # of the locks of this database, ours

# What people write, and the driver that we bring for it.
_DRIVERS = {"postgresql": "postgresql+psycopg", "postgres": "postgresql+psycopg"}


def open_database(url: str, retry: Callable[[Study, FrozenTrial], None]) -> RDBStorage:
    """The database at `url`, its tables made if they are not there. `retry` gets each trial whose search died."""
    return _connected(
        url,
        heartbeat_interval=HEARTBEAT_SECONDS,
        grace_period=4 * HEARTBEAT_SECONDS,
        heartbeat_stale_trial_callback=retry,
    )


def read_database(url: str) -> RDBStorage:
    """The database at `url`, to read."""
    return _connected(url)


def _connected(url: str, **settings: Any) -> RDBStorage:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            return RDBStorage(driver_url(url), engine_kwargs={"pool_pre_ping": True, "pool_size": 2}, **settings)
    except ImportError as exc:
        raise EngineError(
            f"the search's storage {shown(url)} needs a driver that is not installed",
            hint="pip install 'trunkline[postgres]' for PostgreSQL",
        ) from exc


def driver_url(url: str) -> str:
    """`url` with the driver we bring. Raises ProjectError for what is no address of a database."""
    _parsed(url)
    scheme, _, rest = url.partition("://")
    return f"{_DRIVERS.get(scheme, scheme)}://{rest}"


@contextlib.contextmanager
def turn(study: Study, database: RDBStorage | None) -> Iterator[None]:
    """One search of a study at a time, of those that share it in PostgreSQL; elsewhere this waits for nobody.

    Whoever falls silent in the middle loses its turn after a while.
    """
    if database is None or database.engine.dialect.name != "postgresql":
        yield
        return
    with database.engine.begin() as connection:
        connection.execute(sqlalchemy.text(f"set local idle_in_transaction_session_timeout = '{_TURN_SECONDS}s'"))
        mine = {"room": _TURN_ROOM, "study": study._study_id}
        connection.execute(sqlalchemy.text("select pg_advisory_xact_lock(:room, :study)"), mine)
        yield


@contextlib.contextmanager
def closing(storage: BaseStorage) -> Iterator[None]:
    """Give the connections back in the end, where there are any."""
    try:
        yield
    finally:
        if isinstance(storage, RDBStorage):
            storage.remove_session()
            storage.engine.dispose()


def fail_stale(study: Study, database: RDBStorage, unheard: dict[int, float], now: float) -> None:
    """Mark failed what other searches left running when they died; whoever marks a trial has it tried again.

    `unheard` remembers since when a running trial has been seen that never had a heartbeat: its search may have died in
    the very moment it began.
    """
    optuna.storages.fail_stale_trials(study)
    running = {trial._trial_id: trial for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))}
    with database.engine.connect() as connection:
        beaten = {row[0] for row in connection.execute(sqlalchemy.text("select trial_id from trial_heartbeats"))}
    for trial_id in running.keys() - beaten:
        if now - unheard.setdefault(trial_id, now) > 4 * HEARTBEAT_SECONDS:
            with contextlib.suppress(optuna.exceptions.UpdateFinishedTrialError):  # another search was quicker
                retry = database.get_heartbeat_stale_trial_callback()
                if database.set_trial_state_values(trial_id, state=TrialState.FAIL) and retry is not None:
                    retry(study, running[trial_id])


def shown(storage: str | Path) -> str:
    """A storage as it may be shown: an address without user and password."""
    if isinstance(storage, Path):
        return str(storage)
    url = _parsed(storage)
    host = (url.host or "").rpartition("@")[2]  # an @ of the password's own
    return f"{url.drivername}://{host}{f':{url.port}' if url.port else ''}/{url.database or ''}"


def _parsed(url: str) -> sqlalchemy.URL:
    """The parts of an address, as SQLAlchemy finds them. Raises ProjectError, which says nothing of what is in it."""
    try:
        return sqlalchemy.make_url(url)
    except (sqlalchemy.exc.ArgumentError, ValueError):  # the chain is cut: these name it, or what they took for a port
        raise ProjectError(
            "the search's storage is no address of a database", hint="postgresql://USER:PASSWORD@HOST:PORT/DATABASE"
        ) from None


@contextlib.contextmanager
def translated(storage: str | Path) -> Iterator[None]:
    """What a database or its driver raises, as our errors: without the password, which theirs may hold."""
    if isinstance(storage, Path):
        yield
        return
    try:
        yield
    except (sqlalchemy.exc.OperationalError, sqlalchemy.exc.TimeoutError, optuna.exceptions.StorageInternalError):
        # the chain is cut: the driver's message may name the whole address
        raise TransientError(
            f"the search's storage {shown(storage)} does not answer, or does not let us in",
            hint="is the server up, and `search: {storage: …}` of trunkline.yml right? finished trials are kept",
        ) from None
    except sqlalchemy.exc.ArgumentError:
        raise ProjectError("the search's storage is no address of a database") from None
