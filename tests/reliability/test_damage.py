"""A hundred injected damages of each kind: all are found, and no undamaged memory is lost."""

from __future__ import annotations

import asyncio
import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch

import lancedb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from lancedb.table import AsyncTable

from byheart_store import MemoryStore, NewMemory
from byheart_store.models import EMBEDDED, Encoder, loading
from byheart_store.tables import maintenance, schema
from byheart_store.tables.lance_manifest import Manifest, read_manifest
from byheart_store.upkeep.repair import Doctor, Examined

from ..encoders import load_anew

pytestmark = [pytest.mark.reliability, pytest.mark.timeout(600)]

MEMORIES = 5_000
KILLS = 6
INJECTIONS = int(os.environ.get("BYHEART_INJECTIONS", "100"))
WORDS = ["apple", "harbour", "bench", "bicycle", "organ", "letter", "hens", "well", "chart"]

Injection = Callable[["Damaged", random.Random], Coroutine[Any, Any, None]]


@pytest.fixture(scope="module", autouse=True)
def loaded_once() -> Iterator[None]:
    """Models are loaded once for all stores, and read every text: stores age as they are made."""
    loaded: dict[str | None, Encoder] = {}

    def cached(model: str | None, **named: Any) -> Encoder:
        return loaded.get(model) or loaded.setdefault(model, load_anew(model, **named))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loading, "load_encoder", cached)
        yield


def note(number: int, draw: random.Random) -> NewMemory:
    words = " ".join(draw.choices(WORDS, k=450 if number % 50 == 0 else 10))
    return NewMemory(
        text=f"Note {number}: {words}",
        session=f"day {number // 10}" if number % 3 == 0 else None,
        speaker="Lena" if number % 2 else None,
        tags=("food",) if number % 7 == 0 else (),
        metadata={"number": number},
    )


async def build(home: Path) -> None:
    """Old versions, several fragments, deleted rows, a replaced memory, recalls and labels."""
    draw = random.Random(7)
    notes = [note(number, draw) for number in range(MEMORIES - 41)]
    async with await MemoryStore.open(home, durability="os") as store:
        await store.model_ready()
        await store.remember_many(notes)
        await store.reindex()
    # What closing would compact is left in several fragments.
    with patch.object(maintenance, "ROWS_LEFT_UNINDEXED", MEMORIES):
        await grow(home, draw)


async def grow(home: Path, draw: random.Random) -> None:
    async with await MemoryStore.open(home, durability="os") as store:
        for first in (0, 20):
            await store.remember_many([note(10_000 + first + n, draw) for n in range(22)])
        first = (await store.recall("Note 17")).hits[0]
        await store.remember(NewMemory(text="Note 17 was wrong.", replaces=first.id))
        found = await store.recall("Note 10005", limit=3)
        await store.forget([found.hits[0].id, found.hits[1].id, found.hits[2].id])
        for number in range(5):
            recall = await store.recall(f"Note {number}")
            await store.feedback(recall.recall_id, [recall.hits[0].id])


@dataclass(frozen=True, slots=True)
class Base:
    """A sound store, and all that is in it."""

    home: Path
    rows: pa.Table
    memories: dict[str, list[Any]]
    fragments: dict[int, set[str]]

    @classmethod
    def read(cls, home: Path) -> Base:
        rows = asyncio.run(contents(home))
        return cls(home, rows, memories_of(rows), asyncio.run(by_fragment(home)))


async def contents(home: Path) -> pa.Table:
    """All columns but the vectors, in an order of its own."""
    table = await opened(home, schema.MEMORIES)
    names = [name for name in (await table.schema()).names if not name.startswith("vector_")]
    rows = await table.query().select(names).to_arrow()
    return rows.sort_by([("id", "ascending"), ("passage", "ascending")]).replace_schema_metadata()


async def by_fragment(home: Path) -> dict[int, set[str]]:
    """The ids of the memories that have rows in each fragment."""
    table = await opened(home, schema.MEMORIES)
    rows = await table.query().with_row_id().select(["id"]).to_arrow()
    found: dict[int, set[str]] = {}
    for name, row_id in zip(*rows.select(["id", "_rowid"]).to_pydict().values(), strict=True):
        found.setdefault(row_id >> 32, set()).add(name)
    return found


def memories_of(rows: pa.Table) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for row in rows.to_pylist():
        found.setdefault(row["id"], []).append(row)
    return found


