"""Sessions and agents as messages of the contract."""

from __future__ import annotations

from datetime import timedelta

from google.protobuf.duration_pb2 import Duration
from octopus.session.v1 import session_pb2 as pb
from octopus.session.v1 import session_service_pb2 as service_pb

from mesh.rpc.timestamps import to_wire
from services.session.domain import AbsenceRules, Agent, Satisfaction, Session, Settings, Summary


def session(record: Session, *, satisfaction: Satisfaction | None = None, summary: Summary | None = None) -> pb.Session:
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
        closes_at=to_wire(record.closes_at),
        satisfaction=_satisfaction(satisfaction),
        summary=_summary(summary),
        previous_session_id=record.previous_session_id,
        rate_until=to_wire(record.rate_until),
    )


def settings(record: Settings) -> pb.SessionSettings:
    """Return a shop's settings as the contract's message."""
    return pb.SessionSettings(
        remind_after=_duration(record.remind_after),
        close_after=_duration(record.close_after),
        return_within=_duration(record.return_within),
        ask_satisfaction=record.ask_satisfaction,
    )


def settings_of(message: pb.SessionSettings) -> Settings:
    """Return a shop's settings from the contract's message."""
    return Settings(
        remind_after=message.remind_after.ToTimedelta(),
        close_after=message.close_after.ToTimedelta(),
        return_within=message.return_within.ToTimedelta(),
        ask_satisfaction=message.ask_satisfaction,
    )


def _satisfaction(record: Satisfaction | None) -> pb.Satisfaction | None:
    if record is None:
        return None
    return pb.Satisfaction(score=record.score, comment=record.comment, rated_at=to_wire(record.rated_at))


def _summary(record: Summary | None) -> pb.SessionSummary | None:
    if record is None:
        return None
    return pb.SessionSummary(
        opener=record.opener,
        topic=record.topic,
        customer_messages=record.customer_messages,
        agent_messages=record.agent_messages,
        bot_messages=record.bot_messages,
        waited=_duration(record.waited),
        first_response=_duration(record.first_response),
        handled=_duration(record.handled),
        agent_ids=record.agent_ids,
    )


def _duration(span: timedelta | None) -> Duration | None:
    if span is None:
        return None
    duration = Duration()
    duration.FromTimedelta(span)
    return duration


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
