"""Which files of a table are damaged, missing or left over, told without the engine.

Files are immutable once written. One that differs from its line in the ledger is damaged, and one
that no version needs is left over from a write that was not finished.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, field
from pathlib import Path

from byheart_store.home import Home
from byheart_store.tables.lance_manifest import (
    DELETIONS,
    VERSIONS,
    BadManifest,
    Manifest,
    read_manifest,
    version_of,
)
from byheart_store.tables.ledger import Recorded, files_below, recorded

_DATA_FOLDERS = ("data/", f"{DELETIONS}/", "_indices/")


@dataclass(frozen=True, slots=True)
class Seen:
    """What immutable files were found to be, so that none is read twice.

    `substitutes` are files that a repair has put in the place of damaged ones.
    """

    digests: dict[Path, Recorded] = field(default_factory=dict)
    manifests: dict[Path, Manifest] = field(default_factory=dict)
    substitutes: set[Path] = field(default_factory=set)

    def digest(self, path: Path) -> Recorded:
        """The digest and size of a file."""
        if path not in self.digests:
            self.digests[path] = recorded(path)
        return self.digests[path]

    def manifest(self, path: Path) -> Manifest:
        """The manifest at a path; raises BadManifest."""
        if path not in self.manifests:
            self.manifests[path] = read_manifest(path)
        return self.manifests[path]

    def forget(self, path: Path) -> None:
        """The file at this path is another by now."""
        self.digests.pop(path, None)
        self.manifests.pop(path, None)


@dataclass(frozen=True, slots=True)
class TableFiles:
    """The files of one table by their path below it.

    `damaged` tells what is wrong with each: missing, cut off, altered or unreadable. `latest` is
    the newest version known of, and `spare` a sound copy of its manifest.
    """

    name: str
    folder: Path
    present: frozenset[str]
    damaged: Mapping[str, str]
    versions: Mapping[int, Manifest]
    paths: Mapping[int, str]
    latest: int
    spare: Path | None

    @property
    def manifest(self) -> Manifest | None:
        """The latest version's manifest, unless it is bad."""
        return self.versions.get(self.latest)

    @property
    def bad_manifest(self) -> str | None:
        """What is wrong with the latest version's manifest."""
        if self.latest in self.versions:
            return None
        return self.damaged.get(self.paths.get(self.latest, ""), "missing")

    @property
    def newest_readable(self) -> Manifest | None:
        """The newest version whose manifest is sound."""
        return self.versions[max(self.versions)] if self.versions else None

    def needed(self) -> set[str]:
        """The files that the latest readable version can't do without."""
        return set(self.newest_readable.sizes()) if self.newest_readable else set()

    def damaged_data(self) -> dict[str, str]:
        """What is wrong with the files that rows of the latest version lie in."""
        manifest = self.newest_readable
        names = {name for part in manifest.fragments for name in part.names()} if manifest else ()
        return {name: self.damaged[name] for name in sorted(names) if name in self.damaged}

    def damaged_indexes(self) -> dict[str, str]:
        """What is wrong with the indexes of the latest version, by the index's folder."""
        manifest = self.newest_readable
        folders = manifest.indexes if manifest else frozenset()
        return {
            folder: reason
            for name, reason in self.damaged.items()
            if (folder := "/".join(name.split("/")[:2])) in folders
        }

    def damaged_transactions(self) -> list[str]:
        """Records of past writes, which the engine looks at when writes collide."""
        return [name for name in self.damaged if name.startswith("_transactions/")]

    def index_problem(self) -> str | None:
        """What is wrong with the index, as far as its files tell."""
        damaged = self.damaged_indexes()
        if damaged:
            return f"is damaged ({', '.join(sorted(set(damaged.values())))} files)"
        is_missing = self.manifest is not None and not self.manifest.indexes
        return "is missing" if is_missing else None

    def deleted_by(self, name: str) -> int:
        """The rows that a file of deleted rows stands for."""
        fragments = self.manifest.fragments if self.manifest else ()
        return sum(part.deleted for part in fragments if part.deletions == name)

    def broken_versions(self) -> list[int]:
        """Earlier versions that can't be read any more."""
        return [
            version
            for version in self.paths
            if version != self.latest and not self._is_readable(version)
        ]

    def _is_readable(self, version: int) -> bool:
        manifest = self.versions.get(version)
        return manifest is not None and self.damaged.keys().isdisjoint(manifest.sizes())

    def left_over(self) -> list[str]:
        """Files that no version needs; none are told while a manifest can't be read."""
        if self.latest not in self.versions or len(self.paths) > len(self.versions):
            return []
        needed = {name for one in self.versions.values() for name in one.sizes()}
        folders = {folder for one in self.versions.values() for folder in one.indexes}
        return (
            sorted(
                name
                for name in self.present - needed
                if name.startswith(_DATA_FOLDERS) and "/".join(name.split("/")[:2]) not in folders
            )
            + self._drafts()
        )

    def _drafts(self) -> list[str]:
        """What a crash has left of a manifest that was being written."""
        in_versions = (name for name in self.present if name.startswith(f"{VERSIONS}/"))
        return sorted(name for name in in_versions if version_of(name.split("/")[1]) is None)


