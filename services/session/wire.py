"""Sessions and agents as messages of the contract."""

from __future__ import annotations

from datetime import timedelta

from octopus.session.v1 import session_pb2 as pb
from octopus.session.v1 import session_service_pb2 as service_pb

from mesh.rpc.timestamps import to_wire
from services.session.domain import AbsenceRules, Agent, Session


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
        offered_until=to_wire(record.offered_until),
    )


def agent(record: Agent) -> pb.Agent:
    """Return an agent as the contract's message."""
    return pb.Agent(
        user_id=record.user_id,
        display_name=record.display_name,
        status=pb.AgentStatus.ValueType(record.status),
        load=record.load,
        capacity=record.capacity,
        away_reason=pb.AwayReason.ValueType(record.away_reason),
        earlier_status=pb.AgentStatus.ValueType(record.earlier_status or 0),
    )


def absence_settings(rules: AbsenceRules) -> service_pb.AbsenceSettings:
    """Return how long agents of a shop may be without a connection."""
    settings = service_pb.AbsenceSettings()
    settings.away_after.FromTimedelta(rules.away_after)
    settings.return_after.FromTimedelta(rules.return_after)
    return settings


def absence_rules(settings: service_pb.AbsenceSettings) -> AbsenceRules:
    """Return the rules in a message, in whole seconds."""
    return AbsenceRules(
        timedelta(seconds=settings.away_after.seconds), timedelta(seconds=settings.return_after.seconds)
    )
