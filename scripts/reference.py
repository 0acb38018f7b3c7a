"""Writes docs/reference/ and the table of docs/warehouses.md: what the code itself says.

python scripts/reference.py          writes the pages
python scripts/reference.py --check  exits with 1 if a page is not what the code says
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import UnionType
from typing import Any, get_args

import click
import msgspec

from trunkline import errors
from trunkline.cli.main import COMMANDS, _trunkline
from trunkline.ledger.schema import TABLES
from trunkline.project import config, connectors, deploy

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "docs" / "reference"
NOTE = "<!-- Written by scripts/reference.py from the code: change the code, then run it. -->\n\n"


def cli() -> str:
    """The help page of every command."""
    context = click.Context(_trunkline, info_name="trunkline", max_content_width=100, terminal_width=100)
    pages = [
        NOTE + "# Command line\n\nEvery command answers `--help`; those on a project take `--target` and `--json`.\n"
    ]
    pages.append(f"```text\n{_trunkline.get_help(context)}\n```\n")
    for name in COMMANDS:
        command = _trunkline.get_command(context, name)
        assert command is not None
        below = click.Context(command, parent=context, info_name=name, max_content_width=100, terminal_width=100)
        pages.append(f"## {name}\n\n```text\n{command.get_help(below)}\n```\n")
        for inner in command.list_commands(below) if isinstance(command, click.Group) else ():
            part = command.get_command(below, inner)
            assert part is not None
            text = part.get_help(
                click.Context(part, parent=below, info_name=inner, max_content_width=100, terminal_width=100)
            )
            pages.append(f"### {name} {inner}\n\n```text\n{text}\n```\n")
    return "\n".join(pages)


def configuration() -> str:
    """Every key of the YAML that is ours, with its type and default."""
    parts = [
        NOTE + "# Configuration\n",
        "dbt's own files are unchanged. These keys are Trunkline's; an unknown key is an error with the close match.\n",
        *_struct("`trunkline.yml`", config.Config),
        *_struct("`deploy/NAME.yml`", deploy.DeploymentFile),
        *(
            line
            for name, kind in connectors.CONNECTORS.items()
            for line in _struct(f"`config.meta.trunkline` of a source or a source table, `connector: {name}`", kind)
        ),
    ]
    return "\n".join(parts)


def _struct(title: str, kind: type[msgspec.Struct]) -> Iterator[str]:
    yield f"## {title}\n"
    yield from _rows("", kind)


def _rows(prefix: str, kind: Any) -> Iterator[str]:
    nested = []
    yield f"{inspect.getdoc(kind)}\n"
    yield "| key | type | default |\n|---|---|---|"
    for item in msgspec.structs.fields(kind):
        inner = _struct_of(item.type)
        default = f"`{item.default!r}`" if item.default is not msgspec.NODEFAULT else ""
        default = "required" if item.required else ("" if inner else default)
        yield f"| `{prefix}{item.name}` | {_type_name(item.type)} | {default} |"
        if inner:
            nested.append((f"{prefix}{item.name}." + ("" if inner in _either(item.type) else "NAME."), inner))
    yield ""
    for inner_prefix, inner_kind in nested:
        yield f"### `{inner_prefix[:-1]}`\n"
        yield from _rows(inner_prefix, inner_kind)


def _struct_of(kind: Any) -> Any:
    """The struct that a type is, or holds as a mapping's values."""
    candidates = (kind, *getattr(kind, "__args__", ()))
    return next((k for k in candidates if isinstance(k, type) and issubclass(k, msgspec.Struct)), None)


def _either(kind: Any) -> tuple[Any, ...]:
    """The types of a union, or the one type."""
    return get_args(kind) if isinstance(kind, UnionType) else (kind,)


def _type_name(kind: Any) -> str:
    name = kind.__name__ if isinstance(kind, type) and not getattr(kind, "__args__", None) else str(kind)
    return name.replace("trunkline.project.deploy.", "").replace("typing.", "").replace("|", "or")


def error_page() -> str:
    """Every error and its exit code."""
    lines = [
        NOTE + "# Errors\n",
        f"```text\n{inspect.getdoc(errors)}\n```\n",
        "| error | exit code | meaning |\n|---|---|---|",
    ]
    for name in errors.__all__:
        kind = getattr(errors, name)
        if isinstance(kind, type):
            meaning = (inspect.getdoc(kind) or "").splitlines()[0]
            lines.append(f"| `{name}` | {kind.exit_code} | {meaning} |")
    return "\n".join(lines) + "\n"


