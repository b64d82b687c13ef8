"""How far a caller reaches: the namespaces that are open to it, and how its memories are stamped.

Whatever lies outside is treated as if it were not there, and a namespace that is not open is
refused in the same words whether or not it exists.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from byheart_store.errors import AccessDenied, InvalidInput
from byheart_store.inputs import checked_name
from byheart_store.records import Filter, LoggedRecall, NewMemory, Origin


@dataclass(frozen=True, slots=True)
class Scope:
    """The namespaces open to a caller, all where None; without an origin its word is taken."""

    namespaces: tuple[str, ...] | None = None
    origin: Origin | None = None

    @classmethod
    def of(cls, namespaces: Sequence[str] | None, origin: Origin) -> Scope:
        """Raises InvalidInput when there is no namespace at all."""
        if namespaces is None:
            return cls(None, origin)
        names = tuple(checked_name(name, "namespace") or "" for name in namespaces)
        if not names:
            raise InvalidInput("namespaces: none given; name at least one, or reach all with None")
        return cls(names, origin)

    @property
    def is_whole(self) -> bool:
        """Whether everything is open."""
        return self.namespaces is None

    def narrowed(self, where: Filter) -> Filter:
        """The filter within reach.

        Raises:
            AccessDenied: it asks for a namespace that is not open.
        """
        if self.namespaces is None:
            return where
        for name in where.namespaces:
            self._check(name)
        return replace(where, namespaces=where.namespaces or self.namespaces)

    def stamped(self, memory: NewMemory) -> NewMemory:
        """The memory with its origin, in a namespace that is open.

        Raises:
            AccessDenied: its namespace is not open, or it brings an id of its own.
        """
        if self.origin is not None:
            memory = replace(memory, client=self.origin.client, token=self.origin.token)
        if self.namespaces is None:
            return memory
        if memory.id is not None:
            raise AccessDenied("id: is given by the store here; leave it out, or give a key")
        if memory.namespace is not None:
            self._check(memory.namespace)
        elif memory.replaces is None:
            memory = replace(memory, namespace=self.namespaces[0])
        return memory

    def covers(self, namespace: str) -> bool:
        """Whether a namespace is open."""
        return self.namespaces is None or namespace in self.namespaces

    def saw(self, recall: LoggedRecall) -> bool:
        """Whether a logged recall looked into nothing but what is open."""
        return self.covers_all(recall.filter)

    def covers_all(self, asked: Mapping[str, Any]) -> bool:
        """Whether a filter, as the log keeps it, admits nothing but what is open."""
        if self.namespaces is None:
            return True
        names = asked.get("namespaces") or ()
        return bool(names) and all(map(self.covers, names))

    def check_whole(self, what: str) -> None:
        """Raises AccessDenied unless everything is open."""
        if not self.is_whole:
            raise AccessDenied(
                f"{what} concerns the whole store, and only some namespaces are open here; "
                "ask whoever runs the server"
            )

    def _check(self, name: str) -> None:
        if not self.covers(name):
            raise AccessDenied(
                f"namespace: {name!r} is not open here; leave it out, "
                f"or use {' or '.join(map(repr, self.namespaces or ()))}"
            )


WHOLE_STORE = Scope()
