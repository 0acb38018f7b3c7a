"""Profiles: numbers that a loop over the rows confirms, and a page that no value can break out of."""

from __future__ import annotations

import math
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.unit.datasets.putting import put
from trunkline.datasets.findings import Bars, Finding, write_findings
from trunkline.datasets.manifest import Fold, Manifest
from trunkline.datasets.profile import Profile, profile
from trunkline.datasets.profile_page import page, write_page
from trunkline.datasets.run import folder
from trunkline.datasets.wording import split_words
from trunkline.errors import IntegrityError
from trunkline.project.split import by_group, by_key, by_time, rolling, stratified
from trunkline.warehouse.duckdb import DuckDB

EVIL = "</style><script>alert(1)</script>"
ROWS = (
    "select i as id, timestamp '2025-01-01' + interval (i) hour as at, i % 50 as whole, "
    "case when i % 9 = 0 then null when i % 100 = 1 then 'nan'::double when i % 100 = 2 then 'inf'::double "
    "else sin(i) * 10 end as fraction, (i % 7)::decimal(9, 2) as price, "
    "case when i % 3 = 0 then '</td><img src=x onerror=a()>' when i % 5 = 0 then '' else 'b' || i % 4 end as word, "
    "'u' || i as own, null::varchar as nothing, i % 2 = 0 as flag, date '2025-01-01' + (i % 40)::integer as day, "
    "timestamptz '2025-01-01 00:00:00+02' + interval (i) minute as zoned, 1e300 * (i % 2 * 2 - 1) as huge, "
    "case when i < 5 then 1e6 else i % 11 end as far, i % 4 = 0 as late from range({}, {}) t(i)"
)


def _looked(engine: DuckDB, state: Path, sql: dict[str, str], **given: Any) -> Profile:
    manifest = put(engine, state, sql, **given)
    return profile(engine, manifest, folder(state, manifest.name, manifest.dataset_id), lambda text, done: None)


@pytest.fixture(scope="module")
def looked(engine: DuckDB, tmp_path_factory: pytest.TempPathFactory) -> tuple[Profile, Path]:
    state = tmp_path_factory.mktemp("profile")
    parts = {"train": ROWS.format(0, 3000), "validation": ROWS.format(3000, 4000), "test": ROWS.format(4000, 4500)}
    return _looked(engine, state, parts), folder(state, "mart", "a" * 64)


def test_the_numbers_are_those_of_the_rows(looked: tuple[Profile, Path]) -> None:
    found, place = looked
    rows = {part: pq.read_table(place / f"{part}.parquet").to_pydict() for part in ("train", "validation")}
    for column in found.columns:
        for number, part in enumerate(("train", "validation")):
            values, summary = rows[part][column.name], column.summary[part]
            filled = [value for value in values if value is not None]
            assert (summary.rows, summary.missing) == (len(values), len(values) - len(filled))
            assert summary.distinct == len(set(map(str, filled))), column.name
            if column.plot:
                odd = sum(isinstance(value, float) and not math.isfinite(value) for value in filled)
                drawn = sum(bar.rows[number] for bar in column.plot.bars) + column.plot.other[number]
                assert (summary.odd, drawn) == (odd, len(filled) - odd), column.name
    (fraction,) = [column for column in found.columns if column.name == "fraction"]
    finite = [value for value in rows["train"]["fraction"] if value is not None and math.isfinite(value)]
    summary = fraction.summary["train"]
    assert (summary.low, summary.high) == (min(finite), max(finite))
    assert summary.mean == pytest.approx(sum(finite) / len(finite))


def test_a_bar_knows_the_outcome_of_its_rows(looked: tuple[Profile, Path]) -> None:
    found, place = looked
    train = pq.read_table(place / "train.parquet").to_pydict()
    (column,) = [column for column in found.columns if column.name == "whole"]
    assert column.plot
    for bar in column.plot.bars:
        late = [y for x, y in zip(train["whole"], train["late"], strict=True) if bar.low <= x < bar.high]
        assert (bar.rows[0], bar.outcome) == (len(late), pytest.approx(sum(late) / len(late)))
    assert found.outcome == "share of late"


def test_columns_are_drawn_as_what_they_hold(looked: tuple[Profile, Path]) -> None:
    drawn = {c.name: (c.plot.shape, c.plot.clipped) if c.plot else c.note for c in looked[0].columns}
    assert drawn["id"] == "The key: each row has a value of its own."
    assert drawn["nothing"] == "Every value is missing."
    assert "too many to draw" in str(drawn["own"])
    assert drawn["huge"] == ("values", False)
    assert drawn["far"] == ("values", False)
    assert (drawn["whole"], drawn["price"], drawn["word"]) == (("bins", False), ("values", False), ("top", False))
    assert drawn["zoned"] == drawn["day"] == drawn["at"] == ("bins", False)


