"""The model card of a trained model, in the form that the Hugging Face hub reads.

It holds counts, scores and settings. The memories and questions behind them stay in the store.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import PurePath
from typing import Any

from byheart_retrain.publishing.pictures import BY_TYPE, GAINS, TRAINING
from byheart_retrain.publishing.report import (
    Latencies,
    Mean,
    PairedScores,
    Report,
    RerankerReport,
)
from byheart_store.models import EMBEDDED_NAME

METRICS = {"ndcg@10": "NDCG@10", "recall@1": "R@1", "recall@5": "R@5", "mrr": "MRR"}

_EMBEDDED_ID = f"sentence-transformers/{EMBEDDED_NAME}"
_EMBEDDED_LICENSE = "apache-2.0"
_TAGS = ("sentence-transformers", "sentence-similarity", "feature-extraction", "byheart")

_PURPOSE = """\
It finds the memories of one ByHeart store: short notes and turns of conversation, asked for by
the people and agents that the store belongs to. It was fitted to their words and to what they
found useful.

It is not a general embedding model. For another store, other people, another language or long
documents take its base, or train from labels of that store. Similarity is no proof: a memory
that comes first may still be wrong or out of date."""

_LIMITS = """\
- The scores hold for questions like those that were labelled, asked of this store. What nobody
  asked was not measured.
- Labels come from what was shown: a useful memory that the deployed model never brought up can't
  have been labelled, so gains on such memories are not seen.
- The intervals are bootstrap intervals over the test queries. They don't cover a change in what
  is asked, nor another seed.
- The weights were trained on the texts of the store. This card, the report and the pictures hold
  no text of it, but weights can give away what they were trained on: treat the folder as private
  as the store."""


def card(report: Report, pictures: Collection[str] = ()) -> str:
    """The whole README.md; `pictures` are the names of those that lie beside it."""
    sections = {
        "What it is for, and what not": _PURPOSE,
        "Data": _data(report),
        "Results": _results(report, pictures),
        "Results by type of question": _types(report, pictures),
        "Guards": _guards(report),
        "Reranker": _reranker(report.get("reranker")),
        "Training": _training(report, pictures),
        "Latency": _latency(report["latency_ms"]),
        "Limits": _LIMITS,
        "How to use": _use(report),
        "How to reproduce": _reproduce(report),
    }
    written = [f"## {title}\n\n{content}" for title, content in sections.items() if content]
    return "\n\n".join([_front_matter(report), _summary(report), *written]) + "\n"


def _front_matter(report: Report) -> str:
    base = hub_id(report["base"])
    usual = _EMBEDDED_LICENSE if base == _EMBEDDED_ID else None
    terms = report.get("license", usual)
    lines = [
        *([f"license: {json.dumps(terms)}"] if terms else []),
        *([f"base_model: {json.dumps(base)}"] if base else []),
        "library_name: sentence-transformers",
        "pipeline_tag: sentence-similarity",
        "tags:",
        *(f"- {tag}" for tag in _TAGS),
    ]
    return "\n".join(["---", *lines, "---"])


def hub_id(base: str) -> str | None:
    """The base's name on the hub; none for a folder, whose path concerns nobody."""
    if base == EMBEDDED_NAME:
        return _EMBEDDED_ID
    return base if base.count("/") == 1 and not base.startswith(("/", ".", "~")) else None


def _base(report: Report) -> str:
    return hub_id(report["base"]) or PurePath(report["base"]).name


def _summary(report: Report) -> str:
    return (
        f"# {_cell(report['name'])}\n\n"
        f"A specialist for one ByHeart store, trained from {_cell(_base(report))}.\n\n"
        f"**{_cell(report['verdict']['reason'])}**"
    )


def _data(report: Report) -> str:
    labels = report["labels"]
    rows = [
        ("labelled questions", labels["queries"]),
        ("judgements", labels["labels"]),
        *((f"judgements from {name}", count) for name, count in labels["by_source"].items()),
        ("questions to train on", labels["train"]),
        ("questions to stop and choose by (development)", labels["dev"]),
        ("questions to judge by (test)", labels["test"]),
        *((f"mining: {name}", value) for name, value in _settings(report["mining"])),
    ]
    return _table(("", "count"), rows) + (
        "\n\nNothing of the development or the test questions was trained on."
    )


def _results(report: Report, pictures: Collection[str]) -> str:
    text = (
        f"The whole recall, before (deployed) and after (trained), on {report['labels']['test']} "
        "test questions. Means with 95% bootstrap intervals; gains are paired."
    )
    return "\n\n".join([text, _scores(report["scores"]), *_picture(GAINS, pictures)])


