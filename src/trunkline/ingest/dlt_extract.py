"""dlt's extraction as events: its pipes, transformers, incrementals and state, without its pipeline and its loads."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, cast

import orjson
from dlt.common import json
from dlt.common.configuration.container import Container
from dlt.common.configuration.providers import ConfigTomlProvider, EnvironProvider, SecretsTomlProvider
from dlt.common.configuration.resolve import inject_section, resolve_configuration
from dlt.common.configuration.specs import ConfigSectionContext, RuntimeConfiguration
from dlt.common.configuration.specs.pluggable_run_context import PluggableRunContext
from dlt.common.pipeline import StateInjectableContext
from dlt.common.runtime.run_context import RunContext
from dlt.common.schema import Schema
from dlt.extract import DltResource, DltSource
from dlt.extract.extractors import ImportFileMeta
from dlt.extract.incremental import Incremental, IncrementalResourceWrapper
from dlt.extract.items import TableNameMeta
from dlt.extract.items_transform import FilterItem, LimitItem, MapItem, MetricsItem, ValidateItem
from dlt.extract.pipe_iterator import PipeIterator
from dlt.extract.source import SourceInjectableContext, SourceSchemaInjectableContext
from dlt.extract.state import reset_resource_state

from trunkline.errors import SourceError, did_you_mean
from trunkline.ingest import streams
from trunkline.ingest.dlt_errors import raised
from trunkline.ingest.dlt_hints import heeded
from trunkline.ingest.protocol import Reach, Table

_INCREMENTAL = (Incremental, IncrementalResourceWrapper)
_IN_STEP = (FilterItem, LimitItem, MapItem, MetricsItem, ValidateItem)  # one item in, one item out


class Extraction:
    """One read of a dlt source. `open_source` is called inside dlt's contexts, in the thread that reads.

    `tables` are what is wanted, by the name of the resource, or of the table that dlt would make of it. `notes` tell of
    rows that are for no table, `orders` of the columns by which resources tell the last row of a key, by table.
    """

    def __init__(self, reach: Reach, tables: Mapping[str, Table], state: Any, open_source: Callable[[], Any]) -> None:
        self._reach = reach
        self._tables = tables
        self._named = {table.name: table for table in tables.values()}
        self._open = open_source
        self._passed_over: set[str] = set()
        self.notes: list[str] = []
        self.orders: dict[str, str] = {}
        self._pipeline: dict[str, Any] = {"sources": _typed(state)}

    def events(self) -> Iterator[streams.Event]:
        """Rows of the tables; a checkpoint at the end, and after each page that comes in the order of its cursor."""
        with _isolated(self._reach), raised(self._reach):
            found = self._source(self._open())
            source = found.with_resources(*self._wanted(found))
            for table, resource in self._matched(source):
                if (order := heeded(table, resource)) is not None:
                    self.orders[table.source] = order
            yield from self._extracted(source)
        yield self._checkpoint()

    def _extracted(self, source: DltSource) -> Iterator[streams.Event]:
        alone = len(source.resources.extracted) == 1
        with _contexts(source, self._pipeline):
            for resource in source.resources.extracted:
                table = self._tables.get(resource.name)
                if (table.load if table else str(resource.write_disposition)).startswith("replace"):
                    reset_resource_state(resource.name)
            with PipeIterator.from_pipes(source.resources.selected_pipes) as items:
                for item in items:
                    resource = source.resources.with_pipe(item.pipe)
                    if isinstance(item.meta, ImportFileMeta):
                        raise SourceError(
                            f"resource {resource.name!r} hands over files", hint="use `connector: files` for them"
                        )
                    for table, rows in self._by_table(resource, item.item, item.meta):
                        yield streams.Rows(table.source, rows)
                    if alone and _ordered(item.pipe):
                        yield self._checkpoint()

    def _checkpoint(self) -> streams.Checkpoint:
        return streams.Checkpoint(_settled(orjson.loads(json.typed_dumps(self._pipeline["sources"]))))

    def _by_table(self, resource: DltResource, item: Any, meta: Any) -> Iterator[tuple[Table, Any]]:
        """The rows of an item by table, without those that no table is declared for."""
        if isinstance(meta, TableNameMeta):
            named = [(meta.table_name, item)]
        elif resource.has_dynamic_table_name and resource._table_name_hint_fun:
            named = [(resource._table_name_hint_fun(row), row) for row in (item if isinstance(item, list) else [item])]
        else:
            table = self._tables.get(resource.name) or self._tables.get(str(resource.table_name))
            if table is not None:
                yield table, item
            return
        for name, rows in named:
            table = self._named.get(name) or self._tables.get(name)
            if table is not None:
                yield table, rows
            elif name not in self._passed_over:
                self._passed_over.add(name)
                self.notes.append(f"rows for {name!r} were passed over: no such table is declared")

    def _source(self, made: Any) -> DltSource:
        """What the user's function gave, as a source."""
        if isinstance(made, DltSource):
            return made
        resources = list(made) if isinstance(made, list | tuple) else [made]
        if not resources or not all(isinstance(item, DltResource) for item in resources):
            raise SourceError(
                f"{self._reach.name}: {type(made).__name__} is no dlt source or resource",
                hint="name a function under `@dlt.source` or `@dlt.resource`",
            )
        name = re.sub(r"[^a-z0-9_]+", "_", self._reach.name.lower()).strip("_")[:60]
        return DltSource(Schema(name), resources[0].section or name, resources)

    def _wanted(self, source: DltSource) -> list[str]:
        """The resources that the tables are filled from; for a name that is none, those that name tables as they go."""
        wanted = dict.fromkeys(resource.name for _, resource in self._matched(source))
        matched = {table.source for table, _ in self._matched(source)}
        for name, table in self._tables.items():
            if table.source in matched:
                continue
            moving = [item.name for item in source.resources.values() if item.has_dynamic_table_name]
            if not moving:
                raise SourceError(
                    f"{table.source}: the dlt source has no resource {name!r}.{did_you_mean(name, source.resources)}",
                    hint=f"resources: {', '.join(source.resources)}; name one with `resource:`",
                )
            wanted |= dict.fromkeys(moving)
        return list(wanted)

    def _matched(self, source: DltSource) -> Iterator[tuple[Table, DltResource]]:
        for name, table in self._tables.items():
            for resource in source.resources.values():
                static = None if resource.has_dynamic_table_name else resource.table_name
                if name in (resource.name, static):
                    yield table, resource


