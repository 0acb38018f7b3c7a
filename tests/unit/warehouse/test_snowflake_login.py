"""From a dbt profile to the connector: every way to log in that dbt-snowflake knows, and no secret in a message."""

from __future__ import annotations

import base64
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from trunkline.errors import EngineError, ProjectError
from trunkline.warehouse.protocol import open_warehouse
from trunkline.warehouse.snowflake_login import arguments

PROFILE = {"type": "snowflake", "account": "org_x-acc_1", "user": "me", "database": "db", "role": "r", "warehouse": "w"}


@pytest.fixture(scope="module")
def key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


def _bytes(key: rsa.RSAPrivateKey, encoding: serialization.Encoding, phrase: bytes | None = None) -> bytes:
    how = serialization.BestAvailableEncryption(phrase) if phrase else serialization.NoEncryption()
    return key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, how)


def test_password_and_what_every_session_has(tmp_path: Path) -> None:
    found = arguments({**PROFILE, "password": "p", "query_tag": "team"}, tmp_path)
    assert (found["account"], found["password"], found["application"]) == ("org-x-acc-1", "p", "Trunkline")
    assert found["session_parameters"]["TIMEZONE"] == "UTC"
    assert found["session_parameters"]["QUERY_TAG"] == "team"
    assert found["network_timeout"] > 0
    assert "schema" not in found  # it may not be there yet


@pytest.mark.parametrize("authenticator", ["externalbrowser", "username_password_mfa", "oauth", "workload_identity"])
def test_other_ways_pass_through_and_tokens_are_cached(authenticator: str, tmp_path: Path) -> None:
    found = arguments({**PROFILE, "authenticator": authenticator, "token": "t"}, tmp_path)
    assert (found["authenticator"], found["token"]) == (authenticator, "t")
    assert found["client_store_temporary_credential"]
    assert found["client_request_mfa_token"]


def test_a_token_from_elsewhere_has_dbts_name(tmp_path: Path) -> None:
    assert arguments({**PROFILE, "authenticator": "jwt", "token": "t"}, tmp_path)["authenticator"] == "oauth"


def test_key_pairs_in_each_form(key: rsa.RSAPrivateKey, tmp_path: Path) -> None:
    der, pem = serialization.Encoding.DER, serialization.Encoding.PEM
    (tmp_path / "rsa.p8").write_bytes(_bytes(key, pem, b"secret"))
    forms: list[dict[str, Any]] = [
        {"private_key_path": "rsa.p8", "private_key_passphrase": "secret"},
        {"private_key": _bytes(key, pem).decode()},
        {"private_key": base64.b64encode(_bytes(key, der)).decode()},
    ]
    assert {arguments({**PROFILE, **form}, tmp_path)["private_key"] for form in forms} == {_bytes(key, der)}


@pytest.mark.parametrize(
    "form", [{"private_key": "AAAA"}, {"private_key_path": "rsa.p8", "private_key_passphrase": "wr0ng"}]
)
def test_a_key_that_does_not_open_is_not_printed(form: dict[str, str], key: rsa.RSAPrivateKey, tmp_path: Path) -> None:
    (tmp_path / "rsa.p8").write_bytes(_bytes(key, serialization.Encoding.PEM, b"secret"))
    with pytest.raises(ProjectError, match="cannot be read") as caught:
        arguments({**PROFILE, **form}, tmp_path)
    assert "wr0ng" not in str(caught.value)
    assert "AAAA" not in str(caught.value)


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(ProjectError, match="no `account`"):
        arguments({**PROFILE, "account": ""}, tmp_path)
    with pytest.raises(ProjectError, match="private_key_path"):
        arguments({**PROFILE, "private_key_path": "nowhere.p8"}, tmp_path)


def test_without_the_connector_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "snowflake.connector", None)
    monkeypatch.delitem(sys.modules, "trunkline.warehouse.snowflake", raising=False)
    with pytest.raises(ProjectError, match=r"snowflake\.connector is not installed") as caught:
        open_warehouse("snowflake", PROFILE, tmp_path)
    assert "trunkline[snowflake]" in (caught.value.hint or "")


@contextmanager
def _token_server(status: int, body: bytes, seen: list[bytes]) -> Iterator[int]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            seen.append(
                self.headers["Authorization"].encode() + b" " + self.rfile.read(int(self.headers["Content-Length"]))
            )
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nothing."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        try:
            yield server.server_port
        finally:
            thread.join(10)


def _oauth(port: int) -> dict[str, Any]:
    client = {"oauth_client_id": "id", "oauth_client_secret": "s3cret", "token": "refresh"}
    place = {"host": "127.0.0.1", "port": port, "protocol": "http"}
    return {**PROFILE, "authenticator": "oauth", **client, **place}


def test_a_refresh_token_is_exchanged_as_dbt_does(tmp_path: Path) -> None:
    seen: list[bytes] = []
    with _token_server(200, b'{"access_token": "fresh"}', seen) as port:
        found = arguments(_oauth(port), tmp_path)
    assert (found["token"], "oauth_client_secret" in found) == ("fresh", False)
    assert b"refresh_token=refresh" in seen[0]
    assert base64.b64encode(b"id:s3cret") in seen[0]


def test_a_refused_refresh_token_says_so_and_shows_nothing(tmp_path: Path) -> None:
    with _token_server(400, b"{}", []) as port, pytest.raises(EngineError, match="HTTP 400") as caught:
        arguments(_oauth(port), tmp_path)
    assert "authorise again" in str(caught.value)
    assert "s3cret" not in str(caught.value)
