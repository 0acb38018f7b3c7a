"""The page at `/docs`: what the model takes, a filled-in form to try it, and how to call it. Needs no other file."""

from __future__ import annotations

import html
import json
from pathlib import Path

from trunkline.models.signature import Field, Signature
from trunkline.serving.answers import Answer
from trunkline.serving.openapi import KEY_HEADER, answered, example_row

# The page may run its own inline script and talk to its own server, nothing else.
_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; img-src data:; "
    "base-uri 'none'; form-action 'none'"
)
_HEADERS = [("content-type", "text/html; charset=utf-8"), ("content-security-policy", _POLICY)]


def docs_page(signature: Signature, reference: str, deployment: str, sha256: str) -> Answer:
    """The page as an answer; made once, when the server starts."""
    parts = {
        "deployment": html.escape(deployment),
        "reference": html.escape(reference),
        "sha256": html.escape(sha256),
        "sha256_short": html.escape(sha256[:12]),
        "answered": answered(signature),
        "target": html.escape(signature.target),
        "count": str(len(signature.inputs)),
        "fields": "\n".join(_control(i, field) for i, field in enumerate(signature.inputs)),
        "example": html.escape(json.dumps({"rows": [example_row(signature)]}, indent=2, ensure_ascii=False)),
        "key_header": KEY_HEADER,
        "data": _script_data(
            {"fields": [[field.name, field.kind] for field in signature.inputs], "task": signature.task.kind}
        ),
    }
    page = Path(__file__).with_name("docs.html").read_text("utf-8")
    for name, value in parts.items():
        page = page.replace(f"<!--{name}-->", value)
    return Answer(200, _HEADERS, page.encode())


def _control(index: int, field: Field) -> str:
    label = f'<label for="f{index}">{html.escape(field.name)}</label>'
    empty = "null" if field.nullable else "required"
    kind = f'<span class="kind">{field.kind}{"" if field.nullable else " · required"}</span>'
    if field.kind == "boolean":
        options = ["true", "false"] + (["null"] if field.nullable else [])
        chosen = json.dumps(field.example)
        inner = "".join(f"<option{' selected' if option == chosen else ''}>{option}</option>" for option in options)
        control = f'<select id="f{index}">{inner}</select>'
    else:
        value = html.escape(_shown(field.example))
        mode = ' inputmode="decimal"' if field.kind == "number" else ""
        control = (
            f'<input id="f{index}" value="{value}" placeholder="{empty}"{mode} autocomplete="off" spellcheck="false">'
        )
    return f'<div class="field">{label}{kind}{control}</div>'


def _shown(example: object) -> str:
    if isinstance(example, float) and example.is_integer() and abs(example) < 1e15:
        return str(int(example))
    if isinstance(example, list | tuple):  # a vector
        return json.dumps(example)
    return "" if example is None else str(example)


def _script_data(data: object) -> str:
    """JSON that cannot end the script element it stands in."""
    return json.dumps(data).replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