def _ordered(pipe: Any) -> bool:
    """Whether rows come in the order of the cursor that dlt keeps, so that its state between two items covers just the
    rows before: the pipe's incremental says so, and no step spreads an item."""
    steps = pipe.steps[1:]
    found = [getattr(step, "incremental", None) or step for step in steps if isinstance(step, _INCREMENTAL)]
    in_step = all(isinstance(step, (*_INCREMENTAL, *_IN_STEP)) or hasattr(step, "only_looks") for step in steps)
    return in_step and any(getattr(step, "row_order", None) == "asc" for step in found)


def _typed(state: Any) -> dict[str, Any]:
    return dict(json.typed_loads(orjson.dumps(state).decode())) if state else {}


def _settled(state: Any) -> Any:
    """Equal for equal states: the hashes of the rows at an incremental's last value are a set to dlt, and a list in its
    state, in an order that differs from process to process."""
    if isinstance(state, list):
        return [_settled(item) for item in state]
    if not isinstance(state, dict):
        return state
    return {key: sorted(value) if key == "unique_hashes" else _settled(value) for key, value in state.items()}


class _Run(RunContext):
    """dlt's surroundings: settings from the environment and the project's `.dlt`, never from the home folder."""

    def __init__(self, root: Path, scratch: Path) -> None:
        super().__init__(str(root))
        self._global_dir = str(scratch / "dlt")
        self._root = root

    @property
    def run_dir(self) -> str:
        return str(self._root)

    @property
    def data_dir(self) -> str:
        return self._global_dir

    @property
    def local_dir(self) -> str:
        return self._global_dir

    def initial_providers(self) -> list[Any]:
        settings = str(self._root / ".dlt")
        return [EnvironProvider(), SecretsTomlProvider(settings), ConfigTomlProvider(settings)]

    def initialize_runtime(self, runtime_config: RuntimeConfiguration | None = None) -> None:
        if self._runtime_config is None:
            quiet = {"dlthub_telemetry": False, "sentry_dsn": None, "dlthub_dsn": None, "log_level": "CRITICAL"}
            runtime_config = resolve_configuration(RuntimeConfiguration(), explicit_value=quiet)
            super().initialize_runtime(runtime_config)


@contextmanager
def _isolated(reach: Reach) -> Iterator[None]:
    run = PluggableRunContext(_Run(reach.root, reach.scratch))
    with Container().injectable_context(run):
        yield


@contextmanager
def _contexts(source: DltSource, pipeline: dict[str, Any]) -> Iterator[None]:
    """What dlt's pipeline puts around its own extraction."""
    container = Container()
    section = ConfigSectionContext(sections=("sources", source.section, source.name), source_state_key=source.name)
    with ExitStack() as stack:
        stack.enter_context(container.injectable_context(StateInjectableContext(state=cast(Any, pipeline))))
        stack.enter_context(container.injectable_context(SourceSchemaInjectableContext(source.schema)))
        stack.enter_context(container.injectable_context(SourceInjectableContext(source)))
        stack.enter_context(inject_section(section))
        yield
