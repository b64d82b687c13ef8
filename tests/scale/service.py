"""A stand-in for LanceDB Cloud: what its client asks over HTTP, answered by the open engine.

It knows the requests that ByHeart's calls lead to, and refuses what the service is known to refuse
(compaction is its own job, `add_columns` takes SQL). How the real one behaves beyond that, under
load or across its nodes, it can't tell.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import lancedb
import pyarrow as pa
from lancedb.index import FTS
from lancedb.query import ColumnOrdering, MatchQuery
from lancedb.table import AsyncTable

ARROW = "application/vnd.apache.arrow.stream"
KEY = "a-key"
_NAMES = {pa.float32(): "float", pa.float64(): "double", pa.bool_(): "bool"}

Answer = dict[str, Any] | list[Any] | int | pa.Table


class Service:
    """The tables of one database, and the requests that were made of them."""

    def __init__(self, folder: Path) -> None:
        self.asked: list[str] = []
        self.loop = asyncio.new_event_loop()
        threading.Thread(target=self.loop.run_forever, daemon=True).start()
        self._database = self.run(lancedb.connect_async(str(folder)))

    def run(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(60)

    async def tables(self) -> Answer:
        return {"tables": (await self._database.list_tables()).tables}

    async def asked_of(self, name: str, what: str, given: Any, query: dict[str, str]) -> Answer:
        if what == "create":
            table = await self._database.create_table(name, given)
            return {"table": name, "version": await table.version()}
        table = await self._database.open_table(name)
        if isinstance(given, dict) and given.get("version"):
            await table.checkout(given["version"])
        answer: Answer = await getattr(self, what.replace("/", "_"))(table, given, query)
        return answer

    async def describe(self, table: AsyncTable, *_: Any) -> Answer:
        schema = await table.schema()
        fields = [_described(field) for field in schema]
        version = await table.version()
        return {"table": table.name, "version": version, "schema": {"fields": fields}}

    async def stats(self, table: AsyncTable, *_: Any) -> Answer:
        return dict(await table.stats())

    async def count_rows(self, table: AsyncTable, given: Any, _: Any) -> Answer:
        return await table.count_rows(given.get("predicate"))

    async def insert(self, table: AsyncTable, given: Any, _: Any) -> Answer:
        return {"version": (await table.add(given)).version}

    async def merge_insert(self, table: AsyncTable, given: Any, query: dict[str, str]) -> Answer:
        merge = table.merge_insert(query["on"].split(","))
        if query.get("when_matched_update_all") == "true":
            merge = merge.when_matched_update_all()
        if query.get("when_not_matched_insert_all") == "true":
            merge = merge.when_not_matched_insert_all()
        return {"version": (await merge.execute(given)).version}

    async def delete(self, table: AsyncTable, given: Any, _: Any) -> Answer:
        return {"version": (await table.delete(given["predicate"])).version}

    async def update_field_metadata(self, table: AsyncTable, given: Any, _: Any) -> Answer:
        for update in given["updates"]:
            kept = {name: update[name] for name in ("path", "metadata")}
            await table.update_field_metadata(kept)
        return {"version": await table.version()}

    async def add_columns(self, table: AsyncTable, given: Any, _: Any) -> Answer:
        columns = given["new_columns"]  # a refusal for whatever is no SQL
        await table.add_columns({one["name"]: one["expression"] for one in columns})
        return {"version": await table.version()}

    async def drop_columns(self, table: AsyncTable, given: Any, _: Any) -> Answer:
        await table.drop_columns(given["columns"])
        return {"version": await table.version()}

    async def create_index(self, table: AsyncTable, given: Any, _: Any) -> Answer:
        options = {k: v for k, v in given.items() if k in FTS.__dataclass_fields__}
        await table.create_index(given["column"], config=FTS(**options))
        return {}

    async def index_list(self, table: AsyncTable, *_: Any) -> Answer:
        return {
            "indexes": [
                {"index_name": one.name, "columns": one.columns, "index_type": one.index_type}
                for one in await table.list_indices()
            ]
        }

    async def query(self, table: AsyncTable, given: Any, _: Any) -> Answer:
        query: Any = table.query()
        if text := given.get("full_text_query"):
            match = text["query"]["match"] if isinstance(text["query"], dict) else None
            query = query.nearest_to_text(
                MatchQuery(match["terms"], match["column"]) if match else text["query"]
            )
        elif given.get("vector"):
            query = query.nearest_to(given["vector"]).column(given["vector_column"])
        if given.get("filter"):
            query = query.where(given["filter"])
        if given.get("columns"):
            query = query.select(given["columns"])
        if given.get("with_row_id"):
            query = query.with_row_id()
        if order := given.get("order_by"):
            query = query.order_by(
                [
                    ColumnOrdering(column_name=o["column_name"], ascending=o["ascending"])
                    for o in order
                ]
            )
        if given["k"] < 1 << 31:
            query = query.limit(given["k"])
        return await query.to_arrow()


def _described(field: pa.Field) -> dict[str, Any]:
    kept = {key.decode(): value.decode() for key, value in (field.metadata or {}).items()}
    return {
        "name": field.name,
        "type": _type(field.type),
        "nullable": field.nullable,
        "metadata": kept,
    }


def _type(kind: pa.DataType) -> dict[str, Any]:
    if pa.types.is_fixed_size_list(kind):
        item = [_described(kind.value_field)]
        return {"type": "fixed_size_list", "fields": item, "length": kind.list_size}
    if pa.types.is_list(kind):
        return {"type": "list", "fields": [_described(kind.value_field)]}
    if pa.types.is_timestamp(kind):
        return {"type": f"timestamp:{kind.unit}:{kind.tz or '-'}"}
    return {"type": _NAMES.get(kind, str(kind))}


@contextmanager
def service(folder: Path) -> Iterator[tuple[str, Service]]:
    """A service that listens on this machine; its address, and itself."""
    behind = Service(folder)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body, (_, _, path, query, _) = self._body(), urlsplit(self.path)
            behind.asked.append(path)
            if self.headers["x-api-key"] != KEY:
                return self._answer(401, b'{"error": "Unauthorized"}', "application/json")
            try:
                answer = behind.run(self._asked(path, query, body))
            except (ValueError, RuntimeError, OSError, KeyError) as error:
                return self._answer(400, str(error).encode(), "text/plain")
            if isinstance(answer, pa.Table):
                return self._answer(200, _stream(answer), ARROW)
            return self._answer(200, json.dumps(answer).encode(), "application/json")

        do_GET = do_POST  # noqa: N815 (http.server's name)

        def _asked(self, path: str, query: str, body: bytes) -> Any:
            if path.endswith("/table/list"):
                return behind.tables()
            name, _, what = path.removeprefix("/v1/table/").strip("/").partition("/")
            is_arrow = self.headers["content-type"] == ARROW
            given = pa.ipc.open_stream(body).read_all() if is_arrow else json.loads(body or b"{}")
            named = {key: values[0] for key, values in parse_qs(query).items()}
            return behind.asked_of(name, what, given, named)

        def _body(self) -> bytes:
            if self.headers.get("transfer-encoding") != "chunked":
                return self.rfile.read(int(self.headers.get("content-length") or 0))
            parts = []
            while size := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)

        def _answer(self, status: int, content: bytes, kind: str) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", behind
        finally:
            server.shutdown()


def _stream(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()
