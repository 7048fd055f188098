import json
from collections.abc import Callable, Iterator

import pytest

from services.knowledge.domain import FileRefused
from services.knowledge.import_parser import Csv, JsonLines, Reader, Record

pytestmark = pytest.mark.unit

HEADER = b"question,answer,similar_questions,category,locale\r\n"


def read(reader: Reader, data: bytes, piece: int = 7) -> list[Record]:
    """Reads the file cut into small pieces: every cut must be harmless."""

    def records() -> Iterator[Record]:
        for start in range(0, len(data), piece):
            yield from reader.feed(data[start : start + piece])
        yield from reader.finish()

    return list(records())


def good(records: list[Record]) -> list[str]:
    return [record.values["question"] for record in records if not record.problem]


def bad(records: list[Record]) -> list[int]:
    return [record.line for record in records if record.problem]


@pytest.mark.parametrize("piece", [1, 2, 3, 64, 10_000])
def test_csv_with_byte_order_mark_quotes_commas_and_line_breaks(piece: int) -> None:
    data = b"\xef\xbb\xbf" + HEADER + '"多久, ""真的""?","两行\r\n答案",a|b| ,发货,zh-CN\r\n\r\nq,a,,,\r\n'.encode()
    first, second = read(Csv(), data, piece)
    assert first.values == {
        "question": '多久, "真的"?',
        "answer": "两行\r\n答案",
        "similar_questions": ["a", "b"],
        "category": "发货",
        "locale": "zh-CN",
    }
    assert (first.line, second.line, second.values["question"]) == (2, 5, "q")
    assert second.end == len(data)


def test_csv_columns_may_stand_in_any_order_and_the_last_line_needs_no_end() -> None:
    (record,) = read(Csv(), b"Answer, Question\na,q")
    assert record.values == {"answer": "a", "question": "q"}


@pytest.mark.parametrize(
    ("header", "complaint"),
    [
        (b"question,anwser\n", "'anwser'"),
        (b"question\n", "'answer'"),
        (b"question,answer,answer\n", "twice"),
        (b"", "empty"),
        ("问题,答案\n".encode("gbk"), "UTF-8"),
        (b'question,"answer\nq,a\n', "quote"),
    ],
)
def test_a_header_that_cannot_be_used_refuses_the_file(header: bytes, complaint: str) -> None:
    with pytest.raises(FileRefused, match=complaint):
        read(Csv(), header)


def test_an_opened_quote_costs_its_own_line_and_no_other() -> None:
    data = HEADER + b'q1,"never closed,,,\nq2,a,,,\n"q3","two\nlines",,,\nq4,a,,,\n'
    records = read(Csv(), data)
    assert bad(records) == [2]
    assert good(records) == ["q2", "q3", "q4"]


def test_an_opened_quote_at_the_end_of_the_file_is_told() -> None:
    records = read(Csv(), HEADER + b'q1,a,,,\nq2,"open,,,\nq3,a,,,\n')
    assert bad(records) == [3]
    assert good(records) == ["q1", "q3"]


def test_wrong_number_of_columns_wrong_encoding_and_text_after_a_quote() -> None:
    data = HEADER + b"q1,a\n" + "怎么,退,,,\n".encode("gbk") + b'"q"3,a,,,\nq4,a,,,\n'
    records = read(Csv(), data)
    assert bad(records) == [2, 3, 4]
    assert good(records) == ["q4"]
    assert "has 2 of the 5 columns" in records[0].problem
    assert "UTF-8" in records[1].problem
    assert "double the quotes" in records[2].problem


def test_a_quote_within_an_unquoted_text_is_a_quote() -> None:
    (record,) = read(Csv(), HEADER + b'a 5" screen,yes,,,\n')
    assert record.values["question"] == 'a 5" screen'


def test_json_lines_good_and_bad() -> None:
    lines = [
        json.dumps({"question": "q1", "answer": "a", "similar_questions": ["s"]}),
        "",
        "{nonsense",
        "[1]",
        json.dumps({"question": "q5", "answer": 5}),
        json.dumps({"question": "q6", "answer": "a", "similar_questions": "s"}),
        json.dumps({"question": "q7", "answer": "a", "id": 7}),
        "\x00",
        "[" * 5000,
        json.dumps({"question": "q10", "answer": "a"}),
    ]
    records = read(JsonLines(), "\n".join(lines).encode(), 11)
    assert bad(records) == [3, 4, 5, 6, 7, 8, 9]
    assert good(records) == ["q1", "q10"]
    assert [record.problem_field for record in records if record.line in (5, 6, 7)] == [
        "answer",
        "similar_questions",
        "id",
    ]


@pytest.mark.parametrize("reader", [JsonLines, Csv])
def test_an_endless_line_is_dropped_and_the_next_one_is_read(reader: Callable[[], Reader]) -> None:
    is_csv = reader is Csv
    head = HEADER if is_csv else b""
    line = b"q,a,,,\n" if is_csv else b'{"question": "q", "answer": "a"}\n'
    records = read(reader(), head + b"x" * 300_000 + b"\n" + line, 4096)
    assert bad(records) == [2 if is_csv else 1]
    assert good(records) == ["q"]


def test_a_hostile_file_is_read_in_linear_time() -> None:
    data = HEADER + b'"a\n' + b'a"b,"c\n' * 60_000 + b'"\n' * 20_000
    records = read(Csv(), data, 65536)
    assert not good(records)
    assert len(records) <= 80_002
