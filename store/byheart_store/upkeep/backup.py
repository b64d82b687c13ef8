"""A store in one file: consistent while others write, checked when written and when restored."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import tarfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from hashlib import blake2b
from pathlib import Path, PurePosixPath
from tempfile import NamedTemporaryFile
from typing import IO, Any

from byheart_store.errors import InvalidInput, StoreUnavailable
from byheart_store.home import DIGESTS, DOWNLOADS, LEDGER, MODELS, TABLES, Home
from byheart_store.moments import iso, now
from byheart_store.tables.database import Database
from byheart_store.tables.engine_errors import storage_errors
from byheart_store.tables.lance_manifest import VERSION_HINT
from byheart_store.tables.ledger import DIGEST_BYTES, Recorded, read_ledger, recorded, sync_folder
from byheart_store.tables.lock import WriteLock
from byheart_store.tables.schema import LABELS, MEMORIES, RECALLS
from byheart_store.upkeep.damage import Seen, table_files
from byheart_store.upkeep.set_aside import SetAside

Progress = Callable[[int, int], None]

FORMAT = 1

_HEAD = "manifest.json"
_PARTS = (TABLES, LEDGER, MODELS)
_CHANGING = (DIGESTS, VERSION_HINT)
"""Files that are written again; all others are immutable."""
_LARGEST_HEAD = 256 << 20
_CHUNK = 1 << 20
_BUSY = "another backup or restore of this store is under way; try again when it has finished"


@dataclass(frozen=True, slots=True)
class Archived:
    """A backup that was written or restored: its files, their bytes and the memories in it."""

    path: Path
    files: int
    bytes: int
    memories: int
    made: str
    set_aside: Path | None = None

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        paths = {"path": str(self.path), "set_aside": self.set_aside and str(self.set_aside)}
        return asdict(self) | paths


async def back_up(
    home: Path, path: Path, *, patience: float = 30.0, progress: Progress | None = None
) -> Archived:
    """Write the store under `home` to one file, while others go on writing.

    The file takes the place of an older one only once it was read back and found right.
    `progress` gets bytes done and bytes in all.

    Raises:
        StoreUnavailable: there is no store, a file of it is damaged, or the disk refused.
        StoreBusy: others kept the write lock, or another backup is under way.
    """
    source = _store_at(home)
    with storage_errors(str(source.tables)), _staging(source) as staging:
        async with WriteLock(source.lock("write"), patience).held():
            await asyncio.to_thread(_link, source.folder, staging.folder)
        await asyncio.to_thread(_check_sound, staging)
        memories = await _count(staging)  # which may bring an older format up to date
        files = await asyncio.to_thread(_digests, staging.folder)
        made = iso(now()) or ""
        head = {"byheart": "backup", "format": FORMAT, "made": made, "memories": memories}
        listed = {name: asdict(file) for name, file in files.items()}
        await asyncio.to_thread(_write, staging.folder, path, head | {"files": listed}, progress)
    return Archived(path, len(files), _size(path), memories, made)


async def restore(
    home: Path,
    path: Path,
    *,
    replace: bool = False,
    patience: float = 30.0,
    progress: Progress | None = None,
) -> Archived:
    """Bring the store back that a backup holds.

    With `replace`, a store that is there is moved to `set-aside`. Processes that have it open
    must be started again.

    Raises:
        InvalidInput: the file is no backup or damaged, or the home holds a store; nothing was
            changed.
        StoreUnavailable: a newer version of ByHeart wrote the backup, or the disk refused.
        StoreBusy: others kept the write lock, or another backup is under way.
    """
    target = _home_for(home, replace=replace)
    with storage_errors(str(target.folder)):
        target.folder.mkdir(parents=True, exist_ok=True)
        with _staging(target) as staging:
            head, files = await asyncio.to_thread(_extract, path, staging.folder, progress)
            memories = await _count(staging)
            if memories != head.get("memories"):
                raise InvalidInput(
                    f"{path} holds {memories:,} memories, not {head.get('memories')} as it says; "
                    "take another backup"
                )
            aside = SetAside(target)
            async with WriteLock(target.lock("write"), patience).held():
                await asyncio.to_thread(_put_in_place, target.folder, staging.folder, aside)
    return Archived(path, files, _size(path), memories, str(head.get("made")), aside.folder)


def _store_at(folder: Path) -> Home:
    home = Home(folder.expanduser().resolve())
    if not home.tables.is_dir():
        raise StoreUnavailable(
            f"there is no store at {home.folder}; name the right folder: --home DIR"
        )
    return home


def _home_for(folder: Path, *, replace: bool) -> Home:
    home = Home(folder.expanduser().resolve())
    if home.tables.exists() and not replace:
        raise InvalidInput(
            f"{home.folder} holds a store already; give another --home, or --replace to set it "
            "aside"
        )
    return home


def _size(path: Path) -> int:
    return path.stat().st_size


@contextmanager
def _staging(home: Home) -> Iterator[Home]:
    """A fresh home within the home; what a killed backup has left there is cleared."""
    with home.exclusively("backup", _BUSY):
        shutil.rmtree(home.staging, ignore_errors=True)
        home.staging.mkdir()
        try:
            yield Home(home.staging)
        finally:
            shutil.rmtree(home.staging, ignore_errors=True)


def _link(home: Path, staging: Path) -> None:
    """Take hold of all files as they are now: nothing that is deleted later is missed."""
    for name in _files(home):
        target = staging / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith(_CHANGING):
            shutil.copyfile(home / name, target)
            continue
        try:
            os.link(home / name, target)
        except FileNotFoundError:
            continue  # a draft of a file that is complete by now under another name
        except OSError:
            shutil.copyfile(home / name, target)


def _files(home: Path) -> list[str]:
    names = (
        path.relative_to(home).as_posix()
        for part in _PARTS
        for path in (home / part).rglob("*")
        if path.is_file() and not path.is_symlink()
    )
    return sorted(name for name in names if not name.startswith(f"{DOWNLOADS}/"))


def _digests(staging: Path) -> dict[str, Recorded]:
    return {name: recorded(staging / name) for name in _files(staging)}


def _check_sound(staging: Home) -> None:
    lines, seen = read_ledger(staging), Seen()
    for table in (MEMORIES, RECALLS, LABELS):
        files = table_files(staging, table, lines, seen)
        damaged = ", ".join(files.damaged_data()) or files.bad_manifest
        if table == MEMORIES and not damaged and (problem := files.index_problem()):
            damaged = f"its index {problem}"
        if damaged:
            raise StoreUnavailable(
                f"the table {table} is damaged ({damaged}), so no backup was made; "
                "mend the store first: byheart doctor --repair"
            )


async def _count(home: Home) -> int:
    database = await Database.open(home.folder, None, 1.0, "os")
    try:
        return await database.memories.count_rows("passage = 0")
    finally:
        database.close()


def _write(staging: Path, path: Path, head: Mapping[str, Any], progress: Progress | None) -> None:
    path = path.resolve()
    if path.exists() and not path.is_file():
        raise InvalidInput(f"{path} is no file; give the backup another name")
    with NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as draft:
        try:
            _archive(staging, draft, head, progress)
            draft.flush()
            os.fsync(draft.fileno())
            draft.close()
            for _ in _verified(Path(draft.name)):
                pass
            Path(draft.name).replace(path)
        except BaseException:
            Path(draft.name).unlink(missing_ok=True)
            raise
    sync_folder(path.parent)


def _archive(staging: Path, draft: Any, head: Mapping[str, Any], progress: Progress | None) -> None:
    files = head["files"]
    total, done = sum(file["size"] for file in files.values()), 0
    (staging / _HEAD).write_text(json.dumps(head, ensure_ascii=False), encoding="utf-8")
    with tarfile.open(fileobj=draft, mode="w:gz", compresslevel=6) as archive:
        for name in [_HEAD, *files]:
            archive.add(staging / name, name, recursive=False, filter=_plain)
            done += files[name]["size"] if name in files else 0
            if progress is not None:
                progress(done, total)


def _plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """Whose a file is stays here, and a link to another one is written as the file."""
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    member.mode = 0o600
    return member


def _extract(path: Path, staging: Path, progress: Progress | None) -> tuple[Mapping[str, Any], int]:
    """Write the files of a backup below `staging`, each checked; returns its head."""
    members = _verified(path, staging, progress)
    head = next(members)
    return head, sum(1 for _ in members)


def _verified(
    path: Path, staging: Path | None = None, progress: Progress | None = None
) -> Iterator[Mapping[str, Any]]:
    """The head of a backup, then each of its files, read to the end and compared.

    Raises:
        InvalidInput: it is no backup, damaged or cut off.
    """
    try:
        with tarfile.open(path, "r|*") as archive:
            head = _head(archive)
            yield head
            yield from _compared(archive, head["files"], staging, progress)
    except FileNotFoundError:
        raise InvalidInput(f"there is no file {path}; name a backup") from None
    except (tarfile.TarError, EOFError, zlib.error, ValueError, KeyError, TypeError) as error:
        raise InvalidInput(_no_backup(path, error)) from error
    except OSError as error:
        if error.errno is not None:
            raise
        raise InvalidInput(_no_backup(path, error)) from error


def _no_backup(path: Path, error: Exception) -> str:
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return f"{path} is no backup, or a damaged one ({reason}); nothing was changed; take another"


def _head(archive: tarfile.TarFile) -> dict[str, Any]:
    member = archive.next()
    if member is None or member.name != _HEAD or not 0 < member.size <= _LARGEST_HEAD:
        raise ValueError("its list of files is missing")
    content = archive.extractfile(member)
    head = json.loads(content.read()) if content else {}
    if head["byheart"] != "backup":
        raise ValueError("it is of another program")
    if head["format"] > FORMAT:
        raise StoreUnavailable("a newer ByHeart wrote the backup; upgrade: pip install -U byheart")
    return dict(head)


def _compared(
    archive: tarfile.TarFile,
    files: Mapping[str, Mapping[str, Any]],
    staging: Path | None,
    progress: Progress | None,
) -> Iterator[Mapping[str, Any]]:
    total, done = sum(file["size"] for file in files.values()), 0
    if staging is not None and total > shutil.disk_usage(staging).free:
        raise InvalidInput(f"the backup needs {total / 1e6:,.0f} MB, which are not free here")
    awaited = dict(files)
    while (member := archive.next()) is not None:
        known = awaited.pop(member.name, None)
        if known is None or not member.isreg() or member.size != known["size"]:
            raise ValueError(f"{member.name!r} is not in its list of files")
        with _target(staging, member) as target:
            digest = _copied(archive.extractfile(member), target)
        if digest != known["digest"]:
            raise ValueError(f"{member.name} is damaged")
        done += member.size
        if progress is not None:
            progress(done, total)
        yield known
    if awaited:
        raise ValueError(f"{len(awaited)} files are missing")


@contextmanager
def _target(staging: Path | None, member: tarfile.TarInfo) -> Iterator[IO[bytes] | None]:
    parts = PurePosixPath(member.name).parts
    if parts[0] not in _PARTS or ".." in parts:
        raise ValueError(f"{member.name!r} lies outside of a store")
    if staging is None:
        yield None
        return
    tarfile.data_filter(member, str(staging))
    path = staging / member.name
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("xb") as target:
        yield target
        target.flush()
        os.fsync(target.fileno())


def _copied(source: IO[bytes] | None, target: IO[bytes] | None) -> str:
    digest = blake2b(digest_size=DIGEST_BYTES)
    while source is not None and (chunk := source.read(_CHUNK)):
        digest.update(chunk)
        if target is not None:
            target.write(chunk)
    return digest.hexdigest()


def _put_in_place(home: Path, staging: Path, aside: SetAside) -> None:
    """Move the former store away and the new one in, the database last of all."""
    for name in sorted(_entries(staging), key=lambda name: name == TABLES):
        if (home / name).exists():
            aside.move(home / name, "replaced by a backup that was restored")
        (home / name).parent.mkdir(exist_ok=True)
        (staging / name).rename(home / name)
    with suppress(FileNotFoundError):
        sync_folder(home)


def _entries(staging: Path) -> list[str]:
    """What is moved in one step each; the cache beside the models stays."""
    models = (f"{MODELS}/{path.name}" for path in (staging / MODELS).glob("*"))
    return [*(part for part in (TABLES, LEDGER) if (staging / part).exists()), *models]
