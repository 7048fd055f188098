"""The bot as others meet it: over the log, over mutual TLS, between services that come and go."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from octopus.bot.v1 import bot_service_pb2
from octopus.chat.v1 import message_pb2
from octopus.errors.v1 import errors_pb2
from octopus.session.v1 import session_pb2

from mesh.errors import Refused
from mesh.rpc.metadata import with_token
from mesh.testing import Platform
from services.bot.tests.service import SURE, UNSURE, Bot, Conversation, bot, eventually, hit

pytestmark = pytest.mark.service


@pytest.fixture(scope="module")
async def running(platform: Platform) -> AsyncIterator[Bot]:
    async with bot(platform) as opened:
        yield opened


@pytest.fixture(autouse=True)
def reset(running: Bot) -> None:
    running.chat.lost_requests = running.chat.lost_answers = 0
    running.chat.refuses_with = running.sessions.refuses_with = None
    running.knowledge.fails.clear()
    running.knowledge.held.clear()


async def passed_by(running: Bot, tenant: str = "qingshan") -> None:
    """Returns when the bot has dealt with all that was in the log: a later question, elsewhere, is answered.

    Sessions do not wait for each other, so the later one is asked after the bot's attempts at the earlier ones.
    """
    probe = running.conversation(tenant)
    running.knowledge.found["多久发货"] = SURE
    for number in range(1, 4):
        await probe.say("多久发货")
        await probe.answer(number)


async def test_a_question_is_answered_from_the_shops_knowledge_with_its_source(running: Bot) -> None:
    running.knowledge.found["多久发货"] = SURE
    conversation = running.conversation()
    seq = await conversation.say("你好，多久发货")
    answer = await conversation.answer()
    assert answer.text == "24 小时内发出。"
    assert [(source.faq_entry.faq_id, source.title) for source in answer.sources] == [(1, "多久发货？")]
    assert answer.sources[0].score == pytest.approx(0.93)
    assert (answer.answers_seq, answer.offers_handoff) == (seq, False)
    assert conversation.id in running.chat.typing
    assert ("qingshan", "多久发货") in running.knowledge.searched


async def test_a_question_that_the_first_release_stored_is_answered(running: Bot) -> None:
    running.knowledge.found["多久发货"] = SURE
    conversation = running.conversation()
    await conversation.said_by_the_first_release("多久发货")
    assert (await conversation.answer()).text == "24 小时内发出。"


async def test_each_shop_is_asked_for_its_own_customers(running: Bot) -> None:
    running.knowledge.found["保修多久"] = SURE
    conversation = running.conversation("xinghe")
    await conversation.say("保修多久")
    await conversation.answer()
    assert ("xinghe", "保修多久") in running.knowledge.searched
    assert ("qingshan", "保修多久") not in running.knowledge.searched


async def test_what_it_does_not_know_it_says_and_offers_a_person(running: Bot) -> None:
    conversation = running.conversation()
    running.knowledge.found["模特姓什么"] = [hit(n, f"远{n}", "…", 0.80) for n in range(1, 8)]
    await conversation.say("模特姓什么")
    answer = await conversation.answer()
    assert answer.offers_handoff
    assert not answer.sources
    assert "转人工" in answer.text

    running.knowledge.found["what is his name"] = []
    await conversation.say("what is his name")
    english = await conversation.answer(2)
    assert english.offers_handoff
    assert "person" in english.text


async def test_what_it_half_knows_it_names(running: Bot) -> None:
    conversation = running.conversation()
    running.knowledge.found["衣服呢"] = UNSURE
    await conversation.say("衣服呢")
    answer = await conversation.answer()
    assert answer.offers_handoff
    assert not answer.sources
    assert all(f"· 问题{number}\n" in answer.text for number in (1, 2, 3))
    assert "问题4" not in answer.text


async def test_politeness_is_answered_politely_and_without_a_search(running: Bot) -> None:
    conversation = running.conversation()
    searched = len(running.knowledge.searched)
    await conversation.say("你好")
    assert "您好" in (await conversation.answer()).text
    await conversation.say("Thanks!")
    assert "welcome" in (await conversation.answer(2)).text
    assert len(running.knowledge.searched) == searched


@pytest.mark.parametrize("text", ["转人工", "I want to talk to a human"])
async def test_a_wish_for_a_person_becomes_a_handoff_and_no_words(running: Bot, text: str) -> None:
    conversation = running.conversation()
    await conversation.say(text)

    async def handed_over() -> bool:
        return ("qingshan", conversation.id, session_pb2.HANDOFF_REASON_WORDS) in running.sessions.handoffs

    await eventually(handed_over, "the handoff")
    await passed_by(running)
    assert await conversation.answers() == []
    assert conversation.id not in running.chat.typing


@pytest.mark.parametrize("state", [session_pb2.SESSION_STATE_WAITING, session_pb2.SESSION_STATE_ASSIGNED])
async def test_what_it_knows_it_answers_while_a_person_is_waited_for(
    running: Bot, state: session_pb2.SessionState.ValueType
) -> None:
    running.knowledge.found["多久发货"] = SURE
    conversation = running.conversation()
    seq = await conversation.say("多久发货", state=state)
    answer = await conversation.answer()
    assert answer.text == "24 小时内发出。"
    # A person is on the way: no button that asks for one.
    assert (answer.answers_seq, answer.offers_handoff) == (seq, False)


@pytest.mark.parametrize("state", [session_pb2.SESSION_STATE_WAITING, session_pb2.SESSION_STATE_ASSIGNED])
async def test_while_a_person_is_waited_for_it_says_nothing_but_answers(
    running: Bot, state: session_pb2.SessionState.ValueType
) -> None:
    conversation = running.conversation()
    running.knowledge.found["模特姓什么"] = []
    running.knowledge.found["衣服呢"] = UNSURE
    running.knowledge.fails.add("查得到吗")
    for text in ("转人工", "模特姓什么", "衣服呢", "查得到吗", "有人吗", "谢谢", "你好", "😀"):
        await conversation.say(text, state=state)
    await passed_by(running)
    assert await conversation.answers() == []
    assert conversation.id not in running.chat.typing
    assert all(session_id != conversation.id for _, session_id, _ in running.sessions.handoffs)


async def test_it_is_silent_in_sessions_and_to_people_that_are_not_its_own(running: Bot) -> None:
    running.knowledge.found["多久发货"] = SURE
    silent: list[Conversation] = []
    for state in (
        session_pb2.SESSION_STATE_ACTIVE,
        session_pb2.SESSION_STATE_WARNING,
        session_pb2.SESSION_STATE_ENDED,
    ):
        conversation = running.conversation()
        await conversation.say("多久发货", state=state)
        await conversation.say("转人工", state=state)
        silent.append(conversation)
    for kind in (message_pb2.SENDER_KIND_AGENT, message_pb2.SENDER_KIND_SYSTEM, message_pb2.SENDER_KIND_BOT):
        conversation = running.conversation()
        await conversation.say("多久发货", kind=kind)
        silent.append(conversation)
    await passed_by(running)
    for conversation in silent:
        assert await conversation.answers() == []
        assert all(session_id != conversation.id for _, session_id, _ in running.sessions.handoffs)


async def hold(running: Bot, conversation: Conversation, text: str) -> asyncio.Event:
    """The customer asks, and the search for the answer does not come back before the event is set."""
    event = running.knowledge.held[text] = asyncio.Event()
    running.knowledge.found[text] = SURE
    await conversation.say(text)

    async def searching() -> bool:
        return any(query == text for _, query in running.knowledge.searched)

    await eventually(searching, "the search")
    return event


@pytest.mark.parametrize(
    ("state", "accepted"),
    [
        (session_pb2.SESSION_STATE_ACTIVE, True),
        # The agent left duty and it waits again: a person has talked.
        (session_pb2.SESSION_STATE_WAITING, True),
        (session_pb2.SESSION_STATE_ENDED, False),
    ],
)
async def test_it_never_answers_after_an_agent_has_accepted_meanwhile(
    running: Bot, state: session_pb2.SessionState.ValueType, accepted: bool
) -> None:
    conversation = running.conversation()
    text = f"多久发货甲{state}"
    event = await hold(running, conversation, text)
    await conversation.change(state, accepted=accepted)
    event.set()

    async def tried() -> bool:
        return any(post.session_id == conversation.id for post in running.chat.posts)

    await eventually(tried, "the attempt that the log refuses")
    await passed_by(running)
    assert await conversation.answers() == []


async def test_a_person_asked_for_meanwhile_does_not_take_the_answer_away(running: Bot) -> None:
    conversation = running.conversation()
    event = await hold(running, conversation, "多久发货己")
    await conversation.say("转人工")
    await conversation.change(session_pb2.SESSION_STATE_WAITING)
    event.set()
    assert (await conversation.answer()).text == "24 小时内发出。"

    clueless = running.conversation()
    event = await hold(running, clueless, "模特姓什么庚")
    running.knowledge.found["模特姓什么庚"] = []
    await clueless.change(session_pb2.SESSION_STATE_WAITING)
    event.set()
    await passed_by(running)
    assert await clueless.answers() == []


async def test_of_two_questions_in_a_row_the_newer_is_answered(running: Bot) -> None:
    conversation = running.conversation()
    event = await hold(running, conversation, "多久发货乙")
    running.knowledge.found["怎么退货"] = SURE
    newer = await conversation.say("怎么退货")
    event.set()
    assert (await conversation.answer()).answers_seq == newer
    await passed_by(running)
    assert len(await conversation.answers()) == 1


async def test_a_question_that_is_recalled_meanwhile_is_not_answered(running: Bot) -> None:
    conversation = running.conversation()
    event = await hold(running, conversation, "多久发货辛")
    await conversation.recall(await conversation.first())
    event.set()

    async def tried() -> bool:
        return any(post.session_id == conversation.id for post in running.chat.posts)

    await eventually(tried, "the attempt that the log refuses")
    await passed_by(running)
    assert await conversation.answers() == []


async def test_thanks_and_what_does_not_concern_it_do_not_replace_a_question(running: Bot) -> None:
    conversation = running.conversation()
    event = await hold(running, conversation, "多久发货丙")
    await conversation.change(session_pb2.SESSION_STATE_BOT)
    await conversation.say("谢谢")
    event.set()
    first, second = await conversation.answer(), await conversation.answer(2)
    assert first.text == "24 小时内发出。"
    assert "不客气" in second.text


async def test_an_answer_whose_acknowledgement_was_lost_is_said_once(running: Bot) -> None:
    running.knowledge.found["多久发货"] = SURE
    conversation = running.conversation()
    running.chat.lost_requests, running.chat.lost_answers = 2, 2
    await conversation.say("多久发货")

    async def repeated() -> bool:
        return sum(post.session_id == conversation.id for post in running.chat.posts) >= 4

    await eventually(repeated, "the repetition")
    await passed_by(running)
    assert len(await conversation.answers()) == 1
    posts = [post for post in running.chat.posts if post.session_id == conversation.id]
    assert len({post.client_message_id for post in posts}) == 1


@pytest.mark.parametrize("reason", [errors_pb2.REASON_SESSION_STATE, errors_pb2.REASON_SESSION_ENDED])
async def test_a_session_that_is_over_is_let_go(running: Bot, reason: errors_pb2.Reason.ValueType) -> None:
    running.knowledge.found["多久发货"] = SURE
    running.chat.refuses_with = running.sessions.refuses_with = reason
    conversation = running.conversation()
    await conversation.say("多久发货")
    await conversation.say("转人工")

    async def tried() -> bool:
        return any(post.session_id == conversation.id for post in running.chat.posts)

    await eventually(tried, "the attempt")
    running.chat.refuses_with = running.sessions.refuses_with = None
    await passed_by(running)
    posts = [post for post in running.chat.posts if post.session_id == conversation.id]
    assert len(posts) == 1


async def test_a_handoff_is_asked_for_until_the_session_service_is_back(running: Bot) -> None:
    running.sessions.refuses_with = errors_pb2.REASON_UNAVAILABLE
    conversation = running.conversation()
    await conversation.say("转人工")
    await passed_by(running)
    running.sessions.refuses_with = None

    async def handed_over() -> bool:
        return any(session_id == conversation.id for _, session_id, _ in running.sessions.handoffs)

    await eventually(handed_over, "the handoff")


async def test_without_knowledge_it_says_sorry_and_offers_a_person(running: Bot) -> None:
    running.knowledge.fails.add("多久发货丁")
    conversation = running.conversation()
    await conversation.say("多久发货丁")
    answer = await conversation.answer()
    assert answer.offers_handoff
    assert "查不到" in answer.text


async def test_a_search_that_hangs_holds_up_no_other_session(running: Bot) -> None:
    slow = running.conversation()
    event = await hold(running, slow, "多久发货戊")
    running.knowledge.found["多久发货"] = SURE
    for _ in range(5):
        quick = running.conversation()
        await quick.say("多久发货")
        assert (await quick.answer()).text == "24 小时内发出。"
    assert await slow.answers() == []
    event.set()
    await slow.answer()


async def test_people_of_the_shop_can_try_it(running: Bot) -> None:
    running.knowledge.found["多久发货"] = SURE
    admin = with_token(running.keys.token("qingshan", 5, "KNOWLEDGE_ADMIN"))
    posts = len(running.chat.posts)
    known = await running.edge.TryQuestion(bot_service_pb2.TryQuestionRequest(question="多久发货"), metadata=admin)
    assert known.answer.text == "24 小时内发出。"
    assert [source.faq_entry.faq_id for source in known.answer.sources] == [1]
    assert not known.hands_over
    person = await running.edge.TryQuestion(bot_service_pb2.TryQuestionRequest(question="转人工"), metadata=admin)
    assert person.hands_over
    assert not person.HasField("answer")
    assert len(running.chat.posts) == posts
    customer = with_token(running.keys.token("qingshan", 6, "CUSTOMER"))
    with pytest.raises(Refused) as refused:
        await running.edge.TryQuestion(bot_service_pb2.TryQuestionRequest(question="多久发货"), metadata=customer)
    assert refused.value.reason == errors_pb2.REASON_ROLE_NOT_ALLOWED
