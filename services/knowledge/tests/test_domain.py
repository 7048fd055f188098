import pytest

from services.knowledge.domain import (
    Content,
    guessed_locale,
    without_personal_data,
)

pytestmark = pytest.mark.unit


def test_tidying_takes_away_blanks_repetitions_and_what_repeats_the_question() -> None:
    content = Content(" 几点开门 ", " 九点。\n", ("几点开门", " 几点开始 ", "", "几点开始"), " 服务 ").tidied()
    assert content == Content("几点开门", "九点。", ("几点开始",), "服务", "zh-CN")


def test_an_entry_is_found_by_question_similar_questions_and_answer_in_this_order() -> None:
    assert Content("q", "a", ("s1", "s2")).texts() == ["q", "s1", "s2", "a"]


@pytest.mark.parametrize(
    ("content", "field"),
    [
        (Content("  ", "a"), "question"),
        (Content("q", "\n"), "answer"),
        (Content("q\0", "a"), "question"),
        (Content("q", "a", ("s\ud800",)), "similar_questions"),
    ],
)
def test_what_the_contract_cannot_say_is_a_problem_of_a_field(content: Content, field: str) -> None:
    assert [name for name, _ in content.problems()] == [field]


@pytest.mark.parametrize(
    ("text", "locale"), [("怎么退货", "zh-CN"), ("How to return?", "en"), ("iPhone 怎么退", "zh-CN")]
)
def test_an_entry_without_a_locale_gets_that_of_its_script(text: str, locale: str) -> None:
    assert guessed_locale(text) == locale


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("我的电话13812345678改成139 8765 4321", "我的电话手机号改成手机号"),
        ("发到li.lei@example.com谢谢", "发到邮箱谢谢"),
        ("身份证11010519491231002X可以吗", "身份证证件号可以吗"),
        ("订单2026112113812345678901到哪了", "订单2026112113812345678901到哪了"),
        ("满99减20", "满99减20"),
    ],
)
def test_personal_data_is_taken_out_before_embedding_and_other_numbers_are_not(text: str, masked: str) -> None:
    assert without_personal_data(text) == masked
