"""No secret of a profile is shown, however an engine puts it."""

from __future__ import annotations

import pytest

from trunkline.project.redact import redact

SETTINGS = {
    "type": "duckdb",
    "user": "ann",
    "password": "s3cr3t-1",
    "motherduck_token": "s3cr3t-2",
    "secrets": [{"type": "s3", "name": "data", "key_id": "AKIA1", "secret": "s3cr3t/3+=", "region": "eu"}],
    "attach": [{"path": "ducklake:postgres:dbname=lake password=s3cr3t-4", "alias": "lake"}],
}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("cannot log in as ann with s3cr3t-1", "cannot log in as ann with ***"),
        ("token s3cr3t-2 expired", "token *** expired"),
        ("bad signature for s3cr3t/3+= of AKIA1", "bad signature for *** of AKIA1"),
        ("at host=h password=s3cr3t-4 user=ann", "at host=h password=*** user=ann"),
        ("at host=h PASSWORD='with blanks' user=ann", "at host=h PASSWORD=*** user=ann"),
        ("at postgresql://ann:other@h:5432/lake", "at postgresql://ann:***@h:5432/lake"),
        ("s3cr3t-10 and as3cr3t-1 are other words", "s3cr3t-10 and as3cr3t-1 are other words"),
        ("table raw.flights in region eu", "table raw.flights in region eu"),
    ],
)
def test_secrets_are_taken_out(text: str, shown: str) -> None:
    assert redact(text, SETTINGS) == shown
