"""Passages: the parts of a long text that an encoder can read whole.

The embedded tokenizer counts, whichever model is active, so a text has the same passages under
every model and keeps them when the model changes.
"""

import re
import unicodedata
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from tokenizers import Tokenizer

EMBEDDED = Path(__file__).parent / "embedded"
EMBEDDED_NAME = "all-MiniLM-L6-v2"

# The embedded encoder reads 256 tokens: 2 frame the text, and the speaker and what was said before
# take some 50.
MAX_TOKENS = 200

_UNKNOWN = "[UNK]"
_BYTES_PER_UNKNOWN_TOKEN = 3
_CHARACTERS_PER_TOKEN = 20
_CHARACTERS_PER_CHUNK = 2_000

_SURROGATE = re.compile("[\ud800-\udfff]")
# What the tokenizer takes for white space; to str.isspace() it is more than that.
_SPACE = " \t\n\r\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
_HAN = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003134f"
_PARAGRAPH = re.compile(rf"\n[{_SPACE}]*\n")
_SENTENCE = re.compile(
    rf"[.!?…]+[\"'”’»)\]]*[{_SPACE}]+|[。！？；]+[”’」』）]*|[؟۔।॥]+[{_SPACE}]*|\n"
)
_WORD = re.compile(rf"[{_SPACE}]+|(?<=[{_HAN}])(?=[{_HAN}])")


@dataclass(frozen=True, slots=True)
class Span:
    """A passage is `text[start:end]`, in characters."""

    start: int
    end: int


def well_formed(text: str) -> str:
    """`text` with lone surrogates replaced, which no tokenizer and no file accepts; same length."""
    return text if text.isascii() else _SURROGATE.sub("\ufffd", text)


def passage_text(speaker: str | None, passage: str) -> str:
    """A passage with its speaker, as both legs and every encoder read it."""
    return f"{speaker}: {passage}" if speaker else passage


def passage_texts(speaker: str | None, text: str, spans: Iterable[Span] | None = None) -> list[str]:
    """What the encoder reads of a memory, one text per passage; without `spans` it is split."""
    spans = split_passages(text) if spans is None else spans
    return [passage_text(speaker, text[span.start : span.end]) for span in spans]


def count_tokens(text: str) -> int:
    """Tokens in `text`, by the embedded tokenizer; what it can't read counts by its bytes."""
    return len(_token_starts(well_formed(text))[0])


def split_passages(text: str, max_tokens: int = MAX_TOKENS) -> list[Span]:
    """The spans of `text`, in order, each of at most `max_tokens` tokens.

    Only white space is left out between them. They break between paragraphs where they can, else
    between sentences, else between words; a word is cut only when it is longer than a passage, and
    then its last part may count some tokens more, since a rest is read otherwise than a whole.
    """
    readable = well_formed(text)
    if len(readable.encode()) <= max_tokens:  # no token is less than a byte
        return [Span(0, len(text))]
    starts, word_starts = _token_starts(readable)
    if len(starts) <= max_tokens and len(text) <= max_tokens * _CHARACTERS_PER_TOKEN:
        return [Span(0, len(text))]
    cuts = _Cuts(readable, starts, word_starts, max_tokens)
    spans = [_trimmed(readable, start, end) for start, end in cuts]
    return [span for span in spans if span.start < span.end] or [Span(0, len(text))]