def ledger() -> str:
    """The ledger's tables."""
    lines = [NOTE + "# The ledger\n", "Plain tables in the schema `trunkline` of your own warehouse.\n"]
    for table, columns in TABLES.items():
        lines.append(f"- `trunkline.{table}`: " + ", ".join(f"`{name}` {kind}" for name, kind in columns))
    return "\n".join(lines) + "\n"


def warehouses() -> str:
    """What the conformance suite shows of each warehouse it runs on: `tests/contract`."""
    sys.path.insert(0, str(ROOT))
    from tests.contract.matrix import WAREHOUSES
    from trunkline.testing.warehouse_suite import WarehouseSuite, behaviours

    notes: dict[str, int] = {}
    lines = ["| | capability | " + " | ".join(tried.name for tried in WAREHOUSES) + " |", "|---" * 6 + "|"]
    for test, (text, capabilities) in behaviours(WarehouseSuite).items():
        cells = [_cell(tried, test, capabilities, notes) for tried in WAREHOUSES]
        names = ", ".join(f"`{capability.__name__}`" for capability in capabilities)
        lines.append(f"| {text} | {names} | {' | '.join(cells)} |")
    listed = [f"{number}. {text}" for text, number in notes.items()]
    return "\n".join([*lines, "", *listed]) + "\n"


def loads() -> str:
    """What the load suite shows of each warehouse it runs on."""
    sys.path.insert(0, str(ROOT))
    from tests.contract.matrix import LOADED
    from trunkline.testing.load_suite import LoadSuite
    from trunkline.testing.warehouse_suite import behaviours

    notes: dict[str, int] = {}
    lines = ["| | " + " | ".join(tried.name for tried in LOADED) + " |", "|---" * (1 + len(LOADED)) + "|"]
    for test, (text, capabilities) in behaviours(LoadSuite).items():
        lines.append(f"| {text} | {' | '.join(_cell(tried, test, capabilities, notes) for tried in LOADED)} |")
    listed = [f"{number}. {text}" for text, number in notes.items()]
    return "\n".join([*lines, "", *listed]) + "\n"


def _cell(tried: Any, test: str, capabilities: tuple[type, ...], notes: dict[str, int]) -> str:
    module, _, name = tried.adapter.partition(":")
    adapter = getattr(import_module(module), name)
    if not all(issubclass(adapter, capability) for capability in capabilities):
        return "no"
    if test in tried.lacks:
        lack = tried.lacks[test]
        word = "emulator cannot" if lack.emulator else "no"
        return f"{word} ({notes.setdefault(lack.reason, len(notes) + 1)})"
    partly = [
        f"`{key.removeprefix(test)[1:-1]}`{' on the emulator' if lack.emulator else ''}: {lack.reason}"
        for key, lack in tried.lacks.items()
        if key.startswith(f"{test}[")
    ]
    return "yes" + "".join(f" ({notes.setdefault(text, len(notes) + 1)})" for text in partly)


PAGES = {"cli.md": cli, "configuration.md": configuration, "errors.md": error_page, "ledger.md": ledger}


TABLES_IN = {
    ROOT / "docs" / "warehouses.md": warehouses,
    ROOT / "docs" / "contracts.md": loads,
}  # between two marks of a page that is written by hand
BEGIN, END = "<!-- Written by scripts/reference.py from the code. -->\n", "<!-- To here. -->\n"


def _with_table(path: Path, table: str) -> str:
    before, _, rest = path.read_text("utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{table}\n{END}{after}"


def main() -> int:
    """Write or check all pages."""
    stale = []
    texts = {FOLDER / name: make() for name, make in PAGES.items()}
    texts |= {path: _with_table(path, make()) for path, make in TABLES_IN.items()}
    for path, text in texts.items():
        if "--check" in sys.argv:
            stale += [path.name] if not path.exists() or path.read_text("utf-8") != text else []
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, "utf-8")
    if stale:
        print(f"docs: {', '.join(stale)} not what the code says; run `python scripts/reference.py`")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
