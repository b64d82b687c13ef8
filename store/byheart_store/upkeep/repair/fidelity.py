"""Whether stored vectors are what the model makes of their texts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from byheart_store.models.passages import passage_text

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

    from byheart_store.models.encoder import Encoder

NEAR_ENOUGH = 0.99
"""The least cosine of a stored vector with one made anew; a batch may round a little otherwise."""

_AT_ONCE = 256


class Fidelity:
    """Compares the vectors of a column, row by row, with what an encoder makes of the texts."""

    def __init__(
        self,
        rows: pa.Table,
        column: str,
        encoder: Encoder,
        progress: Callable[[int, int], None] | None,
    ) -> None:
        """`rows` are whole memories."""
        self._rows = rows.select(["id", "passage", "start", "end", "speaker", "digest", "text"])
        self._vectors = rows.column(column).combine_chunks()
        self._encoder = encoder
        self._progress = progress
        heads = rows.select(["id", "passage", "text"]).to_pylist()
        self._texts = {row["id"]: row["text"] for row in heads if row["passage"] == 0}
        self._right: dict[int, NDArray[np.float32]] = {}
        self._wrong: set[int] = set()

    def wrong(self, sample: int | None) -> list[int]:
        """The rows with wrong vectors: of a sample spread over all, and around those found there.

        None compares all of them.
        """
        embedded = [
            position for position, one in enumerate(self._vectors.is_valid().to_pylist()) if one
        ]
        step = 1 if sample is None else max(1, -(-len(embedded) // max(sample, 1)))
        self._compare(embedded[::step])
        while step > 1 and (around := self._around(embedded, step)):
            self._compare(around)
        return sorted(self._wrong)

    def _around(self, embedded: Sequence[int], step: int) -> list[int]:
        """What has not been compared within a step of a wrong one."""
        positions = (number for number, position in enumerate(embedded) if position in self._wrong)
        near = {
            position
            for number in positions
            for position in embedded[max(0, number - step) : number + step + 1]
        }
        return sorted(near - self._right.keys())

    def _compare(self, positions: Sequence[int]) -> None:
        import numpy as np

        for start in range(0, len(positions), _AT_ONCE):
            some = positions[start : start + _AT_ONCE]
            rows = self._rows.take(some).to_pylist()
            right = self._encoder.encode_passages([self._text_of(row) for row in rows])
            flat = self._vectors.take(some).flatten().to_numpy().reshape(len(some), -1)
            is_near = np.einsum("nd,nd->n", right, flat) >= NEAR_ENOUGH
            self._right |= dict(zip(some, right, strict=True))
            self._wrong |= {
                position for position, near in zip(some, is_near, strict=True) if not near
            }
            if self._progress is not None:
                self._progress(start + len(some), len(positions))

    def _text_of(self, row: dict[str, Any]) -> str:
        return passage_text(row["speaker"], self._texts[row["id"]][row["start"] : row["end"]])

    def mended(self, positions: Sequence[int]) -> tuple[list[dict[str, Any]], NDArray[np.float32]]:
        """The keys of these rows, and the (n, d) vectors that belong there."""
        import numpy as np

        rows = self._rows.select(["id", "passage", "digest"]).take(positions).to_pylist()
        return rows, np.stack([self._right[position] for position in positions])