def _scores(scores: PairedScores) -> str:
    rows = [
        (
            title,
            *(_interval(scores[side][name]) for side in ("before", "after")),
            _interval(scores["gain"][name], sign="+"),
        )
        for name, title in METRICS.items()
        if all(name in scores[side] for side in ("before", "after", "gain"))
    ]
    return _table(("metric", "before", "after", "gain"), rows)


def _types(report: Report, pictures: Collection[str]) -> str:
    rows = [
        (
            name,
            row["queries"],
            _interval(row["before"]),
            _interval(row["after"]),
            _interval(row["gain"], sign="+"),
        )
        for name, row in report["by_type"].items()
    ]
    if not rows:
        return ""
    table = _table(("type", "queries", "NDCG@10 before", "after", "gain"), rows)
    return "\n\n".join([table, *_picture(BY_TYPE, pictures)])


def _guards(report: Report) -> str:
    rows = [
        (
            guard["name"],
            guard["queries"],
            f"{guard['before']:.3f}",
            f"{guard['after']:.3f}",
            _interval(guard["loss"], sign="+"),
            f"{guard['tolerance']:.3f}",
            "yes" if guard["holds"] else "**no**",
        )
        for guard in report["guards"]
    ]
    if not rows:
        return ""
    head = ("guard", "queries", "NDCG@10 before", "after", "loss", "allowed", "holds")
    return "What training may not cost: a guard that does not hold stops the promotion.\n\n" + (
        _table(head, rows)
    )


def _reranker(reranker: RerankerReport | None) -> str:
    if reranker is None:
        return ""
    base = hub_id(reranker["base"]) or PurePath(reranker["base"]).name
    text = (
        f"A cross-encoder, trained from {_cell(base)}, reads the first memories again. Here "
        f"*before* is the trained embedding alone. {_cell(reranker['verdict']['reason'])}"
    )
    times = [_latency(reranker["latency_ms"])] if "latency_ms" in reranker else []
    settings = [*_settings(reranker.get("settings", {}))]
    chosen = [_table(("setting", "value"), settings)] if settings else []
    return "\n\n".join([text, _scores(reranker["scores"]), *chosen, *times])


def _training(report: Report, pictures: Collection[str]) -> str:
    rows = [
        ("base", _base(report)),
        *_settings(report["training"]),
        ("seed", report["seed"]),
        *((f"fitted: {name}", value) for name, value in _settings(report["tuning"])),
        *((f"seconds of {name}", f"{value:.1f}") for name, value in report["seconds"].items()),
        *((f"export: cosine {name}", f"{value:.4f}") for name, value in report["parity"].items()),
    ]
    return "\n\n".join([_table(("setting", "value"), rows), *_picture(TRAINING, pictures)])


def _settings(values: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, str]]:
    """Single values by name, those of inner objects as `outer.inner`; lists are left out."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _settings(value, f"{prefix}{name}.")
        elif isinstance(value, float):
            yield prefix + name, f"{value:.4g}"
        elif isinstance(value, int | str):
            yield prefix + name, str(value)


def _latency(times: Latencies) -> str:
    rows = [
        (side, *(f"{times[side][at]:.1f}" for at in ("p50", "p99"))) for side in ("before", "after")
    ]
    return _table(("a recall takes", "p50, ms", "p99, ms"), rows)


def _use(report: Report) -> str:
    return f"""\
Judge and serve it with ByHeart, from the folder DIR that holds this card:

    byheart models promote DIR
    byheart models rollback

Or encode with sentence-transformers:

    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer("DIR")  # {_cell(report["name"])}
    questions = model.encode_query(["where did we put the spare key?"])
    passages = model.encode_document(["The spare key hangs behind the meter."])
    print(model.similarity(questions, passages))

`model.onnx` is the int8 file that ByHeart serves, `onnx/model.onnx` the same in fp32, and
`byheart.json` says how the model reads and what was fitted for it."""


def _reproduce(report: Report) -> str:
    return f"""\
With the same store, labels and seed ({report["seed"]}):

    {" ".join(report["command"].split())}

All figures of this card are in `report.json`."""


def _picture(name: str, pictures: Collection[str]) -> list[str]:
    return [f"![{name.removesuffix('.png')}]({name})"] if name in pictures else []


def _interval(interval: Mean, sign: str = "") -> str:
    mean, low, high = interval["mean"], interval["low"], interval["high"]
    if mean is None or low is None or high is None:
        return "not measured"
    return f"{mean:{sign}.3f} ({low:{sign}.3f} to {high:{sign}.3f})"


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(_cell(value) for value in line) + " |" for line in lines)


def _cell(value: object) -> str:
    """A value on one line, with nothing that ends a cell."""
    return " ".join(str(value).split()).replace("|", "\\|")
