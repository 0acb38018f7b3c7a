"""A connector of Fivetran's SDK as its users write them: several tables, every operation, every type, a state.

The configuration (texts, all of them optional) says what goes wrong: `raise_after` so many customers, `exit_after`,
`kill_after`, `hang_after`; `customers` is how many there are at the source.
"""

import os
import signal
import subprocess
import sys
import time
from decimal import Decimal

from fivetran_connector_sdk import Connector
from fivetran_connector_sdk import Logging as log
from fivetran_connector_sdk import Operations as op

EVERY_TYPE = {
    "id": 1,
    "flag": True,
    "small": 32767,
    "whole": -2147483648,
    "large": 9007199254740993,
    "amount": "12345678901234567890.123456789",
    "single": 0.1,
    "double": 123456.7890123,
    "day": "2007-12-03",
    "naive": "2007-12-03T10:15:30.123456",
    "utc": "2007-12-03T10:15:30.123+02:00",
    "data": b"\x00\xffA",
    "xml": '<a>ä &amp; "b"</a>',
    "text": "line\nfeed, \t tab, 'quote' \\ ☃",
    "doc": {"a": [1, None, "ü"], "b": {"c": 1.5}},
    "word": "a JSON text",
    "nothing": None,
}


def schema(configuration):
    return [
        {"table": "customers", "primary_key": ["id"], "columns": {"id": "LONG", "name": "STRING"}},
        {
            "table": "every_type",
            "primary_key": ["id"],
            "columns": {
                "id": "INT",
                "flag": "BOOLEAN",
                "small": "SHORT",
                "whole": "INT",
                "large": "LONG",
                "amount": {"type": "DECIMAL", "precision": 38, "scale": 9},
                "single": "FLOAT",
                "double": "DOUBLE",
                "day": "NAIVE_DATE",
                "naive": "NAIVE_DATETIME",
                "utc": "UTC_DATETIME",
                "data": "BINARY",
                "xml": "XML",
                "text": "STRING",
                "doc": "JSON",
                "word": "JSON",
                "nothing": "STRING",
            },
        },
        {"table": "notes", "columns": {"text": "STRING"}},
    ]


def trouble(configuration, sent):
    if configuration.get("raise_after") == str(sent):
        raise ValueError(f"the source is closed: {configuration.get('password', '')}")
    if configuration.get("exit_after") == str(sent):
        sys.exit("enough")
    if configuration.get("kill_after") == str(sent):
        os.kill(os.getpid(), signal.SIGKILL)
    if configuration.get("hang_after") == str(sent):
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        print(f"started {child.pid}", flush=True)  # noqa: T201
        time.sleep(600)


def update(configuration, state):
    log.info(f"begins after {state.get('after', 0)} with {configuration.get('password', 'no password')}")
    print("a line of its own", file=sys.stderr)  # noqa: T201
    after = state.get("after", 0)
    if after == 0:
        op.upsert("every_type", EVERY_TYPE)
        for text in ("twice", "twice", "once"):
            op.upsert("notes", {"text": text})
        op.warning("the source is slow today")
    for number in range(after + 1, int(configuration.get("customers", "6")) + 1):
        op.upsert("customers", {"id": number, "name": f"customer {number}", "points": Decimal(number) / 4})
        op.upsert("visits", {"customer": number})  # declared nowhere
        trouble(configuration, number)
        if number % 2 == 0:
            op.checkpoint({"after": number})
    if after == 0 and configuration.get("changes") == "yes":
        op.update("customers", {"id": 1, "name": "renamed"})
        op.delete("customers", {"id": 2})
        op.truncate("notes")
        op.upsert("notes", {"text": "afterwards"})
        op.checkpoint({"after": int(configuration.get("customers", "6"))})


connector = Connector(update=update, schema=schema)

if __name__ == "__main__":
    connector.debug()
