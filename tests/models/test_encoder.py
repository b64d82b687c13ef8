import json
import shutil
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from byheart_store.errors import ModelUnavailable
from byheart_store.models.encoder import Encoder
from byheart_store.models.passages import EMBEDDED
from byheart_store.ranking.tuning import DEFAULT_TUNING

from ..encoders import load_anew as load_encoder


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    return load_encoder(None, cache_dir=tmp_path_factory.mktemp("cache"), threads=2)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(EMBEDDED, tmp_path / "model"))


def declare(folder: Path, **changes: object) -> None:
    manifest = json.loads((folder / "byheart.json").read_text())
    (folder / "byheart.json").write_text(json.dumps(manifest | changes))


def refusal(model: str, tmp_path: Path, timeout: float = 5.0) -> str:
    with pytest.raises(ModelUnavailable) as caught:
        load_encoder(model, cache_dir=tmp_path / "cache", download_timeout=timeout)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_importing_the_module_loads_no_model_runtime() -> None:
    heavy = "{'fastembed', 'onnxruntime', 'tokenizers', 'huggingface_hub', 'torch'}"
    code = f"import sys, byheart_store.models.loading; print({heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_no_name_means_the_embedded_model(encoder: Encoder, tmp_path: Path) -> None:
    named = load_encoder("all-MiniLM-L6-v2", cache_dir=tmp_path)
    assert (encoder.name, encoder.dimension, encoder.max_tokens) == ("all-MiniLM-L6-v2", 384, 256)
    assert named.fingerprint == encoder.fingerprint
    assert len(encoder.fingerprint) == 16


def test_near_meanings_get_near_vectors(encoder: Encoder) -> None:
    query = encoder.encode_query("Who looks after the cat while we travel?")
    near, far = encoder.encode_passages(
        ["Marta feeds the cat when we are on holiday.", "The invoice is due on the 4th."]
    )
    assert query @ near > query @ far + 0.3


def test_rows_come_in_the_order_of_the_texts(encoder: Encoder) -> None:
    texts = ["a much longer sentence about the garden fence", "fence", "the garden fence"]
    rows = encoder.encode_passages(texts)
    assert rows.shape == (3, 384)
    assert rows.dtype == np.float32
    assert np.array_equal(rows, np.stack([encoder.encode_query(text) for text in texts]))


def test_a_vector_does_not_depend_on_what_is_encoded_with_it(encoder: Encoder) -> None:
    alone = encoder.encode_passages(["the spare key hangs in the shed"])[0]
    among = encoder.encode_passages(["the spare key hangs in the shed", *["loud! " * 200] * 40])[0]
    assert np.array_equal(alone, among)


def test_no_texts_give_no_rows(encoder: Encoder) -> None:
    assert encoder.encode_passages([]).shape == (0, 384)


@pytest.mark.parametrize("text", ["", " \n\t", "\ud800", "a\udfffb", "\x00", "\u0301", "🦑" * 500])
def test_any_string_gives_a_finite_unit_vector(encoder: Encoder, text: str) -> None:
    for row in (encoder.encode_query(text), encoder.encode_passages([text])[0]):
        assert np.linalg.norm(row) == pytest.approx(1, abs=1e-5)


def test_progress_counts_every_text_once(encoder: Encoder) -> None:
    done: list[int] = []
    encoder.encode_passages([f"note {i}" for i in range(150)], done.append)
    assert sum(done) == 150
    assert len(done) > 1


def test_the_embedded_model_reads_256_tokens_and_no_more(encoder: Encoder) -> None:
    opening = "word " * 240
    read, unread = encoder.encode_passages([opening + "giraffe", "word " * 300 + "giraffe"])
    assert not np.array_equal(read, encoder.encode_query(opening + "invoice"))
    assert np.array_equal(unread, encoder.encode_query("word " * 300 + "invoice"))


def test_threads_may_encode_at_once(encoder: Encoder) -> None:
    texts = [f"message {i} about topic {i % 7}" for i in range(40)]
    expected = encoder.encode_passages(texts)
    with ThreadPoolExecutor(8) as pool:
        assert np.array_equal(np.stack(list(pool.map(encoder.encode_query, texts))), expected)


def test_a_folder_is_the_same_model_wherever_it_lies(
    encoder: Encoder, folder: Path, tmp_path: Path
) -> None:
    served = load_encoder(str(folder), cache_dir=tmp_path)
    assert served.name == str(folder)
    assert served.fingerprint == encoder.fingerprint
    assert np.array_equal(served.encode_query("hello"), encoder.encode_query("hello"))


def test_prefixes_belong_to_the_model(encoder: Encoder, folder: Path, tmp_path: Path) -> None:
    declare(folder, query_prefix="query: ", passage_prefix="passage: ")
    served = load_encoder(str(folder), cache_dir=tmp_path)
    assert served.fingerprint != encoder.fingerprint
    assert np.array_equal(served.encode_query("hi"), encoder.encode_query("query: hi"))
    assert np.array_equal(served.encode_passages(["hi"])[0], encoder.encode_query("passage: hi"))


def test_a_sentence_transformers_folder_needs_no_manifest(folder: Path, tmp_path: Path) -> None:
    (folder / "byheart.json").unlink()
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text('{"pooling_mode_cls_token": true}')
    modules = [{"type": "sentence_transformers.models.Pooling", "path": "1_Pooling"}]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "sentence_bert_config.json").write_text('{"max_seq_length": 64}')
    assert load_encoder(str(folder), cache_dir=tmp_path).max_tokens == 64


