import pytest

from services.bot.domain import Candidate, Choice, Language, Thresholds, choose, confidence, language_of

pytestmark = pytest.mark.unit

T = Thresholds(answer=0.93, suggest=0.87, suggest_english=0.83, own_language=0.03)


def found(*scores: float, locale: str = "zh-CN") -> list[Candidate]:
    return [Candidate(number, f"q{number}", f"a{number}", locale, score) for number, score in enumerate(scores, 1)]


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("什么时候发货", Language.CHINESE),
        ("When do you ship?", Language.ENGLISH),
        ("iPhone 15 Pro Max 多少钱", Language.CHINESE),
        ("Samsung Galaxy S24 Ultra case 有货吗", Language.CHINESE),
        ("Do you have the 旗袍 in size M?", Language.ENGLISH),
        ("12345", Language.CHINESE),
        ("OK", Language.ENGLISH),
    ],
)
def test_the_language_is_that_of_the_sentence_and_not_of_the_names_in_it(text: str, language: Language) -> None:
    assert language_of(text) is language


def test_an_entry_that_stands_out_is_more_certain_than_a_better_one_in_a_crowd() -> None:
    alone = confidence(found(0.90, 0.86, 0.86, 0.85, 0.85, 0.85))
    crowded = confidence(found(0.91, 0.91, 0.90, 0.90, 0.90, 0.90))
    assert alone == pytest.approx(0.90 + 2 * (0.90 - 0.854))
    assert alone > crowded


def test_it_answers_with_the_best_when_sure_and_names_some_when_not() -> None:
    sure = found(0.92, 0.88, 0.87, 0.87, 0.86, 0.86)
    assert choose(sure, Language.CHINESE, T) == Choice(answer=sure[0])
    unsure = found(0.90, 0.895, 0.89, 0.89, 0.89, 0.88)
    assert choose(unsure, Language.CHINESE, T) == Choice(suggestions=tuple(unsure[:3]))
    far = found(0.84, 0.83, 0.83, 0.82, 0.82, 0.82)
    assert choose(far, Language.CHINESE, T) == Choice()
    assert choose([], Language.CHINESE, T) == Choice()


def test_the_order_in_which_entries_come_does_not_matter() -> None:
    sure = found(0.92, 0.88, 0.87, 0.87, 0.86, 0.86)
    assert choose(sure[::-1], Language.CHINESE, T).answer == sure[0]


def test_an_entry_in_the_questions_language_is_preferred_when_it_is_nearly_as_good() -> None:
    chinese = found(0.93, 0.85, 0.85, 0.84)
    english = [Candidate(9, "q9", "a9", "en-US", 0.915), *found(0.84, 0.83, 0.83, locale="en")]
    assert choose([*chinese, *english], Language.ENGLISH, T).answer == english[0]
    assert choose([*chinese, *english], Language.CHINESE, T).answer == chinese[0]


def test_an_entry_in_another_language_is_better_than_none() -> None:
    chinese = found(0.93, 0.85, 0.85, 0.84)
    english = found(0.80, 0.79, locale="en")
    assert choose([*chinese, *english], Language.ENGLISH, T).answer == chinese[0]


def test_a_translation_that_is_as_near_does_not_lower_the_confidence() -> None:
    # Both say the same: the Chinese one must not look like one of a crowd.
    both = [*found(0.90, 0.85, 0.85, 0.84), *found(0.895, 0.84, locale="en")]
    assert choose(both, Language.CHINESE, T).answer == both[0]


def test_the_only_entry_of_a_shop_must_be_very_near() -> None:
    assert choose(found(0.95), Language.CHINESE, T).answer is not None
    assert choose(found(0.90), Language.CHINESE, T).answer is None
