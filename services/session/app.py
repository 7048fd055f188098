"""Wire the session service."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

from octopus.session.v1.session_service_pb2_grpc import add_SessionServiceServicer_to_server

from mesh.bus.outbox import Outbox
from mesh.process.member import Member
from mesh.stores.keyring import Keyring
from services.session.agents.absence import AbsenceWatch
from services.session.agents.duty import Duty
from services.session.agents.presence import AgentPresences
from services.session.agents.profiles import AgentProfiles
from services.session.assignment.assigner import Assigner
from services.session.assignment.live_queue import LiveQueue
from services.session.assignment.positions import Positions
from services.session.closing import Closing
from services.session.config import SessionConfig
from services.session.events import Announcer, UserEvents
from services.session.lifecycle import Lifecycle
from services.session.log import Log
from services.session.reconciliation import Reconciliation
from services.session.servicer import SessionServicer
from services.session.settings import ShopSettings
from services.session.silence import Silence
from services.session.store import Store
from services.session.turns import Turns


@asynccontextmanager
async def app(member: Member, config: SessionConfig) -> AsyncIterator[None]:
    """Serve SessionService, publish events, and run the periodic jobs."""
    db = await member.postgres()
    valkey = await member.valkey()
    ids = await member.ids()
    outbox = Outbox(db, "cs_session_outbox")
    store = Store(db, Announcer(outbox, ids))
    queue = LiveQueue(valkey)
    positions = Positions(store=store, queue=queue, bus=member.bus, new_id=ids.next, after_s=config.tell_after_s)
    assigner = Assigner(store=store, queue=queue, offer=timedelta(seconds=config.offer_s), on_change=positions.moved)
    closing = Closing(db, Keyring(config.keyring_file))
    lifecycle = Lifecycle(store=store, assigner=assigner, closing=closing, new_id=ids.next)
    duty = Duty(store=store, assigner=assigner)
    reconciliation = Reconciliation(
        lifecycle=lifecycle,
        duty=duty,
        assigner=assigner,
        store=store,
        bus=member.bus,
        idle=timedelta(seconds=config.idle_s),
    )
    absence = AbsenceWatch(store=store, duty=duty, presences=AgentPresences(member.channel("presence")))
    silence = Silence(turns=Turns(db), log=Log(member.bus), closing=closing, lifecycle=lifecycle)
    member.spawn("outbox relay", outbox.relay(member.bus))
    member.spawn("queue positions", positions.run())
    member.spawn("user events", UserEvents(lifecycle, duty).run(member.bus))
    member.spawn("log", silence.run(member.bus))
    member.periodic("queues behind", assigner.catch_up, every=config.lapse_every_s)
    # One instance at a time. Nobody waits for these: an offer follows at once on what makes it possible.
    member.periodic("lapsed offers", reconciliation.lapse_offers, every=config.lapse_every_s, alone=True)
    member.periodic("absent agents", absence.look, every=config.absence_every_s, alone=True)
    member.periodic("silent customers", silence.remind, every=config.silence_every_s, alone=True)
    member.periodic("unanswered reminders", silence.leave, every=config.silence_every_s, alone=True)
    member.periodic("reconciliation", reconciliation.reconcile, every=config.reconcile_every_s, alone=True)
    member.periodic("idle sessions", reconciliation.end_idle, every=config.idle_every_s, alone=True)
    profiles = AgentProfiles(member.channel("user"))
    servicer = SessionServicer(
        lifecycle=lifecycle,
        duty=duty,
        store=store,
        closing=closing,
        settings=ShopSettings(db),
        profile_of=profiles.profile_of,
    )
    await member.serve(lambda server: add_SessionServiceServicer_to_server(servicer, server))
    try:
        yield
    finally:
        # Committed changes may still be on their way to the live queue.
        await assigner.close()