async def opened(home: Path, name: str) -> AsyncTable:
    connection = await lancedb.connect_async(
        str(home / "db"), read_consistency_interval=timedelta(0)
    )
    return await connection.open_table(name)


def drop_old_versions(home: Path, *, but: int) -> None:
    """As a compaction does a minute later, but for the fragments, which stay several."""
    for folder in (home / "db").glob("*.lance"):
        versions = sorted((folder / "_versions").glob("*.manifest"))
        kept = {folder / name for path in versions[:but] for name in read_manifest(path).sizes()}
        parts = (folder / name for name in ("data", "_deletions", "_indices"))
        below = [path for part in parts for path in part.rglob("*") if path.is_file()]
        for path in [*(path for path in below if path not in kept), *versions[but:]]:
            path.unlink()


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> list[Base]:
    """The same store with versions of the last minute and without."""
    young = tmp_path_factory.mktemp("young") / "home"
    asyncio.run(build(young))
    old = shutil.copytree(young, tmp_path_factory.mktemp("old") / "home")
    drop_old_versions(young, but=16)
    drop_old_versions(old, but=1)
    return [Base.read(home) for home in (young, old)]


@pytest.fixture(scope="module")
def half_switched(bases: list[Base], tmp_path_factory: pytest.TempPathFactory) -> list[Base]:
    """A store with all vectors of another model, but for a few, before the switch to it."""
    folder = shutil.copytree(EMBEDDED, tmp_path_factory.mktemp("model") / "other")
    declared = json.loads((folder / "byheart.json").read_text())
    (folder / "byheart.json").write_text(json.dumps(declared | {"pooling": "cls"}))
    home = shutil.copytree(bases[1].home, tmp_path_factory.mktemp("half") / "home")

    async def prepare() -> None:
        async with await MemoryStore.open(home, durability="os") as store:
            await store.prepare(str(folder))

    asyncio.run(prepare())
    return [Base.read(home)]


@dataclass(slots=True)
class Damaged:
    """A copy of a store whose files may be broken one by one; `hit` are the memories in them."""

    home: Path
    base: Base
    hit: set[str] = field(default_factory=set)

    @classmethod
    def copy(cls, base: Base, home: Path) -> Damaged:
        shutil.copytree(base.home, home, copy_function=os.link)
        for changing in [home / "ledger" / "files.txt", *home.rglob("latest_version_hint.json")]:
            content = changing.read_bytes()
            changing.unlink()
            changing.write_bytes(content)
        return cls(home, base)

    def folder(self, table: str) -> Path:
        return self.home / "db" / f"{table}.lance"

    def manifest(self, table: str = schema.MEMORIES) -> Manifest:
        return read_manifest(min((self.folder(table) / "_versions").glob("*.manifest")))

    def data(self, draw: random.Random, table: str = schema.MEMORIES) -> Path:
        """A file of rows, half of the time a large one rather than a small one."""
        parts = {
            self.folder(table) / file.name: part.number
            for part in self.manifest(table).fragments
            for file in part.files
        }
        sizes = [path.stat().st_size for path in parts]
        path = draw.choices(list(parts), sizes if draw.random() < 0.5 else None)[0]
        if table == schema.MEMORIES:
            self.hit |= self.base.fragments.get(parts[path], set())
        return path

    async def rows(self) -> AsyncTable:
        return await opened(self.home, schema.MEMORIES)

    async def long_ones(self) -> list[str]:
        rows = await (await self.rows()).query().where("passage = 1").select(["id"]).to_arrow()
        found: list[str] = sorted(rows.column("id").to_pylist())
        return found


def rewrite(path: Path, content: bytes) -> None:
    path.unlink()  # the copy shares its files with the original
    path.write_bytes(content)


def flip(path: Path, draw: random.Random) -> None:
    content = bytearray(path.read_bytes())
    size = min(draw.choice([1, 4, 64]), len(content))
    start = draw.randrange(len(content) - size + 1)
    for place in range(start, start + size):
        content[place] ^= draw.randrange(1, 256)
    rewrite(path, bytes(content))


def cut(path: Path, draw: random.Random) -> None:
    content = path.read_bytes()
    rewrite(path, content[: draw.randrange(len(content))])


def garble(path: Path, draw: random.Random) -> None:
    rewrite(path, draw.randbytes(path.stat().st_size))


def remove(path: Path, _: random.Random) -> None:
    path.unlink()


