"""Sessions and agents as the contract has them."""

from __future__ import annotations

from datetime import datetime

from google.protobuf.timestamp_pb2 import Timestamp
from octopus.session.v1 import session_pb2 as pb

from services.session.domain import Agent, Session


def session(record: Session) -> pb.Session:
    """Say what the contract says about a session."""
    return pb.Session(
        id=record.id,
        tenant_id=record.tenant_id,
        customer_id=record.customer_id,
        customer_name=record.customer_name,
        state=pb.SessionState.ValueType(record.state),
        agent_id=record.agent_id,
        agent_name=record.agent_name,
        queue_position=record.queue_position,
        version=record.version,
        channel=record.channel,
        locale=record.locale,
        opened_at=timestamp(record.opened_at),
        handoff_at=_optional(record.handoff_at),
        accepted_at=_optional(record.accepted_at),
        ended_at=_optional(record.ended_at),
        end_reason=pb.EndReason.ValueType(record.end_reason),
        handoff_reason=pb.HandoffReason.ValueType(record.handoff_reason),
    )


def agent(record: Agent) -> pb.Agent:
    """Say what the contract says about an agent."""
    return pb.Agent(
        user_id=record.user_id,
        display_name=record.display_name,
        status=pb.AgentStatus.ValueType(record.status),
        load=record.load,
        capacity=record.capacity,
    )


def timestamp(time: datetime) -> Timestamp:
    """Give a moment, which must name its time zone."""
    stamp = Timestamp()
    stamp.FromDatetime(time)
    return stamp


def _optional(time: datetime | None) -> Timestamp | None:
    return None if time is None else timestamp(time)
