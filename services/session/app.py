"""The one place that wires the session service."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

from octopus.session.v1.session_service_pb2_grpc import add_SessionServiceServicer_to_server

from mesh.bus.outbox import Outbox
from mesh.process.member import Member
from services.session.config import SessionConfig
from services.session.desk import Desk
from services.session.dispatch import Dispatcher
from services.session.events import Announcer, UserEvents
from services.session.positions import Positions
from services.session.servicer import SessionServicer
from services.session.sessions import Sessions
from services.session.staff import Staff
from services.session.store import Store
from services.session.upkeep import Upkeep, every


@asynccontextmanager
async def app(member: Member, config: SessionConfig) -> AsyncIterator[None]:
    """Serve SessionService, publish what happened, and do the recurring work."""
    db = await member.postgres()
    valkey = await member.valkey()
    ids = await member.ids()
    outbox = Outbox(db, "cs_session_outbox")
    store = Store(db, Announcer(outbox, ids))
    desk = Desk(valkey)
    positions = Positions(store=store, desk=desk, bus=member.bus, new_id=ids.next, after_s=config.tell_after_s)
    dispatcher = Dispatcher(store=store, desk=desk, offer=timedelta(seconds=config.offer_s), on_change=positions.moved)
    sessions = Sessions(store=store, dispatcher=dispatcher, new_id=ids.next)
    upkeep = Upkeep(
        sessions=sessions,
        dispatcher=dispatcher,
        store=store,
        bus=member.bus,
        idle=timedelta(seconds=config.idle_s),
    )
    member.spawn("outbox relay", outbox.relay(member.bus))
    member.spawn("queue positions", positions.run())
    member.spawn("user events", UserEvents(sessions).run(member.bus))
    member.spawn("lapsed offers", every(config.lapse_every_s, "lapsed offers", upkeep.lapse_offers))
    member.spawn("reconciliation", every(config.reconcile_every_s, "reconciliation", upkeep.reconcile))
    member.spawn("idle sessions", every(config.idle_every_s, "idle sessions", upkeep.end_idle))
    servicer = SessionServicer(sessions=sessions, store=store, capacity_of=Staff(member.channel("user")).capacity_of)
    await member.serve(lambda server: add_SessionServiceServicer_to_server(servicer, server))
    try:
        yield
    finally:
        # Committed changes that are on their way to the live queue.
        await dispatcher.close()
