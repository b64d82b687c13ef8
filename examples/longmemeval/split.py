"""Split LongMemEval as published, a fifth of each type held out, and store all its memories.

python examples/longmemeval/split.py longmemeval_s.json --home HOME
"""

from __future__ import annotations

import sys
from pathlib import Path

from byheart_retrain.labels import longmemeval_split

sys.path.append(str(Path(__file__).resolve().parents[1]))

from experiment.prepare import prepare

if __name__ == "__main__":
    prepare(longmemeval_split, formats=("longmemeval",))