async def index_missing(store: Damaged, _: random.Random) -> None:
    table = await store.rows()
    for index in await table.list_indices():
        await table.drop_index(index.name)


async def index_damaged(store: Damaged, draw: random.Random) -> None:
    (folder,) = store.manifest().indexes
    files = sorted((store.folder(schema.MEMORIES) / folder).iterdir())
    draw.choice([flip, cut, garble, remove])(draw.choice(files), draw)


async def data_gone(store: Damaged, draw: random.Random) -> None:
    draw.choice([cut, garble, remove])(store.data(draw), draw)


async def data_altered(store: Damaged, draw: random.Random) -> None:
    flip(store.data(draw), draw)


async def deletions_damaged(store: Damaged, draw: random.Random) -> None:
    files = [part.deletions for part in store.manifest().fragments if part.deletions]
    path = store.folder(schema.MEMORIES) / draw.choice(files)
    draw.choice([flip, cut, garble, remove])(path, draw)


async def log_damaged(store: Damaged, draw: random.Random) -> None:
    path = store.data(draw, draw.choice([schema.RECALLS, schema.LABELS]))
    draw.choice([flip, cut, garble, remove])(path, draw)


async def manifest_bad(store: Damaged, draw: random.Random) -> None:
    table = draw.choice([schema.MEMORIES, schema.RECALLS, schema.LABELS])
    path = min((store.folder(table) / "_versions").glob("*.manifest"))
    draw.choice([flip, cut, garble, remove])(path, draw)


async def left_over(store: Damaged, draw: random.Random) -> None:
    name = draw.choice(["data/0{}.lance", "_deletions/3-{}-5.arrow", "_versions/.tmp_{}.manifest"])
    path = store.folder(schema.MEMORIES) / name.format(draw.randrange(10**9))
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(draw.randbytes(300))


async def passages_without_memory(store: Damaged, draw: random.Random) -> None:
    gone = draw.choice(await store.long_ones())
    await (await store.rows()).delete(f"id = '{gone}' AND passage = 0")
    store.hit.add(gone)


async def memory_without_passages(store: Damaged, draw: random.Random) -> None:
    short = draw.choice(await store.long_ones())
    await (await store.rows()).delete(f"id = '{short}' AND passage = {draw.choice([1, 2])}")


async def vectors_impossible(store: Damaged, draw: random.Random) -> None:
    wrong = draw.choice([np.nan, 0.0, 0.5, np.inf])
    await put_vectors(store, draw, draw.randint(1, 5), lambda rows: np.full_like(rows, wrong))


async def vectors_of_another_model(store: Damaged, draw: random.Random) -> None:
    turned = np.linalg.qr(np.random.default_rng(3).normal(size=(384, 384)))[0]
    await put_vectors(store, draw, 60, lambda rows: (rows @ turned).astype(np.float32))


async def put_vectors(
    store: Damaged, draw: random.Random, count: int, change: Callable[[Any], Any]
) -> None:
    table = await store.rows()
    (column,) = (name for name in (await table.schema()).names if name.startswith("vector_"))
    rows = await table.query().select(["id", "passage", column]).to_arrow()
    rows = rows.slice(draw.randrange(len(rows) - count), count).combine_chunks()
    flat = rows.column(column).combine_chunks().flatten().to_numpy().reshape(count, -1)
    values = pa.FixedSizeListArray.from_arrays(pa.array(change(flat).ravel()), flat.shape[1])
    place = rows.schema.get_field_index(column)
    update = rows.set_column(place, column, values)
    merge = table.merge_insert(["id", "passage"]).when_matched_update_all()
    await merge.execute(update, on_bad_vectors="fill", fill_value=np.nan)


async def describe(store: Damaged, change: Callable[[dict[str, Any]], str]) -> None:
    table = await store.rows()
    description = schema.description_of(await table.schema())
    text = change(json.loads(description.to_json()))
    metadata = {schema.DESCRIPTION_KEY: text}
    await table.update_field_metadata({"path": schema.DESCRIBED_FIELD, "metadata": metadata})


async def switch_interrupted(store: Damaged, draw: random.Random) -> None:
    def pending(values: dict[str, Any]) -> str:
        other = next(one for one in values["columns"] if one["column"] != values["active"])
        return json.dumps(values | {"pending": other["column"]})

    await describe(store, pending)


