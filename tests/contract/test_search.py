"""Searches of several machines on one study in PostgreSQL."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest
from optuna.study import Study

from tests.contract import servers
from tests.unit.training.conftest import SCHEMA, table
from tests.unit.training.fakes import Fake
from trunkline.errors import TransientError
from trunkline.models.signature import Signature
from trunkline.training.features import prepare
from trunkline.training.protocol import TrainingData
from trunkline.training.search import databases
from trunkline.training.search.optuna import SearchSpec, begin_study, search, study_spec
from trunkline.training.search.studies import read_studies
from trunkline.training.search.study import OpenStudy, open_study

ROOT = Path(__file__).parent.parent.parent


def build(trial: Any) -> Fake:
    """The less noise the better; a trial takes a moment."""
    return Fake(noise=trial.suggest_float("noise", 0.0, 4.0), seconds=0.02)


def url_of(server: servers.Postgres, name: str) -> str:
    """The address of a new database."""
    return f"postgresql://{server.user}:{server.password}@127.0.0.1:{server.port}/{server.database(name)}"


@pytest.fixture(scope="module")
def data() -> TrainingData:
    """Few rows."""
    return prepare(table(300, 1), table(300, 2), Signature.from_schema(SCHEMA, target="late"))


OTHER = """
import sys
from tests.contract.test_search import SCHEMA, Fake, Signature, prepare, replace, search, table
from tests.contract.test_search import SearchSpec, build, databases

def slow(trial):
    return replace(build(trial), seconds=float(sys.argv[2]))

databases.HEARTBEAT_SECONDS = 1
data = prepare(table(300, 1), table(300, 2), Signature.from_schema(SCHEMA, target="late"))
spec = SearchSpec(slow, "delay", sys.argv[1], trials=int(sys.argv[3]), jobs=2, seed=7)
def tell(what):
    print(what, flush=True)

search(spec, data, on_open=lambda study: tell("open"), on_trial=lambda trial: tell(trial.number))
"""


def other(url: str, seconds: float, trials: int) -> subprocess.Popen[str]:
    """A search in another process, on what might be another machine."""
    command = [sys.executable, "-c", OTHER, url, str(seconds), str(trials)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def test_two_machines_share_a_study(postgres: servers.Postgres, fresh: str, data: TrainingData) -> None:
    url = url_of(postgres, fresh)
    neighbour = other(url, 0.05, 20)
    assert neighbour.stdout is not None
    assert neighbour.stdout.readline() == "open\n"
    mine: list[int] = []
    spec = SearchSpec(build, "delay", url, trials=20, seed=5, model="delay")
    result = search(spec, data, on_trial=lambda trial: mine.append(trial.number))
    theirs = [int(line) for line in neighbour.communicate(timeout=60)[0].split()]
    assert neighbour.returncode == 0
    assert mine
    assert theirs
    assert sorted(mine + theirs) == list(range(20))  # each trial by one of them, and no more than asked for
    (study,) = read_studies(url, importance="delay")
    assert (len(study.trials), study.unfinished, study.best) == (20, 0, result.trials[result.best_number])
    assert search(spec, data).trials == result.trials  # goes on to the total, which is reached


def test_two_that_begin_the_last_trial_at_once_make_one(
    postgres: servers.Postgres, fresh: str, data: TrainingData, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = study_spec(SearchSpec(build, "delay", url_of(postgres, fresh), trials=1), data)
    due = OpenStudy._due

    def looked_long_ago(study: OpenStudy) -> bool:
        found = due(study)
        time.sleep(0.5)
        return found

    monkeypatch.setattr(OpenStudy, "_due", looked_long_ago)
    with open_study(spec) as one, open_study(spec) as two, ThreadPoolExecutor() as pool:
        asked = [found for found in pool.map(lambda study: study.ask(build), [one, two]) if found is not None]
        assert [found.number for found in asked] == [0]


def test_two_that_make_a_study_at_once_make_one(
    postgres: servers.Postgres, fresh: str, data: TrainingData, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = SearchSpec(build, "delay", url_of(postgres, fresh), trials=4)
    with open_study(study_spec(replace(spec, study_name="earlier"), data)):
        pass  # makes the tables
    both = Barrier(2)
    enqueue = Study.enqueue_trial

    def slowly(*given: Any, **named: Any) -> None:
        time.sleep(0.3)  # the other one looks meanwhile
        enqueue(*given, **named)

    def begun(_: int) -> str:
        with open_study(study_spec(spec, data)) as study:
            both.wait()
            begin_study(study, spec)
            return study.key

    monkeypatch.setattr(Study, "enqueue_trial", slowly)
    with ThreadPoolExecutor() as pool:
        first, second = pool.map(begun, range(2))
    assert first == second
    (study,) = [study for study in read_studies(spec.storage) if study.name == "delay"]
    assert study.unfinished == 1


def test_trials_of_a_machine_that_died_are_tried_by_others(
    postgres: servers.Postgres, fresh: str, data: TrainingData, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(databases, "HEARTBEAT_SECONDS", 1)
    url = url_of(postgres, fresh)
    neighbour = other(url, 30.0, 20)
    assert neighbour.stdout is not None
    assert neighbour.stdout.readline() == "open\n"
    running, until = 0, time.monotonic() + 60
    while running < 2 and time.monotonic() < until:
        running = int(postgres.sql("select count(*) from trials where state = 'RUNNING'", fresh))
    neighbour.send_signal(signal.SIGKILL)
    neighbour.communicate()
    spec = SearchSpec(build, "delay", url, trials=8, seed=5)
    result = search(spec, data)
    assert len(result.trials) == 8
    assert int(postgres.sql("select count(*) from trials where state = 'RUNNING'", fresh)) == 0
    retried = "select count(*) from trial_user_attributes where key = 'retry_of'"
    assert int(postgres.sql(retried, fresh)) == running
    assert {"noise": 2.0} in [dict(record.params) for record in result.trials]  # the first was among them


def test_a_server_that_goes_away_loses_nothing(
    postgres: servers.Postgres, fresh: str, data: TrainingData, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(databases, "HEARTBEAT_SECONDS", 1)
    url = url_of(postgres, fresh)
    spec = SearchSpec(build, "delay", url, trials=12, seed=5)

    def cut(number: int) -> None:
        if number == 4:
            postgres.sql(f"alter database {fresh} allow_connections false")
            ending = f"select count(pg_terminate_backend(pid)) from pg_stat_activity where datname = '{fresh}'"
            postgres.sql(ending)

    with pytest.raises(TransientError, match="does not answer, or does not let us in") as caught:
        search(spec, data, on_trial=lambda trial: cut(trial.number))
    assert postgres.password not in str(caught.value)
    postgres.sql(f"alter database {fresh} allow_connections true")
    before = {trial.number for trial in read_studies(url)[0].trials}
    assert {0, 1, 2, 3, 4} <= before
    after = search(replace(spec, trials=len(before) + 2), data).trials
    assert len(after) == len(before) + 2
