"""dbt, in this process: its manifest as plain records, and one invocation for the stale part."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trunkline.errors import EngineError, ProjectError
from trunkline.project.redact import redact
from trunkline.transform.portable import Function, find_functions
from trunkline.transform.snowpark import HANDLER, SNOWFLAKE_TYPES, handler_packages, handler_source

_QUIET = ["--no-use-colors", "--no-write-json", "--log-level", "none", "--no-partial-parse"]


@dataclass(frozen=True)
class NodeResult:
    """What became of one dbt node. `status` is dbt's own: success, pass, warn, error, fail, skipped."""

    unique_id: str
    status: str
    seconds: float
    message: str
    rows: int | None

    @property
    def ok(self) -> bool:
        """Whether steps that depend on it may go on."""
        return self.status in ("success", "pass", "warn", "no-op")


class Dbt:
    """One dbt runner for one command: imported once, parsed once, its manifest reused by every invocation."""

    def __init__(self, root: Path, target: str, profiles_dir: Path, settings: Mapping[str, Any] | None = None) -> None:
        """`settings` is the target's profile: what it holds of secrets is taken out of dbt's messages."""
        self._root = root
        self._settings = settings or {}
        self._arguments = [
            "--project-dir",
            str(root),
            "--profiles-dir",
            str(profiles_dir),
            "--target",
            target,
            "--target-path",
            str(root / ".trunkline" / "dbt"),
            "--log-path",
            str(root / ".trunkline" / "dbt" / "logs"),
        ]
        self._manifest: Any = None

    def parse(self) -> dict[str, Any]:
        """The manifest as plain data: `nodes`, `functions`, `sources`, `macros`, `exposures` by unique id.

        Raises `ProjectError` with dbt's own message, or ours for a function that is not portable.
        """
        functions = {function.name: function for function in find_functions(self._root)}
        with _python_is_not_jinja():
            result = self._invoke(["parse"], None)
        if not result.success:
            raise ProjectError(
                f"dbt cannot parse the project: {self._told(result.exception)}", file=self._root / "dbt_project.yml"
            )
        self._manifest = result.result
        for node in self._manifest.functions.values():
            if node.package_name == self._manifest.metadata.project_name and node.name in functions:
                _give_handler(node, functions[node.name], self._manifest.metadata.adapter_type)
        data: dict[str, Any] = self._manifest.to_dict(omit_none=True)
        return data

    def build(self, selectors: Sequence[str], on_node: Callable[[str, str], None]) -> list[NodeResult]:
        """`dbt build` of exactly the selected nodes. `on_node` gets (unique id, "start" or a status) as it happens."""
        if self._manifest is None:
            self.parse()
        arguments = ["build", "--indirect-selection", "empty", "--select", *selectors]

        def watch(event: Any) -> None:
            if event.info.name == "NodeStart":
                on_node(event.data.node_info.unique_id, "start")
            elif event.info.name == "NodeFinished":
                on_node(event.data.node_info.unique_id, event.data.node_info.node_status)

        result = self._invoke(arguments, watch)
        if result.result is None:
            raise EngineError(f"dbt build did not run: {self._told(result.exception)}")
        return [self._node(item) for item in result.result]

    def _invoke(self, arguments: list[str], watch: Callable[[Any], None] | None) -> Any:
        with _quiet_environment():
            from dbt.cli.main import dbtRunner

            runner = dbtRunner(manifest=self._manifest, callbacks=[watch] if watch else [])
            result = runner.invoke([*_QUIET, *arguments, *self._arguments])
        if isinstance(result.exception, KeyboardInterrupt):  # dbt hands Ctrl-C over as a result
            raise KeyboardInterrupt
        return result

    def _node(self, item: Any) -> NodeResult:
        response: Mapping[str, Any] = item.adapter_response or {}
        rows = response.get("rows_affected")
        status = str(getattr(item.status, "value", item.status))
        message = redact(str(item.message or ""), self._settings)
        return NodeResult(item.node.unique_id, status, float(item.execution_time), message, rows)

    def _told(self, exc: BaseException | None) -> str:
        return " ".join(redact(str(exc), self._settings).split()) if exc is not None else "no reason given"


def _give_handler(node: Any, function: Function, adapter: str) -> None:
    """Make dbt write CREATE FUNCTION for the handler that both warehouses agree on, instead of for the user's file.

    On DuckDB, where dbt uses nothing of it, it gives the node the fingerprint of all the files it consists of.
    """
    node.raw_code = handler_source(function)
    node.config.entry_point = HANDLER
    node.config.runtime_version = function.runtime
    node.config.packages = list(handler_packages(function))
    if adapter != "snowflake":
        return
    for argument, (_, kind) in zip(node.arguments, function.arguments, strict=True):
        argument.data_type = SNOWFLAKE_TYPES[kind]
    node.returns.data_type = SNOWFLAKE_TYPES[function.returns]


@contextlib.contextmanager
def _python_is_not_jinja() -> Iterator[None]:
    """dbt renders the text of a Python *function* as Jinja when it parses (that of a Python model it does not): the
    `{{` of an f-string would stop it. What it parsed for is known from the declaration alone."""
    from dbt.parser.functions import FunctionParser

    rendered: Any = FunctionParser.render_with_context

    def render(parser: Any, node: Any, config: Any) -> Any:
        return parser._context_for(node, config) if node.language == "python" else rendered(parser, node, config)

    setattr(FunctionParser, "render_with_context", render)  # noqa: B010 - mypy knows no patches
    try:
        yield
    finally:
        del FunctionParser.render_with_context


@contextlib.contextmanager
def _quiet_environment() -> Iterator[None]:
    """dbt reads its switches from the environment and warns into our output: set and mend both around each call."""
    import warnings

    before = dict(os.environ)
    os.environ.update(DBT_SEND_ANONYMOUS_USAGE_STATS="false", DO_NOT_TRACK="1")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        os.environ.clear()
        os.environ.update(before)