class _Cuts:
    """Where a text may be cut, and how much of it a passage holds."""

    def __init__(
        self, text: str, starts: Sequence[int], word_starts: Sequence[int], max_tokens: int
    ) -> None:
        self.text, self.starts, self.max_tokens = text, starts, max_tokens
        self.paragraphs = [match.end() for match in _PARAGRAPH.finditer(text)]
        self.sentences = [match.end() for match in _SENTENCE.finditer(text)]
        self.words = [match.end() for match in _WORD.finditer(text)]
        self.word_starts = word_starts

    def __iter__(self) -> Iterator[tuple[int, int]]:
        start = 0
        while start < len(self.text):
            end = self._end(start)
            yield start, end
            start = end

    def _end(self, start: int) -> int:
        first = bisect_left(self.starts, start)
        left = len(self.starts) - first
        limit = self._position(start, first + self.max_tokens)
        if limit == len(self.text):
            return limit
        # Equal shares: a stub at the end would be a passage that says nothing.
        share = -(-left // max(1, -(-left // self.max_tokens)))
        aim = min(limit, self._position(start, first + share))
        for places in (self.paragraphs, self.sentences, self.words):
            if cut := _nearest(places, aim, start + (aim - start) // 2, limit):
                return cut
        return (
            _last(self.words, start, limit)
            or _last(self.word_starts, start, limit)
            or self._between_characters(start, limit)
        )

    def _position(self, start: int, token: int) -> int:
        end = self.starts[token] if token < len(self.starts) else len(self.text)
        return max(start + 1, min(end, start + self.max_tokens * _CHARACTERS_PER_TOKEN))

    def _between_characters(self, start: int, limit: int) -> int:
        """The last place up to `limit` that parts no accent or emoji from what it belongs to."""
        for cut in range(limit, max(start, limit - 16), -1):
            if not _joined(self.text[cut - 1], self.text[cut]):
                return cut
        return limit


def _joined(before: str, after: str) -> bool:
    joiner = "\u200d"
    return joiner in (before, after) or unicodedata.category(after) in ("Mn", "Me", "Sk", "Cf")


def _nearest(places: Sequence[int], aim: int, low: int, high: int) -> int | None:
    """The place in (low, high] closest to `aim`; the later of two."""
    inside = places[bisect_right(places, low) : bisect_right(places, high)]
    return min(inside, key=lambda place: (abs(place - aim), -place), default=None)


def _last(places: Sequence[int], low: int, high: int) -> int | None:
    """The last place in (low, high]."""
    index = bisect_right(places, high) - 1
    return places[index] if index >= 0 and places[index] > low else None


def _trimmed(text: str, start: int, end: int) -> Span:
    # Indentation stays: in code it means something.
    while end > start and re.match(f"[{_SPACE}]", text[end - 1]):
        end -= 1
    return Span(start, end)


@lru_cache(maxsize=1)
def _tokenizer() -> "Tokenizer":
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(EMBEDDED / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _token_starts(text: str) -> tuple[list[int], list[int]]:
    """Where each token begins, and where each word begins; words end at punctuation too."""
    tokens: list[int] = []
    words: list[int] = []
    for first, last in _chunks(text):
        chunk_tokens, chunk_words = _chunk_starts(text[first:last])
        tokens += (chunk_tokens + first).tolist()
        words += (chunk_words + first).tolist()
    return tokens, words


def _chunks(text: str) -> Iterator[tuple[int, int]]:
    """Parts of whole words: the tokenizer slows down on long texts (0.9 s to 4.7 a million)."""
    start = 0
    while start < len(text):
        match = _WORD.search(text, start + _CHARACTERS_PER_CHUNK)
        end = match.end() if match else len(text)
        yield start, end
        start = end


def _chunk_starts(text: str) -> "tuple[NDArray[np.int64], NDArray[np.int64]]":
    import numpy as np

    tokenizer = _tokenizer()
    encoding = tokenizer.encode(text, add_special_tokens=False)
    offsets = np.asarray(encoding.offsets, dtype=np.int64).reshape(-1, 2)
    words = np.asarray(encoding.word_ids, dtype=np.int64)
    unknown = np.flatnonzero(np.asarray(encoding.ids) == tokenizer.token_to_id(_UNKNOWN))
    # One [UNK] may stand for a thousand characters of base64, which other encoders and every
    # language model read as hundreds of tokens.
    extra = [start for i in unknown for start in _shares(text, *offsets[i].tolist())]
    starts = np.sort(np.concatenate([offsets[:, 0], np.asarray(extra, dtype=np.int64)]))
    return starts, offsets[np.flatnonzero(np.diff(words, prepend=-1)), 0]


def _shares(text: str, start: int, end: int) -> Iterator[int]:
    """The beginnings of all parts but the first when an unreadable word counts by its bytes."""
    parts = -(-len(text[start:end].encode()) // _BYTES_PER_UNKNOWN_TOKEN)
    return (start + part * (end - start) // parts for part in range(1, parts))
