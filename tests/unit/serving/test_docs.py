"""The docs page, whatever the user's columns are called."""

from __future__ import annotations

import json
import re

from trunkline.models.signature import Field, Signature
from trunkline.serving.docs import docs_page


def test_names_and_values_cannot_break_out_of_the_page() -> None:
    evil = '</script><script>alert("1")</script>'
    signature = Signature(inputs=(Field(evil, "category", example=evil), Field("b", "boolean")), target=evil)
    page = docs_page(signature, f"models:/{evil}/1", evil, "ab" * 32).body.decode()
    assert page.count("<script") == 2  # the page's own
    (data,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert json.loads(data) == {"fields": [[evil, "category"], ["b", "boolean"]], "task": "binary"}


def test_a_nullable_boolean_without_example_starts_at_null() -> None:
    signature = Signature(inputs=(Field("b", "boolean"),), target="t")
    assert b"<option selected>null</option>" in docs_page(signature, "r", "d", "s").body
