"""Convert entries to messages of the contract, and back."""

from __future__ import annotations

from octopus.knowledge.v1 import faq_pb2, knowledge_service_pb2

from mesh.rpc.timestamps import to_wire
from services.knowledge.domain import Content, Faq, Hit


def from_content(content: faq_pb2.FaqContent) -> Content:
    """Return the content of a message, tidied."""
    return Content(
        question=content.question,
        answer=content.answer,
        similar_questions=tuple(content.similar_questions),
        category=content.category,
        locale=content.locale,
    ).tidied()


def to_content(content: Content) -> faq_pb2.FaqContent:
    """Return content as a message."""
    return faq_pb2.FaqContent(
        question=content.question,
        answer=content.answer,
        similar_questions=content.similar_questions,
        category=content.category,
        locale=content.locale,
    )


def to_faq(faq: Faq) -> faq_pb2.Faq:
    """Return a stored entry as a message."""
    return faq_pb2.Faq(
        id=faq.id,
        tenant_id=faq.tenant_id,
        content=to_content(faq.content),
        disabled=faq.disabled,
        version=faq.version,
        created_at=to_wire(faq.created_at),
        updated_at=to_wire(faq.updated_at),
    )


def to_hit(hit: Hit) -> knowledge_service_pb2.FaqHit:
    """Return a hit as a message."""
    return knowledge_service_pb2.FaqHit(faq=to_faq(hit.faq), score=hit.score)
