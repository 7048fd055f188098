"""Sessions and agents as messages of the contract."""

from __future__ import annotations

from octopus.session.v1 import session_pb2 as pb

from mesh.rpc.timestamps import to_wire
from services.session.domain import Agent, Session


def session(record: Session) -> pb.Session:
    """Return a session as the contract's message."""
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
        opened_at=to_wire(record.opened_at),
        handoff_at=to_wire(record.handoff_at),
        accepted_at=to_wire(record.accepted_at),
        ended_at=to_wire(record.ended_at),
        end_reason=pb.EndReason.ValueType(record.end_reason),
        handoff_reason=pb.HandoffReason.ValueType(record.handoff_reason),
    )


def agent(record: Agent) -> pb.Agent:
    """Return an agent as the contract's message."""
    return pb.Agent(
        user_id=record.user_id,
        display_name=record.display_name,
        status=pb.AgentStatus.ValueType(record.status),
        load=record.load,
        capacity=record.capacity,
    )
