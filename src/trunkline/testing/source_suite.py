"""What every `Source` must do, as pytest tests. Our own tests are this suite times our connectors.

Each test has an empty origin and loads it with the real driver into a DuckLake of its own. What only some sources can
do is asked for as a small protocol (`source_line.py`): an origin that lacks it is not tested for it, with the reason.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

from trunkline.errors import EngineError, TransientError, TrunklineError
from trunkline.testing import source_line
from trunkline.testing.source_line import Breakable, Changing, Cut, Guarded, Line, Origin, RefusingLedger, Replaceable

F = TypeVar("F", bound=Callable[..., Any])


def needs(*capabilities: type) -> Callable[[F], F]:
    """Mark a test with what its origin must be able to do."""

    def mark(function: F) -> F:
        function.needs = capabilities  # type: ignore[attr-defined]  # read by `SourceSuite.fitting`
        return function

    return mark


class SourceSuite:
    """Subclass and override the fixture `origin`."""

    @pytest.fixture
    def origin(self) -> Origin:
        """What the source under test reads from, empty."""
        raise NotImplementedError("override the fixture `origin`")

    @pytest.fixture
    def line(self, origin: Origin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Line]:
        """A table and its source."""
        made = Line(tmp_path, origin, monkeypatch)
        yield made
        made.warehouse.close()

    @pytest.fixture(autouse=True)
    def fitting(self, request: pytest.FixtureRequest, origin: Origin) -> None:
        """Skip tests of what the origin cannot do."""
        for capability in getattr(request.function, "needs", ()):
            if not isinstance(origin, capability):
                pytest.skip(f"the origin is not {capability.__name__}")

    def test_all_rows_arrive_once(self, line: Line, origin: Origin) -> None:
        """Every row is there once, as it was, in as many batches as the source promises."""
        origin.add(source_line.rows(1, 40))
        batches = line.load()
        assert line.rows() == source_line.rows(1, 40)
        assert len(batches) >= origin.batches

    def test_nothing_new_is_no_batch(self, line: Line, origin: Origin) -> None:
        """A source that has nothing new gives no batch, and the ledger stays as it is."""
        origin.add(source_line.rows(1, 12))
        line.load()
        before = (line.ledger("cursors"), line.ledger("loads"))
        assert line.load() == []
        assert (line.ledger("cursors"), line.ledger("loads")) == before

    def test_a_later_load_reads_new_rows_only(self, line: Line, origin: Origin) -> None:
        """What was loaded is not read again."""
        origin.add(source_line.rows(1, 12))
        line.load()
        origin.add(source_line.rows(13, 20))
        line.load()
        assert line.rows() == source_line.rows(1, 20)
        assert sum(load["rows_read"] for load in line.ledger("loads")) == 20

    def test_it_goes_on_from_every_cursor(self, line: Line, origin: Origin) -> None:
        """Ended after each batch in turn, with rows added in between: every row is there once."""
        origin.add(source_line.rows(1, 40))
        cuts = 0
        while _is_cut(line):
            cuts += 1
            assert cuts <= 60, "a source that begins anew after each batch"
            if cuts == 1:
                origin.add(source_line.rows(41, 44))
        assert line.rows() == source_line.rows(1, 44)
        assert cuts >= origin.batches

    def test_an_ended_load_is_taken_up_by_a_whole_one(self, line: Line, origin: Origin) -> None:
        """Ended after the first batch, the next load brings the rest."""
        origin.add(source_line.rows(1, 40))
        assert _is_cut(line)
        first = line.rows()
        assert set(first) <= set(source_line.rows(1, 40))
        line.load()
        assert line.rows() == source_line.rows(1, 40)
        assert sum(load["rows_read"] for load in line.ledger("loads")) == 40

    @pytest.mark.parametrize("passing", [False, True], ids=["for good", "in passing"])
    def test_a_commit_that_fails_changes_nothing(self, line: Line, origin: Origin, passing: bool) -> None:
        """The last batch's commit fails: those before it stay, nothing of it does, and it comes again."""
        origin.add(source_line.rows(1, 40))
        last = origin.batches
        refusing = RefusingLedger(line.warehouse, last, TransientError if passing else EngineError)
        if passing:
            line.patience = 60.0
            line.load(ledger=refusing)
        else:
            with pytest.raises(EngineError, match="the disk is full"):
                line.load(ledger=refusing)
            assert len(line.ledger("loads")) == len(line.ledger("cursors")) == last - 1
            assert len(line.rows()) < 40
            line.load()
        assert line.rows() == source_line.rows(1, 40)

    def test_a_refresh_makes_the_table_anew(self, line: Line, origin: Origin) -> None:
        """Asked to begin from the start, it brings all rows, and the old ones are gone."""
        origin.add(source_line.rows(1, 12))
        line.load()
        line.warehouse.execute("update raw.t set name = 'wrong'")
        line.load(refresh=True)
        assert line.rows() == source_line.rows(1, 12)
        assert line.load() == []

    @needs(Replaceable)
    def test_a_replaced_table_is_what_the_source_is(self, line: Line, origin: Origin) -> None:
        """Other rows, fewer rows, no rows: the table is the same each time."""
        assert isinstance(origin, Replaceable)
        for held in (source_line.rows(1, 12), source_line.rows(5, 9, version=50, name="other"), []):
            origin.put(held)
            line.load("replace")
            assert line.rows() == held

    @needs(Changing)
    def test_changed_rows_replace_those_of_their_key(self, line: Line, origin: Origin) -> None:
        """Merged by key: one row a key, the latest."""
        assert isinstance(origin, Changing)
        origin.add(source_line.rows(1, 20))
        line.load("merge")
        origin.change(source_line.rows(5, 9, version=100, name="changed"))
        origin.add(source_line.rows(121, 124))
        line.load("merge")
        expected = [*source_line.rows(1, 4), *source_line.rows(5, 9, version=100, name="changed")]
        assert line.rows() == [*expected, *source_line.rows(10, 20), *source_line.rows(121, 124)]
        line.load("merge")  # what is read again changes nothing
        assert line.rows() == [*expected, *source_line.rows(10, 20), *source_line.rows(121, 124)]

    @needs(Changing)
    def test_a_merge_goes_on_from_every_cursor(self, line: Line, origin: Origin) -> None:
        """Ended after each batch in turn, with rows changed in between."""
        assert isinstance(origin, Changing)
        origin.add(source_line.rows(1, 40))
        cuts = 0
        while _is_cut(line, "merge"):
            cuts += 1
            assert cuts <= 60, "a source that begins anew after each batch"
            if cuts == 1:
                origin.change(source_line.rows(1, 3, version=100, name="changed"))
        changed = source_line.rows(1, 3, version=100, name="changed")
        assert line.rows() == [*changed, *source_line.rows(4, 40)]

    @needs(Breakable)
    def test_a_source_that_fails_in_the_middle_leaves_whole_batches(self, line: Line, origin: Origin) -> None:
        """What came before is kept batch by batch, and mended it brings the rest."""
        assert isinstance(origin, Breakable)
        origin.add(source_line.rows(1, 40))
        origin.break_after(25)
        with pytest.raises(TrunklineError):
            line.load()
        kept = line.rows()
        assert set(kept) < set(source_line.rows(1, 40))
        assert len(line.ledger("loads")) == len(line.ledger("cursors"))
        origin.break_after(None)
        line.load()
        assert line.rows() == source_line.rows(1, 40)

    def test_ended_early_it_gives_everything_back(self, line: Line, origin: Origin) -> None:
        """Threads, children, sockets, attached databases and connections are what they were before."""
        origin.add(source_line.rows(1, 12))
        line.load()
        before = line.held()
        origin.add(source_line.rows(13, 52))
        assert _is_cut(line)
        now = line.gives_back(before)
        assert now == before, f"before: {before}, after it was ended early: {now}"
        with pytest.raises(EngineError):
            line.load(ledger=RefusingLedger(line.warehouse, 1, EngineError), refresh=True)
        now = line.gives_back(before)
        assert now == before, f"before: {before}, after a commit failed: {now}"

    @needs(Guarded)
    def test_no_error_shows_a_secret(self, line: Line, origin: Origin) -> None:
        """Neither the error with its causes, nor what was told meanwhile, nor what the ledger keeps."""
        assert isinstance(origin, Guarded)
        origin.add(source_line.rows(1, 5))
        secret = origin.refuse()
        with pytest.raises(TrunklineError) as caught:
            line.load()
        shown = [str(caught.value), *line.told, *map(str, _causes(caught.value, line.root))]
        assert secret not in "".join(shown)
        assert secret not in str([line.ledger("loads"), line.ledger("cursors")])
        assert line.rows() == []


def _causes(error: BaseException, root: Path) -> list[BaseException]:
    """What led to the error. Nothing, if that began in code below `root`: the project may say what it likes there."""
    found: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None:
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)
        found += [cause] if cause else []
    places = [place for cause in found for place in traceback.extract_tb(cause.__traceback__)]
    return [] if any(Path(place.filename).is_relative_to(root) for place in places) else found


def _is_cut(line: Line, load: str = "append") -> bool:
    """Load one batch and end there; False if there was none."""
    try:
        line.load(load, cut_after=1)
    except Cut:
        return True
    return False
