"""A benchmark: memories, and queries whose answers among them are known."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from byheart_retrain.queries import LabelledQuery
from byheart_store import DEFAULT_NAMESPACE, InvalidInput, NewMemory


@dataclass(frozen=True, slots=True)
class Benchmark:
    """Memories and the queries that are asked of them."""

    memories: list[NewMemory]
    queries: list[LabelledQuery]

    def within(self, namespaces: Iterable[str]) -> Benchmark:
        """Only these namespaces; a query of no namespace stays where all its answers stay.

        Raises:
            InvalidInput: a namespace is not in the benchmark, or nothing is asked in them.
        """
        wanted = set(namespaces)
        held = {memory.namespace or DEFAULT_NAMESPACE for memory in self.memories}
        if not wanted <= held:
            raise InvalidInput(
                f"namespace: {', '.join(sorted(wanted - held))} is not in the dataset; "
                f"it has {', '.join(sorted(held))}"
            )
        memories = [new for new in self.memories if (new.namespace or DEFAULT_NAMESPACE) in wanted]
        kept = {memory.id for memory in memories}
        queries = [
            query
            for query in self.queries
            if (query.gold <= kept if query.namespace is None else query.namespace in wanted)
        ]
        if not queries:
            raise InvalidInput(f"namespace: nothing is asked in {', '.join(sorted(wanted))}")
        return Benchmark(memories, queries)