def table_files(home: Home, name: str, ledger: Mapping[str, Recorded], seen: Seen) -> TableFiles:
    """Compare a table's files with the ledger and with what its versions need."""
    database = home.tables
    folder = database / f"{name}.lance"
    prefix = f"{name}.lance/"
    known = {
        path.removeprefix(prefix): at for path, at in ledger.items() if path.startswith(prefix)
    }
    below = (path for path in files_below(database) if path.startswith(prefix))
    present = frozenset(path.removeprefix(prefix) for path in below)
    damaged = {
        path: reason
        for path in sorted(present & known.keys())
        if (reason := _compared(folder / path, known[path], seen))
    }
    paths = _versions(present)
    versions: dict[int, Manifest] = {}
    for version, path in paths.items():
        try:
            if path not in damaged:
                versions[version] = seen.manifest(folder / path)
        except BadManifest:
            damaged[path] = "altered"
    for manifest in versions.values():
        damaged |= _absent_or_cut(manifest, folder, present, damaged)
        damaged |= _unreadable_deletions(manifest, folder, damaged.keys() | known.keys(), seen)
    spare_version, spare = _spare(home, name, known)
    latest = max([*paths, *_versions(known), spare_version])
    return TableFiles(
        name=name,
        folder=folder,
        present=present,
        damaged=damaged,
        versions=versions,
        paths=paths,
        latest=latest,
        spare=spare if spare_version == latest else None,
    )


def _compared(path: Path, known: Recorded, seen: Seen) -> str | None:
    size = path.stat().st_size
    if size != known.size:
        return "cut off" if size < known.size else "altered"
    return None if seen.digest(path) == known else "altered"


def _absent_or_cut(
    manifest: Manifest, folder: Path, present: frozenset[str], damaged: Mapping[str, str]
) -> dict[str, str]:
    """What no ledger has to tell: a file that a version needs is absent, or not so large."""
    found = {}
    for name, size in manifest.sizes().items():
        if name not in present:
            found[name] = "missing"
        elif size is not None and name not in damaged and (folder / name).stat().st_size != size:
            found[name] = "cut off"
    return found


def _unreadable_deletions(
    manifest: Manifest, folder: Path, told: Set[str], seen: Seen
) -> dict[str, str]:
    """Files of deleted rows that no digest tells of, and that hold other than they should."""
    return {
        part.deletions: "unreadable"
        for part in manifest.fragments
        if part.deletions is not None
        and part.deletions.endswith(".arrow")
        and part.deletions not in told
        and folder / part.deletions not in seen.substitutes
        and _rows_in(folder / part.deletions) != part.deleted
    }


def _rows_in(path: Path) -> int | None:
    import pyarrow as pa

    try:
        with pa.ipc.open_file(path) as file:
            return int(file.read_all().num_rows)
    except (pa.ArrowException, OSError):
        return None


def _versions(names: Iterable[str]) -> dict[int, str]:
    found = {}
    for name in names:
        folder, _, file = name.partition("/")
        version = version_of(file) if folder == VERSIONS else None
        if version is not None:
            found[version] = name
    return found


def _spare(home: Home, name: str, known: Mapping[str, Recorded]) -> tuple[int, Path | None]:
    """The version of the newest sound spare manifest, and the manifest; 0 where there is none."""
    folder = home.spares / name
    files = folder.iterdir() if folder.is_dir() else ()
    sound = {
        version: path
        for path in files
        if (version := version_of(path.name)) is not None
        and known.get(f"{VERSIONS}/{path.name}") == recorded(path)
    }
    newest = max(sound, default=0)
    return newest, sound.get(newest)


def spare_of(
    home: Home, files: TableFiles, name: str, ledger: Mapping[str, Recorded]
) -> Path | None:
    """A sound copy of a damaged file that the ledger keeps, if there is one."""
    spare = home.spares / files.name / Path(name).name
    if not spare.is_file():
        return None
    return spare if recorded(spare) == ledger.get(f"{files.name}.lance/{name}") else None


def no_deletions() -> bytes:
    """A file that deletes no row."""
    import pyarrow as pa

    layout = pa.schema([pa.field("row_id", pa.uint32(), nullable=False)])
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, layout) as file:
        file.write_batch(pa.record_batch([pa.array([], pa.uint32())], schema=layout))
    content: bytes = sink.getvalue().to_pybytes()
    return content