async def description_unreadable(store: Damaged, draw: random.Random) -> None:
    def cut_off(values: dict[str, Any]) -> str:
        text = json.dumps(values)
        return text[: draw.randrange(len(text))]

    await describe(store, cut_off)


async def format_unknown(store: Damaged, draw: random.Random) -> None:
    await describe(store, lambda values: json.dumps(values | {"format": draw.randint(4, 99)}))


KINDS: dict[str, tuple[Injection, str]] = {
    "index missing": (index_missing, "index"),
    "index damaged": (index_damaged, "index"),
    "data file gone": (data_gone, "data"),
    "data file altered": (data_altered, "data"),
    "deletions damaged": (deletions_damaged, "data"),
    "log damaged": (log_damaged, "data"),
    "manifest bad": (manifest_bad, "manifest"),
    "orphaned file": (left_over, "orphan"),
    "passages alone": (passages_without_memory, "passage"),
    "passages lacking": (memory_without_passages, "passage"),
    "vectors impossible": (vectors_impossible, "vector"),
    "vectors of another": (vectors_of_another_model, "vector"),
    "switch interrupted": (switch_interrupted, "reindex"),
    "description bad": (description_unreadable, "description"),
    "format unknown": (format_unknown, "format"),
}


@dataclass(slots=True)
class Tally:
    """What became of all damages of a kind."""

    kind: str
    detected: int = 0
    mended: int = 0
    recovered: int = 0
    back: int = 0
    lost: int = 0
    reported: int = 0
    slowest: float = 0.0
    wrong: list[str] = field(default_factory=list)

    def line(self) -> str:
        return (
            f"{self.kind:<20}{INJECTIONS:>9}{self.detected:>10}{self.mended:>8}"
            f"{self.recovered:>11,}{self.lost:>8,}{self.reported:>10,}{self.back:>6}"
            f"{self.slowest:>11.2f}"
        )


HEADER = (
    f"{'damage':<20}{'injected':>9}{'detected':>10}{'mended':>8}"
    f"{'recovered':>11}{'lost':>8}{'reported':>10}{'back':>6}{'slowest s':>11}"
)


async def injected(
    store: Damaged, kind: str, number: int, draw: random.Random, tally: Tally
) -> None:
    inject, expected = KINDS[kind]
    await inject(store, draw)
    sample = 200 if kind == "vectors of another" else 4
    began = time.perf_counter()
    doctor = Doctor(store.home, sample=sample)
    report = await doctor.mend()
    tally.slowest = max(tally.slowest, time.perf_counter() - began)
    tally.detected += any(finding.kind == expected for finding in report.findings)
    tally.mended += report.healthy
    tally.recovered += len(report.recovered)
    tally.reported += report.lost_rows
    if kind == "format unknown":
        assert not report.healthy
        return
    memories = await compare(store, report, tally)
    if number % 5 == 0:
        await ask(store.home, draw.choice(sorted(memories)), memories)
    if number % 5 == 1:
        again = await Doctor(store.home, sample=0).examine()
        assert again.findings == []


async def compare(store: Damaged, report: Examined, tally: Tally) -> dict[str, list[Any]]:
    """Every memory is there as it was, or among those that the report tells of."""
    rows = await contents(store.home)
    was = store.base.memories
    gone = was.keys() - set(rows.column("id").to_pylist())
    assert gone | (set(report.recovered) & was.keys()) <= store.hit
    if (same := kept_as_they_were(store.base, rows, tally)) is not None:
        return same
    memories = memories_of(rows)
    renamed = kept_under_altered_ids(memories, was, gone, report)
    tally.lost += sum(len(was[name]) for name in gone - renamed)
    tally.back += len(memories.keys() - was.keys() - set(report.recovered))
    kept = was.keys() - gone
    assert all(memories[name][0]["text"] == was[name][0]["text"] for name in kept)
    assert all(len(memories[name]) == len(was[name]) for name in kept)
    changed = {name for name in kept if said(memories[name]) != said(was[name])}
    assert changed <= set(report.recovered)
    return {name: memories[name] for name in kept}


def kept_under_altered_ids(
    memories: dict[str, list[Any]], was: dict[str, list[Any]], gone: set[str], report: Examined
) -> set[str]:
    """Of the memories gone those that stand, whole, under what the damage has made of their ids.

    A text is verified by its digest, where that can be read; nothing tells which id it had.
    """
    altered = set(report.recovered) - was.keys()
    kept = {memories[name][0]["text"]: len(memories[name]) for name in altered}
    renamed = {name for name in gone if was[name][0]["text"] in kept}
    assert {was[name][0]["text"]: len(was[name]) for name in renamed} == kept
    return renamed


