"""What goes wrong while dlt extracts, in our words: the user's exceptions with their lines, HTTP with its status."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import requests
from dlt.common.configuration.exceptions import ConfigurationException
from dlt.extract.exceptions import ResourceExtractionError
from dlt.sources.helpers.rest_client.redaction import sanitize_url

from trunkline.errors import SourceError, TransientError, TrunklineError
from trunkline.ingest.protocol import Reach
from trunkline.project.boundary import user_code

_LATER = "run the same command again later: what was loaded is kept"


@contextmanager
def raised(reach: Reach) -> Iterator[None]:
    """Translate whatever comes out of a dlt source."""
    named = str(reach.tables[0].options.get("source") or "").partition(":")[0]
    file = reach.root / named if named.endswith(".py") else reach.root
    with user_code(f"source {reach.name}", file, error=SourceError):
        try:
            yield
        except TrunklineError:
            raise
        except ResourceExtractionError as exc:
            found = exc.__cause__ or exc  # the user's own exception, with their frames
            if isinstance(found, requests.RequestException):
                raise http_error(found) from found
            raise found from found.__cause__
        except requests.RequestException as exc:
            raise http_error(exc) from exc
        except ConfigurationException as exc:
            raise SourceError(
                f"dlt lacks a setting: {_first(exc)}",
                hint="give it under `arguments:` in sources.yml (a secret as env:NAME), in the environment, "
                "or in the project's .dlt folder",
            ) from exc


def http_error(exc: requests.RequestException) -> TrunklineError:
    """An HTTP error as ours: terminal where the same request would fail again."""
    response = exc.response
    if response is None:
        url = sanitize_url(str(exc.request.url)) if exc.request is not None and exc.request.url else "the server"
        if isinstance(exc, requests.exceptions.InvalidURL | requests.exceptions.MissingSchema):
            return SourceError(f"not a URL: {exc}", hint="see `base_url`")
        return TransientError(f"{url}: {_reason(exc)}", hint=f"is `base_url` right? If it is, {_LATER}")
    what = f"{response.request.method} {sanitize_url(str(response.url))}: HTTP {response.status_code}"
    if said := _said(response):
        what += f", {said}"
    if response.status_code == 401:
        return SourceError(what, hint="the server wants credentials, or refuses these: see `auth` of the client")
    if response.status_code == 403:
        return SourceError(what, hint="the credentials are known, but may not read this")
    if response.status_code == 404:
        return SourceError(what, hint="no such path: see `base_url` of the client and `path` of the endpoint")
    if response.status_code in (408, 425, 429) or response.status_code >= 500:
        hint = "lower `requests_per_second`, or " if response.status_code == 429 else ""
        return TransientError(what, hint=hint + _LATER)
    return SourceError(what, hint="the server does not take this request: see `params` of the endpoint")


def _said(response: requests.Response) -> str:
    """The beginning of what the server says about it, if it is text."""
    if "html" in response.headers.get("Content-Type", ""):
        return ""
    text = " ".join(response.text.split())
    return text[:200] + ("…" if len(text) > 200 else "")


def _reason(exc: requests.RequestException) -> str:
    if isinstance(exc, requests.Timeout):
        return "no answer in time"
    inner: BaseException = exc
    while (inner.args and isinstance(inner.args[0], BaseException)) or getattr(inner, "reason", None):
        following = getattr(inner, "reason", None) or inner.args[0]
        if not isinstance(following, BaseException):
            break
        inner = following
    text = str(inner).rpartition(">: ")[2]
    return text or type(inner).__name__


def _first(exc: BaseException) -> str:
    return next((line.strip() for line in str(exc).splitlines() if line.strip()), type(exc).__name__)
