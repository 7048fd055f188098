"""Replies in the messages of the contract."""

from __future__ import annotations

from typing import Final

from octopus.chat.v1 import message_pb2

from services.bot.domain import Reply

# What an answer may hold, in bytes of UTF-8.
_MAX_TEXT: Final = 8192


def to_answer(reply: Reply, *, answers_seq: int = 0) -> message_pb2.BotAnswer:
    """Return the answer that shoppers see."""
    # Three suggestions of the greatest length and the words around them fit; this is for entries that grow one day.
    text = reply.text.encode()[:_MAX_TEXT].decode(errors="ignore")
    sources = [
        message_pb2.Source(title=each.question, score=each.score, faq_entry=message_pb2.FaqEntry(faq_id=each.faq_id))
        for each in reply.sources
    ]
    return message_pb2.BotAnswer(
        text=text, sources=sources, offers_handoff=reply.offers_handoff, answers_seq=answers_seq
    )
