"""References as text. What every registry does with them is in the conformance suite."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trunkline.errors import ModelReferenceError
from trunkline.project import declare
from trunkline.registry.reference import (
    Reference,
    check_alias,
    check_model_name,
    parse_reference,
    unknown_model,
    unknown_version,
)

names = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,12}", fullmatch=True)


@given(names, st.integers(1, 999_999_999))
def test_a_version_reads_back(name: str, version: int) -> None:
    assert parse_reference(str(Reference(name, version=version))) == Reference(name, version=version)


@given(st.text(max_size=30))
def test_any_text_is_parsed_or_refused(text: str) -> None:
    try:
        reference = parse_reference("models:/" + text)
    except ModelReferenceError:
        return
    assert str(reference) == "models:/" + text
    check_model_name(reference.name)
    assert (reference.version is None) != (reference.alias is None)


@given(st.text(st.sampled_from("aZ09_.-/:é \n"), max_size=5))
def test_what_can_be_declared_can_be_registered(name: str) -> None:
    try:
        check_model_name(name)
    except ModelReferenceError:
        assert not declare.MODEL_NAME.fullmatch(name)
    else:
        assert declare.MODEL_NAME.fullmatch(name)


def test_a_dot_is_for_aliases_only() -> None:
    assert parse_reference("models:/delay@v7.1").alias == "v7.1"
    with pytest.raises(ModelReferenceError, match="cannot name a model"):
        check_model_name("delay.eu")


@pytest.mark.parametrize("alias", ["latest", "Latest", "v7", "V12", "", "a b", "-x"])
def test_an_alias_is_no_version(alias: str) -> None:
    with pytest.raises(ModelReferenceError, match="cannot be an alias"):
        check_alias(alias)


def test_many_versions_are_shown_shortened() -> None:
    assert "1, 2, 3, …, 26, 27, 28, 29, 30 (30 in all)" in str(unknown_version("delay", 99, list(range(1, 31))))


def test_an_empty_registry_says_what_to_do() -> None:
    assert "trunkline train" in str(unknown_model("delay", []))