class _Tags(HTMLParser):
    """Opens and closes, and all that a browser would run or fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.wrong: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        if tag in ("script", "img", "iframe", "object", "link", "base", "form", "foreignobject"):
            self.wrong.append(tag)
        self.wrong += [f"{name}={value}" for name, value in attributes if name.startswith("on") or name == "src"]
        self.wrong += [f"href={v}" for name, v in attributes if name == "href" and not str(v).startswith("#")]
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attributes)
        self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.wrong.append(f"</{tag}>")


def _tags(text: str) -> list[str]:
    parser = _Tags()
    parser.feed(text)
    parser.close()
    return [*parser.wrong, *parser.open]


def test_no_value_breaks_out_of_the_page(looked: tuple[Profile, Path], engine: DuckDB, tmp_path: Path) -> None:
    rows = (
        f"""select i as id, '{EVIL}' as "{EVIL}", i % 3 as "a""b'<b>", 'x\u202ey' || chr(7) as "bidi\u202e", """
        f"""case when i % 2 = 0 then '{EVIL}' else '"' end as late from range(200) t(i)"""
    )
    manifest = put(engine, tmp_path, {"train": rows, "validation": rows, "test": rows}, name="x&y")
    place = folder(tmp_path, "x&y", manifest.dataset_id)
    bars = Bars(EVIL, (EVIL, "b"), (1.0, float("nan")), 0.5)
    write_findings(place, [Finding(EVIL, "warn", EVIL, EVIL, 1.0, 0.5, bars), Finding("keys", "ok", "fine")])
    for found in (profile(engine, manifest, place, lambda text, done: None), looked[0]):
        text = page(found)
        assert _tags(text) == []
        assert "\u202e" not in text
        assert "\x07" not in text
    assert "&lt;script&gt;" in page(profile(engine, manifest, place, lambda text, done: None))


def test_the_sealed_part_is_counted_and_not_read(looked: tuple[Profile, Path], engine: DuckDB, tmp_path: Path) -> None:
    parts = {part: ROWS.format(0, 100) for part in ("train", "validation", "test")}
    manifest = put(engine, tmp_path, parts, fingerprint="b" * 64)
    (tmp_path / "vault" / "mart" / f"{'b' * 16}.parquet").unlink()
    place = folder(tmp_path, "mart", manifest.dataset_id)
    path = write_page(profile(engine, manifest, place, lambda text, done: None), place)
    text = path.read_text("utf-8")
    assert "test (sealed)" in text
    assert "false: 75 (75%), true: 25 (25%)" in text


@pytest.mark.parametrize(
    ("target", "given", "words"),
    [
        ("whole", {"task": "regression"}, "mean whole"),
        ("word", {"task": "multiclass"}, ""),
        (
            "flag",
            {"folds": (Fold(50, (50, 70)), Fold(70, (70, 90), 20)), "left_out": 7, "unlabelled": 1},
            "share of flag",
        ),
    ],
)
def test_targets_of_every_kind(engine: DuckDB, tmp_path: Path, target: str, given: dict[str, Any], words: str) -> None:
    parts = {part: ROWS.format(0, 100) for part in ("train", "validation")}
    found = _looked(engine, tmp_path, parts, target=target, **given)
    text = page(found)
    assert (found.outcome, _tags(text)) == (words, [])
    assert ('<td class="n">20 to 70</td>' in text) == bool(given.get("folds"))


def test_a_part_that_was_changed_is_not_looked_at(engine: DuckDB, tmp_path: Path) -> None:
    manifest: Manifest = put(engine, tmp_path, {"train": ROWS.format(0, 50), "validation": ROWS.format(0, 50)})
    place = folder(tmp_path, "mart", manifest.dataset_id)
    (place / "train.parquet").write_bytes(b"PAR1")
    with pytest.raises(IntegrityError, match="is not the file that was made"):
        profile(engine, manifest, place, lambda text, done: None)


SPLITS: list[tuple[dict[str, Any], str]] = [
    (by_time(validation="2025-01-03", test="2025-01-05", gap="1 day").to_json(), "with a gap of 1 day before each"),
    (
        by_time(validation="2025-01-03", test="2025-01-05").to_json(),
        "by time: validation from 2025-01-03, test from 20",
    ),
    (by_group("plane", salt="x").to_json(), "by plane, whose rows stay together: 0.15 validation, 0.15 test, salt 'x'"),
    (by_key().to_json(), "by a hash of id: 0.15 validation, 0.15 test"),
    (stratified(by="word").to_json(), "by a hash of id, stratified by word: 0.15"),
    (stratified().to_json(), "stratified by late"),
    (rolling(folds=3, horizon="7d", test="2025-06-01").to_json(), "rolling: 3 folds, each trained on a window of all"),
    ({"by": "moon", "phase": 2}, "by moon: phase 2"),
]


@pytest.mark.parametrize(("split", "words"), SPLITS)
def test_every_split_has_words(looked: tuple[Profile, Path], split: dict[str, Any], words: str) -> None:
    assert words in split_words(replace(looked[0].manifest, split=split))
