"""Split LoCoMo by conversation, three of ten held out, and store all its memories.

python examples/locomo/split.py locomo10.json --home HOME
python examples/locomo/split.py FOLDER --format beir --home HOME
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from byheart_retrain.queries import LabelledQuery

sys.path.append(str(Path(__file__).resolve().parents[1]))

from experiment.prepare import prepare

HELD_OUT = ("conv-48", "conv-49", "conv-50")


def by_conversation(
    queries: Sequence[LabelledQuery],
) -> tuple[list[LabelledQuery], list[LabelledQuery]]:
    """The questions of the conversations held out, and the rest."""
    return (
        [query for query in queries if query.namespace in HELD_OUT],
        [query for query in queries if query.namespace not in HELD_OUT],
    )


if __name__ == "__main__":
    prepare(by_conversation, formats=("locomo", "beir"))
