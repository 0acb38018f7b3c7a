"""The studies of a project, as they are kept: for `trunkline studies`. Nothing is run and nothing is changed."""

from __future__ import annotations

from pathlib import Path

from trunkline.errors import TrainingError, did_you_mean
from trunkline.orchestration.session import Session
from trunkline.orchestration.tuning import storages
from trunkline.training.records import StudyRecord


def studies(session: Session) -> list[StudyRecord]:
    """All studies, storage by storage, oldest first."""
    from trunkline.training.search.studies import read_studies

    return [study for _, storage in storages(session) for study in read_studies(storage)]


def find_study(session: Session, name: str) -> tuple[StudyRecord, Path | str]:
    """The study of that name, or the newest of the model of that name, with its importances, and where it is kept.

    Raises TrainingError with the close match.
    """
    from trunkline.training.search.studies import read_studies

    found = [(study, storage) for _, storage in storages(session) for study in read_studies(storage)]
    matching = [entry for entry in found if entry[0].name == name] or [e for e in found if e[0].model == name]
    if not matching:
        names = [study.name for study, _ in found]
        raise TrainingError(
            f"no study is called {name!r}.{did_you_mean(name, [*names, *(s.model for s, _ in found)])}",
            hint=f"studies: {', '.join(names)}" if names else "trunkline tune MODEL makes one",
        )
    wanted, storage = matching[-1]
    (study,) = [each for each in read_studies(storage, importance=wanted.name) if each.name == wanted.name]
    return study, storage
