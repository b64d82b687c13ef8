"""From nothing to one query of each leg, and no further: DATABASE COLUMN METRIC MODEL QUERY."""

import asyncio
import sys
from pathlib import Path

import lancedb
import numpy as np
import onnxruntime
from lancedb.query import MatchQuery
from tokenizers import Tokenizer

POOL = 200


async def ask(database: str, column: str, metric: str, model: Path, query: str) -> None:
    tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(model / "model.onnx"), options)
    ids = np.array([tokenizer.encode(query).ids], np.int64)
    given = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
    given |= {"token_type_ids": np.zeros_like(ids)}
    read = {one.name: given[one.name] for one in session.get_inputs()}
    vector = session.run(None, read)[0][0].mean(axis=0)
    connection = await lancedb.connect_async(database)
    table = await connection.open_table("memories")
    by_words = table.query().nearest_to_text(MatchQuery(query, "searched"))
    by_vector = table.query().nearest_to(vector).column(column).distance_type(metric)
    await by_words.select(["id", "_score"]).limit(POOL).to_arrow()
    await by_vector.select(["id", "_distance"]).limit(POOL).to_arrow()


database, column, metric, model, query = sys.argv[1:]
asyncio.run(ask(database, column, metric, Path(model), query))
print("answered", flush=True)
sys.stdin.read()
