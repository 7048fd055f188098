"""One instance of the service without its server, on real stores: what store tests work with."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from mesh.bus.ids import IdSource
from mesh.bus.outbox import Outbox
from mesh.process.member import Member
from mesh.stores.keyring import Keyring, add_key
from mesh.testing import Platform
from services.session.agents.duty import Duty
from services.session.agents.profiles import Profile
from services.session.assignment.assigner import Assigner
from services.session.assignment.live_queue import LiveQueue
from services.session.assignment.positions import Positions
from services.session.closing import Closing
from services.session.config import SessionConfig
from services.session.domain import Agent, AgentStatus, HandoffReason, Session, Viewer
from services.session.events import Announcer
from services.session.lifecycle import Lifecycle
from services.session.log import Log
from services.session.reconciliation import Reconciliation
from services.session.settings import ShopSettings
from services.session.silence import Silence
from services.session.store import Store
from services.session.turns import Turns


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What `app.py` wires, open to the test."""

    member: Member
    ids: IdSource
    outbox: Outbox
    store: Store
    queue: LiveQueue
    positions: Positions
    assigner: Assigner
    lifecycle: Lifecycle
    duty: Duty
    reconciliation: Reconciliation
    closing: Closing
    turns: Turns
    settings: ShopSettings
    silence: Silence

    async def open(self, tenant: str, customer_id: int) -> Session:
        session, _ = await self.lifecycle.open(shopper(tenant, customer_id), name="顾客", channel="web", locale="zh-CN")
        return session

    async def hand_off(self, session: Session) -> Session:
        viewer = shopper(session.tenant_id, session.customer_id)
        return await self.lifecycle.request_handoff(viewer, session.id, HandoffReason.BUTTON)

    async def wait(self, tenant: str, customer_id: int) -> Session:
        return await self.hand_off(await self.open(tenant, customer_id))

    async def status(self, tenant: str, agent_id: int, status: AgentStatus, capacity: int | None = None) -> Agent:
        return await self.duty.set_status(
            answers(tenant, agent_id),
            status,
            name=f"客服{agent_id}",
            profile=None if capacity is None else Profile(capacity),
            token_generation=0,
        )

    async def session(self, session: Session) -> Session:
        found = await self.store.session(session.tenant_id, session.id)
        assert found is not None
        return found


def keyring_of(platform: Platform) -> Path:
    """Gives the keyring of all instances on these components."""
    path = platform.folder.root / "keyring-session"
    if not path.exists():
        add_key(path)
    return path


def shopper(tenant: str, user_id: int) -> Viewer:
    return Viewer(tenant_id=tenant, user_id=user_id, shopper=True)


def answers(tenant: str, user_id: int) -> Viewer:
    return Viewer(tenant_id=tenant, user_id=user_id, agent=True)


@asynccontextmanager
async def parts(
    platform: Platform, instance: str = "session-1", *, offer_s: float = 60, idle_s: float = 3600, stale_s: float = 0.2
) -> AsyncIterator[Parts]:
    """Opens an instance's parts; nothing of it happens by itself."""
    keyring = keyring_of(platform)
    async with Member(platform.config("session", SessionConfig, instance=instance, keyring_file=keyring)) as member:
        db, valkey, ids = await member.postgres(), await member.valkey(), await member.ids()
        outbox = Outbox(db, "cs_session_outbox")
        store = Store(db, Announcer(outbox, ids))
        queue = LiveQueue(valkey, stale_s=stale_s)
        positions = Positions(store=store, queue=queue, bus=member.bus, new_id=ids.next, after_s=0.05)
        assigner = Assigner(store=store, queue=queue, offer=timedelta(seconds=offer_s), on_change=positions.moved)
        closing = Closing(db, Keyring(keyring))
        lifecycle = Lifecycle(store=store, assigner=assigner, closing=closing, new_id=ids.next)
        turns, settings = Turns(db), ShopSettings(db)
        silence = Silence(turns=turns, log=Log(member.bus), closing=closing, lifecycle=lifecycle)
        duty = Duty(store=store, assigner=assigner)
        reconciliation = Reconciliation(
            lifecycle=lifecycle,
            duty=duty,
            assigner=assigner,
            store=store,
            bus=member.bus,
            idle=timedelta(seconds=idle_s),
        )
        try:
            yield Parts(
                member=member,
                ids=ids,
                outbox=outbox,
                store=store,
                queue=queue,
                positions=positions,
                assigner=assigner,
                lifecycle=lifecycle,
                duty=duty,
                reconciliation=reconciliation,
                closing=closing,
                turns=turns,
                settings=settings,
                silence=silence,
            )
        finally:
            await assigner.close()


async def eventually(check: Callable[[], Awaitable[bool]], what: str, within: float = 30) -> None:
    """Returns when `check` holds; fails with `what` when it does not within so many seconds."""
    deadline = asyncio.get_running_loop().time() + within
    while not await check():
        assert asyncio.get_running_loop().time() < deadline, f"not within {within} s: {what}"
        await asyncio.sleep(0.02)
