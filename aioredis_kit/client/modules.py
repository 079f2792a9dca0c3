"""redis-py's module classes whose pipelines, or methods, don't work with an asynchronous client of redis-py's.

Rules of this file:

1. What redis-py does right is redis-py's. The commands of a module's pipeline are those of redis-py's class for it; all
   else about the pipeline is ours.
2. A pipeline or object with response callbacks of its own has a view of the client for them.
"""

from __future__ import annotations

import time
import warnings
from typing import TYPE_CHECKING, Any

from redis.commands.json import AsyncJSON
from redis.commands.json.commands import JSONCommands
from redis.commands.search import AsyncPipeline as StockSearchPipeline
from redis.commands.search import AsyncSearch
from redis.commands.search.aggregation import AggregateRequest
from redis.commands.timeseries import AsyncTimeSeries
from redis.commands.timeseries.commands import TimeSeriesCommands

from aioredis_kit.client.pipelines import Pipeline

if TYPE_CHECKING:
    from collections.abc import Mapping

    from redis.commands.search.query import Query

    from aioredis_kit.client.commands import CommandClient


class JSONPipeline(JSONCommands, Pipeline):  # type: ignore[misc]  # JSON's methods take the place of others
    """A pipeline whose ``get``, ``set`` and so on are those of JSON."""

    def __init__(self, client: CommandClient, json: JSON, *, transaction: bool, shard_hint: str | None) -> None:
        super().__init__(client, transaction=transaction, shard_hint=shard_hint)
        self._encode, self._decode = json._encode, json._decode  # noqa: SLF001  # what its methods call


class JSON(AsyncJSON):
    """``client.json()``. See redis-py."""

    client: CommandClient

    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> JSONPipeline:  # noqa: FBT001, FBT002  # as redis-py
        """Return a pipeline whose ``get``, ``set`` and so on are those of JSON.

        Args:
            transaction: Whether it is a ``MULTI`` block.
            shard_hint: redis-py's argument; without effect.
        """
        return JSONPipeline(self.client, self, transaction=transaction, shard_hint=shard_hint)


class TimeSeriesPipeline(TimeSeriesCommands, Pipeline):  # type: ignore[misc]  # as above
    """A pipeline whose ``get``, ``add`` and so on are those of time series."""


class TimeSeries(AsyncTimeSeries):
    """``client.ts()``. See redis-py."""

    client: CommandClient

    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> TimeSeriesPipeline:  # noqa: FBT001, FBT002  # as redis-py
        """Return a pipeline whose ``get``, ``add`` and so on are those of time series.

        Args:
            transaction: Whether it is a ``MULTI`` block.
            shard_hint: redis-py's argument; without effect.
        """
        return TimeSeriesPipeline(self.client, transaction=transaction, shard_hint=shard_hint)


class _Profiling:
    """Has the methods of redis-py's that don't await their command."""

    index_name: Any
    execute_command: Any

    async def profile(
        self,
        query: Query | AggregateRequest,
        limited: bool = False,  # noqa: FBT001, FBT002  # as redis-py
        query_params: Mapping[str, Any] | None = None,
    ) -> Any:
        """Search or aggregate, and tell how the server did it. See redis-py.

        Raises:
            RedisError: As ``execute_command`` of the client.

        Cancellation:
            As a command's.
        """
        began = time.monotonic()
        words = ["LIMITED", "QUERY"] if limited else ["QUERY"]
        if isinstance(query, AggregateRequest):
            args = ["FT.PROFILE", self.index_name, "AGGREGATE", *words, *query.build_args()]
        else:
            given = self.get_params_args(query_params)  # type: ignore[attr-defined]  # redis-py's
            args = ["FT.PROFILE", self.index_name, "SEARCH", *words, *query.get_args(), *given]
        reply = await self.execute_command(*args)
        took = (time.monotonic() - began) * 1000.0
        return self._parse_results("FT.PROFILE", reply, query=query, duration=took)  # type: ignore[attr-defined]  # as above

    async def syndump(self) -> Any:
        """Return the synonyms, and their groups. See redis-py.

        Raises:
            RedisError: As ``execute_command`` of the client.

        Cancellation:
            As a command's.
        """
        reply = await self.execute_command("FT.SYNDUMP", self.index_name)
        return self._parse_results("FT.SYNDUMP", reply)  # type: ignore[attr-defined]  # redis-py's


class SearchPipeline(_Profiling, StockSearchPipeline, Pipeline):  # type: ignore[misc]  # as above
    """A pipeline with the methods of search, in which ``search`` and so on note a command as all others do."""

    def __init__(self, client: CommandClient, index_name: str, *, transaction: bool, shard_hint: str | None) -> None:
        Pipeline.__init__(self, client, transaction=transaction, shard_hint=shard_hint)
        self.index_name = index_name
        self._known: dict[str, Any] = {}  # what the response callbacks of the next command have to know
        self._init_module_callbacks()  # type: ignore[no-untyped-call]  # redis-py's
        self._register_module_callbacks()  # type: ignore[no-untyped-call]  # redis-py's

    get = StockSearchPipeline.get  # of documents

    def execute_command(self, *args: Any, **options: Any) -> Any:
        """Note a command."""
        return super().execute_command(*args, **self._known, **options)

    async def aggregate(self, query: Any, query_params: Any = None) -> Any:
        """Note an aggregation. See redis-py.

        Cancellation:
            Safe.
        """
        has_cursor = bool(query._cursor) if isinstance(query, AggregateRequest) else True  # noqa: SLF001  # as redis-py
        return await self._with(super().aggregate(query, query_params), query=query, has_cursor=has_cursor)

    async def profile(  # type: ignore[override]  # which doesn't await its command
        self,
        query: Query | AggregateRequest,
        limited: bool = False,  # noqa: FBT001, FBT002  # as redis-py
        query_params: Mapping[str, Any] | None = None,
    ) -> Any:
        """Note a search or aggregation to be profiled. See redis-py.

        Cancellation:
            Safe.
        """
        return await self._with(super().profile(query, limited, query_params), query=query, duration=0)

    async def _with(self, noting: Any, **known: Any) -> Any:
        self._known = known
        try:
            return await noting
        finally:
            self._known = {}

    def _parse_results(self, cmd: str, res: Any, **known: Any) -> Any:
        """Leave it to the response callback: there is no reply yet."""
        return res if res is self else super()._parse_results(cmd, res, **known)  # type: ignore[no-untyped-call]  # redis-py's


class Search(_Profiling, AsyncSearch):  # type: ignore[misc]  # redis-py's doesn't await its command
    """``client.ft()``. See redis-py."""

    client: CommandClient

    class BatchIndexer(AsyncSearch.BatchIndexer):
        """See redis-py. What was not committed can't be when this is collected: it is told then."""

        def __del__(self) -> None:
            if getattr(self, "current_chunk", 0):
                warnings.warn(
                    f"{self.current_chunk} documents of a batch were not committed", ResourceWarning, stacklevel=2
                )

    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> SearchPipeline:  # noqa: FBT001, FBT002  # as redis-py
        """Return a pipeline with the methods of search.

        Args:
            transaction: Whether it is a ``MULTI`` block.
            shard_hint: redis-py's argument; without effect.
        """
        view = self.client.with_options()
        return SearchPipeline(view, self.index_name, transaction=transaction, shard_hint=shard_hint)
