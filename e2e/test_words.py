"""A shop's sensitive words, from the admin's call to what the other side reads and the supervisor finds."""

from __future__ import annotations

import asyncio
import uuid

import pytest
from octopus.errors.v1 import errors_pb2
from octopus.moderation.v1 import moderation_service_pb2 as pb
from octopus.moderation.v1 import words_pb2
from octopus.moderation.v1.moderation_service_pb2_grpc import ModerationServiceStub

from e2e.clients.participant import RefusedError
from e2e.people import Shop

pytestmark = pytest.mark.e2e


async def test_words_that_an_admin_sets_are_refused_masked_and_found_by_the_supervisor(qingshan: Shop) -> None:
    moderation = ModerationServiceStub(qingshan.channel)
    admin = (await qingshan.staff(qingshan.who_is("ADMIN"))).metadata
    supervisor = (await qingshan.staff(qingshan.who_is("SUPERVISOR"))).metadata
    # Words that no other test says.
    blocked, masked = f"违禁{uuid.uuid4().hex[:6]}", f"脏话{uuid.uuid4().hex[:6]}"
    words = [
        words_pb2.SensitiveWord(word=blocked, action=words_pb2.WORD_ACTION_BLOCK),
        words_pb2.SensitiveWord(word=masked, action=words_pb2.WORD_ACTION_MASK),
    ]
    await moderation.PutWords(pb.PutWordsRequest(words=words), metadata=admin)
    shopper = await qingshan.visitor()
    session = await qingshan.open_session(shopper)
    async with qingshan.present(shopper) as device:

        async def is_refused() -> bool:
            try:
                await device.say(session.id, f"有 {' '.join(blocked)} 卖吗")
            except RefusedError as error:
                return error.refusal.reason == errors_pb2.REASON_SENSITIVE_WORD
            return False

        async with asyncio.timeout(30):
            while not await is_refused():
                await asyncio.sleep(0.1)
        await device.say(session.id, f"你{masked.upper()}！")
        async with qingshan.present(shopper) as other:
            text = f"你{'*' * len(masked)}！"
            await other.until(lambda shown: text in shown.texts(session.id))
    request = pb.ListWordHitsRequest(session_id=session.id)
    async with asyncio.timeout(30):
        while True:
            hits = (await moderation.ListWordHits(request, metadata=supervisor)).hits
            found = {(hit.word, hit.action, hit.user_id) for hit in hits}
            if found == {(words[0].word, words[0].action, shopper.user_id), (masked, words[1].action, shopper.user_id)}:
                break
            await asyncio.sleep(0.1)
    await moderation.RemoveWords(pb.RemoveWordsRequest(words=[blocked, masked]), metadata=admin)