def kept_as_they_were(base: Base, rows: pa.Table, tally: Tally) -> dict[str, list[Any]] | None:
    """The memories kept, where none differs from what it was."""
    stay = pc.is_in(base.rows.column("id"), value_set=rows.column("id").combine_chunks())
    kept = base.rows.filter(stay)
    if not kept.drop([schema.SEARCHED]).equals(rows.drop([schema.SEARCHED])):
        return None
    tally.lost += len(base.rows) - len(kept)
    return {name: base.memories[name] for name in set(kept.column("id").to_pylist())}


def said(rows: list[Any]) -> list[Any]:
    """Rows without the turns before them, some of which may be lost."""
    return [{name: row[name] for name in row if name != schema.SEARCHED} for row in rows]


async def ask(home: Path, name: str, memories: dict[str, list[Any]]) -> None:
    first = memories[name][0]
    words = " ".join(first["text"].split()[:2])
    async with await MemoryStore.open(home, durability="os") as store:
        found = await store.recall(words, mode="text", limit=20, log=False)
    assert first["replaced_by"] or name in [hit.id for hit in found.hits]


@pytest.mark.parametrize("kind", KINDS)
def test_damage_is_found_and_costs_no_undamaged_memory(
    kind: str, bases: list[Base], tmp_path: Path, request: Any
) -> None:
    if kind == "switch interrupted":
        bases = request.getfixturevalue("half_switched")
    tally = Tally(kind)
    for number in range(INJECTIONS):
        draw = random.Random(f"{kind} {number}")
        store = Damaged.copy(bases[number % len(bases)], tmp_path / "home")
        asyncio.run(injected(store, kind, number, draw, tally))
        shutil.rmtree(store.home)
    print(f"\n{HEADER}\n{tally.line()}")
    assert tally.detected == INJECTIONS
    assert tally.mended == (0 if kind == "format unknown" else INJECTIONS)
    assert tally.lost == tally.reported


async def test_a_killed_repair_is_done_again(bases: list[Base], tmp_path: Path) -> None:
    draw = random.Random("killed")
    durations = [1.0]
    for kill in range(KILLS):
        store = Damaged.copy(bases[kill % 2], tmp_path / f"home {kill}")
        await vectors_impossible(store, draw)
        await deletions_damaged(store, draw)
        await manifest_bad(store, draw)
        began = time.perf_counter()
        process = repair(store.home)
        patience = None if kill == 0 else draw.uniform(0.3, 1.0) * durations[0]
        try:
            process.wait(patience)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        durations[:] = durations if kill else [time.perf_counter() - began]
        report = await Doctor(store.home, sample=4).mend()
        assert report.healthy, report.findings
        tally = Tally("killed")
        await compare(store, report, tally)
        assert tally.lost == 0
        assert (await Doctor(store.home, sample=4).examine()).findings == []
        shutil.rmtree(store.home)


def repair(home: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "byheart_server", "doctor", "--repair", "--home", str(home)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


# Keeps a store open, and for each line that it reads prints the ids that a recall finds.
READER = """
import asyncio, json, sys
from pathlib import Path
from byheart_store import MemoryStore

async def main(home):
    async with await MemoryStore.open(Path(home)) as store:
        await store.model_ready()
        for query in sys.stdin:
            found = await store.recall(query, log=False)
            print(json.dumps([hit.id for hit in found.hits]), flush=True)

asyncio.run(main(sys.argv[1]))
"""


def reader(home: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", READER, str(home)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


async def test_a_process_that_has_the_store_open_sees_it_mended(
    bases: list[Base], tmp_path: Path
) -> None:
    store = Damaged.copy(bases[0], tmp_path / "home")
    process = reader(store.home)

    def asked() -> list[str]:
        assert process.stdin
        assert process.stdout
        process.stdin.write("Note 4711\n")
        process.stdin.flush()
        found: list[str] = json.loads(process.stdout.readline())
        return found

    first = asked()
    for damage in (manifest_bad, data_altered, index_damaged):
        await damage(store, random.Random(1))
        assert (await Doctor(store.home, sample=4).mend()).healthy
        assert asked()[0] == first[0]
    process.communicate()
    assert process.returncode == 0
