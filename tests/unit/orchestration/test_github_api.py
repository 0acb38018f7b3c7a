"""GitHub's API: tokens as they are pasted, and being told to come later."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.e2e.github_server import TOKEN, FakeGitHub, serve
from trunkline.errors import ProjectError, TransientError
from trunkline.orchestration.github_api import GitHub, open_github

TEAM = "team/shop"


@pytest.fixture
def github() -> Iterator[FakeGitHub]:
    """GitHub, with nothing in it."""
    with serve(FakeGitHub(TEAM)) as api:
        yield api


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long was waited, in turn, without waiting."""
    found: list[float] = []
    monkeypatch.setattr(time, "sleep", found.append)
    return found


def test_a_pasted_token_is_stripped_and_a_broken_one_not_shown() -> None:
    assert open_github({"GITHUB_REPOSITORY": TEAM, "GITHUB_TOKEN": f" {TOKEN}\r\n"}).token == TOKEN
    for token in ("ghs_one\nghs_two", "ghs one", "ghs_ünö", "ghs_\x00"):
        with pytest.raises(ProjectError, match="a character that no token has") as caught:
            open_github({"GITHUB_REPOSITORY": TEAM, "GITHUB_TOKEN": token})
        assert "ghs" not in str(caught.value)
    with pytest.raises(ProjectError, match="GITHUB_TOKEN is not set"):
        open_github({"GITHUB_REPOSITORY": TEAM, "GITHUB_TOKEN": " \n"})


def test_a_limit_is_waited_for_as_long_as_github_says(github: FakeGitHub, slept: list[float]) -> None:
    hub = GitHub(github.url, TEAM, TOKEN)
    github.refusals = [(429, {"Retry-After": "7"}), (403, {"Retry-After": "60"})]
    hub.post("issues/1/comments", {"body": "said once"})  # nothing was made by those two
    assert (slept, github.of(1)) == ([7, 60], ["said once"])
    github.refusals = [(403, {}), (429, {"Retry-After": "tomorrow"})]
    assert hub.get("pulls") == []
    assert slept[2:] == [1, 2]


def test_a_long_limit_and_a_broken_post_are_told(github: FakeGitHub, slept: list[float]) -> None:
    hub = GitHub(github.url, TEAM, TOKEN)
    github.refusals = [(429, {"Retry-After": "3600"})]
    with pytest.raises(TransientError, match="secondary rate limit") as caught:
        hub.get("pulls")
    assert caught.value.hint == "try again in 3600 s"
    github.refusals = [(502, {})]
    with pytest.raises(TransientError):
        hub.post("issues/1/comments", {"body": "may be there already"})
    assert slept == []
    github.refusals = [(429, {})] * 3
    with pytest.raises(TransientError):
        hub.get("pulls")
    assert (slept, github.refusals) == ([1, 2], [])
