import base64
import itertools
import random
import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from byheart_store.models.passages import MAX_TOKENS, Span, count_tokens, split_passages

from ..conftest import examples

SPACE = " \t\n\r\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
SPACE += "\u2028\u2029\u202f\u205f\u3000"
PROSE = "The boiler was serviced in March. Ana paid 140 euros; the invoice is in the blue folder. "

words = st.text(st.characters(exclude_categories=["Zs", "Zl", "Zp", "Cc"]), min_size=1, max_size=40)
gaps = st.sampled_from([" ", "\n", "\n\n", ". ", "  ", "\t", "\n    "])
texts = st.lists(words | gaps, max_size=120).map("".join)
small = examples(60)


def pieces(text: str, max_tokens: int = MAX_TOKENS) -> list[str]:
    return [text[span.start : span.end] for span in split_passages(text, max_tokens)]


def cut_inside_word(text: str, place: int) -> bool:
    return text[place - 1] not in SPACE and text[place] not in SPACE


def word_around(text: str, place: int) -> str:
    start, end = place, place
    while start > 0 and text[start - 1] not in SPACE:
        start -= 1
    while end < len(text) and text[end] not in SPACE:
        end += 1
    return text[start:end]


@pytest.mark.parametrize("text", ["", " ", "ok", "  two\n", "你好", "👩‍👩‍👧", "\ud800", PROSE])
def test_a_short_text_is_one_passage_that_covers_all_of_it(text: str) -> None:
    assert split_passages(text) == [Span(0, len(text))]


@small
@given(texts, st.integers(8, 40))
def test_only_white_space_is_left_out(text: str, max_tokens: int) -> None:
    rest = list(text)
    for span in split_passages(text, max_tokens):
        rest[span.start : span.end] = " " * (span.end - span.start)
    assert all(character in SPACE for character in rest)


@small
@given(texts, st.integers(8, 40))
def test_passages_stand_in_order_and_never_overlap(text: str, max_tokens: int) -> None:
    spans = split_passages(text, max_tokens)
    assert all(span.start <= span.end for span in spans)
    assert all(a.end <= b.start for a, b in itertools.pairwise(spans))


@small
@given(texts, st.integers(8, 40))
def test_a_passage_of_whole_words_never_exceeds_its_size(text: str, max_tokens: int) -> None:
    for span in split_passages(text, max_tokens):
        edges = {span.start, span.end} - {0, len(text)}
        if not any(cut_inside_word(text, edge) for edge in edges):
            assert count_tokens(text[span.start : span.end]) <= max_tokens


@small
@given(texts, st.integers(8, 40))
@example("one two three four five six seven eight nine ten", 8)
def test_a_word_is_cut_only_when_it_is_longer_than_a_passage(text: str, max_tokens: int) -> None:
    cuts = [span.start for span in split_passages(text, max_tokens)[1:]]
    for cut in filter(lambda place: cut_inside_word(text, place), cuts):
        word = word_around(text, cut)
        too_long = count_tokens(word) > max_tokens or len(word) > 20 * max_tokens
        ends_sentence = text[cut - 1] in "。！？；؟۔।॥”’」』）"
        between_ideographs = "\u3400" <= text[cut] <= "\u9fff" or text[cut] >= "\U00020000"
        assert too_long or ends_sentence or between_ideographs


def test_a_long_text_breaks_between_paragraphs() -> None:
    paragraph = (PROSE * 5).strip()
    assert pieces("\n\n".join([paragraph] * 4)) == [paragraph] * 4


def test_a_long_paragraph_breaks_between_sentences() -> None:
    assert all(piece.endswith((".", "folder.")) for piece in pieces(PROSE * 40))


def test_a_long_text_ends_in_no_stub() -> None:
    sizes = [count_tokens(piece) for piece in pieces("word " * (MAX_TOKENS + 1))]
    assert len(sizes) == 2
    assert min(sizes) > MAX_TOKENS // 3


def test_code_breaks_between_lines_and_keeps_its_indentation() -> None:
    code = "def f(x):\n" + "    total = total + compute(x, 17)\n" * 60
    assert all(piece.startswith("    total") for piece in pieces(code)[1:])


def test_chinese_breaks_after_its_full_stop() -> None:
    text = "昨天我们讨论了新的数据库方案，决定下周二上线。" * 40
    assert all(piece.endswith("。") for piece in pieces(text))


def test_arabic_breaks_after_its_question_mark() -> None:
    text = "هل وصلت الرسالة التي أرسلتها إليك يوم الخميس؟ " * 40
    assert all(piece.endswith("؟") for piece in pieces(text))


def test_one_endless_word_is_cut_into_passages_that_cover_it() -> None:
    blob = base64.b64encode(random.Random(0).randbytes(75_000)).decode()
    assert "".join(pieces(blob)) == blob
    assert max(map(count_tokens, pieces(blob))) <= MAX_TOKENS + 60


def test_an_emoji_family_is_not_parted() -> None:
    text = "👩‍👩‍👧" * 2_000
    assert "".join(pieces(text)) == text
    assert all(piece.startswith("👩") and piece.endswith("👧") for piece in pieces(text))


def test_a_lone_surrogate_is_read_and_shifts_nothing() -> None:
    text = PROSE * 10 + "\udcff broken " + PROSE * 10
    assert sum(len(piece.split()) for piece in pieces(text)) == len(text.split())


def test_an_unreadable_word_counts_by_its_bytes() -> None:
    assert count_tokens("x" * 1_000) == 334
    assert count_tokens("two words") == 2
    assert count_tokens("") == 0


@pytest.mark.slow
@pytest.mark.parametrize("part", [PROSE, "数据库方案。", "x", "👩‍👧", "a-b/", " ", "\u0301", "ก"])
def test_a_million_characters_take_seconds_and_not_minutes(part: str) -> None:
    text = (part * (1_000_000 // len(part) + 1))[:1_000_000]
    started = time.perf_counter()
    split_passages(text)
    assert time.perf_counter() - started < 20