def test_the_declared_length_overrules_the_tokenizers(folder: Path, tmp_path: Path) -> None:
    config = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps(config | {"max_length": 16}))
    served = load_encoder(str(folder), cache_dir=tmp_path)
    opening = "word " * 100
    assert not np.array_equal(
        served.encode_query(opening + "giraffe"), served.encode_query(opening + "invoice")
    )


def test_onnx_may_lie_in_a_folder_of_its_own(folder: Path, tmp_path: Path) -> None:
    (folder / "onnx").mkdir()
    (folder / "model.onnx").rename(folder / "onnx" / "model.onnx")
    assert load_encoder(str(folder), cache_dir=tmp_path).dimension == 384


def test_a_folder_without_onnx_is_refused(tmp_path: Path) -> None:
    assert "export the model to ONNX" in refusal(str(tmp_path), tmp_path)


def test_a_file_that_is_not_what_was_built_is_refused(folder: Path, tmp_path: Path) -> None:
    with (folder / "model.onnx").open("ab") as file:
        file.write(b"x")
    assert "is damaged" in refusal(str(folder), tmp_path)


def test_a_truncated_onnx_file_is_refused(folder: Path, tmp_path: Path) -> None:
    (folder / "byheart.json").unlink()
    (folder / "model.onnx").write_bytes((EMBEDDED / "model.onnx").read_bytes()[:100_000])
    assert "can't be loaded" in refusal(str(folder), tmp_path)


def test_a_folder_without_a_tokenizer_is_refused(folder: Path, tmp_path: Path) -> None:
    (folder / "tokenizer.json").unlink()
    assert "tokenizer.json" in refusal(str(folder), tmp_path)


def test_a_wrong_dimension_is_refused(folder: Path, tmp_path: Path) -> None:
    declare(folder, dimension=768)
    assert "declares 768-d vectors, model.onnx gives 384-d" in refusal(str(folder), tmp_path)


def test_a_pooling_that_is_not_served_is_refused(folder: Path, tmp_path: Path) -> None:
    declare(folder, pooling="weightedmean")
    assert "pools by 'weightedmean'" in refusal(str(folder), tmp_path)


def test_a_broken_manifest_is_refused(folder: Path, tmp_path: Path) -> None:
    (folder / "byheart.json").write_text("{")
    assert "byheart.json is no JSON" in refusal(str(folder), tmp_path)


def test_an_unknown_model_name_is_refused_with_near_names(tmp_path: Path) -> None:
    assert "BAAI/bge-small-en-v1.5" in refusal("bge-smal-en-v1.5", tmp_path)
    assert "all-MiniLM-L6-v2" in refusal("no-such-thing", tmp_path)


@pytest.fixture
def silent_hub(monkeypatch: pytest.MonkeyPatch) -> object:
    released = threading.Event()
    # No hub on this machine keeps silent; this is the one call that waits for it.
    monkeypatch.setattr(
        "byheart_store.models.catalogue._ask_hub", lambda _timeout: released.wait(30)
    )
    yield released
    released.set()


@pytest.mark.usefixtures("silent_hub")
def test_a_hub_that_never_answers_is_given_up_in_time(tmp_path: Path) -> None:
    started = time.perf_counter()
    assert "no answer within 0.5 s" in refusal("BAAI/bge-small-en-v1.5", tmp_path, timeout=0.5)
    assert time.perf_counter() - started < 5


def test_a_model_that_can_not_be_downloaded_is_refused_in_seconds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    started = time.perf_counter()
    assert "leave the model out to use the embedded" in refusal("BAAI/bge-small-en-v1.5", tmp_path)
    assert time.perf_counter() - started < 8


def test_a_folder_brings_its_tuning_and_keeps_its_fingerprint(
    encoder: Encoder, folder: Path, tmp_path: Path
) -> None:
    tuning = replace(DEFAULT_TUNING, fusion=replace(DEFAULT_TUNING.fusion, vector=0.8))
    declare(folder, tuning=tuning.as_dict())
    tuned = load_encoder(str(folder), cache_dir=tmp_path)
    assert (tuned.tuning, encoder.tuning) == (tuning, None)
    assert tuned.fingerprint == encoder.fingerprint


def test_what_a_tuning_lacks_has_its_default(folder: Path, tmp_path: Path) -> None:
    declare(folder, tuning={"fusion": {"vector": 0.8}, "of a later version": 1})
    tuning = load_encoder(str(folder), cache_dir=tmp_path).tuning
    assert tuning == replace(DEFAULT_TUNING, fusion=replace(DEFAULT_TUNING.fusion, vector=0.8))


@pytest.mark.parametrize(
    "tuning",
    [
        "words",
        ["fusion"],
        {"fusion": 3},
        {"fusion": {"vector": "0.8"}},
        {"fusion": {"vector": None}},
        {"calibration": {"vectors": [1.0, 2.0]}},
        {"calibration": {"threshold": float("nan")}},
    ],
    ids=str,
)
def test_a_tuning_that_can_not_be_read_says_what_to_do(
    folder: Path, tmp_path: Path, tuning: object
) -> None:
    declare(folder, tuning=tuning)
    assert "delete that entry" in refusal(str(folder), tmp_path)
