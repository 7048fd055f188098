"""Wire the user service."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial

import structlog
from octopus.user.v1 import auth_service_pb2_grpc, user_service_pb2_grpc

from mesh.bus.outbox import Outbox
from mesh.process.member import Member
from mesh.stores.keyring import Keyring
from mesh.stores.postgres import Database
from services.user.auth_servicer import AuthServicer
from services.user.config import UserConfig
from services.user.credentials import known_addresses
from services.user.credentials.attempts import Attempts
from services.user.credentials.passwords import Passwords
from services.user.events import SessionEvents, UserEvents
from services.user.people.directory import Directory
from services.user.people.store import UserStore
from services.user.people.visitor_rate import VisitorRate
from services.user.people.visitors import Visitors
from services.user.sign_in import SignIn
from services.user.tokens import signing_keys
from services.user.tokens.refresh import RefreshTokens
from services.user.tokens.revocation import BUCKET, Revocations
from services.user.tokens.signing_key_store import KeyStore
from services.user.tokens.signing_keys import SigningKeys
from services.user.user_servicer import UserServicer

_log = structlog.get_logger(__name__)

_SWEEP_SECONDS = 3600.0


@asynccontextmanager
async def app(member: Member, config: UserConfig) -> AsyncIterator[None]:
    """Serve AuthService and UserService, and keep the signing keys published."""
    parts = await assemble(member, config)
    # Nobody can verify a token before the keys are published.
    await parts.keys.turn()
    member.bus.on_reconnect(parts.keys.wake)
    member.bus.on_reconnect(parts.revocations.wake)
    member.spawn("signing keys", parts.keys.run())
    member.spawn("outbox relay", parts.outbox.relay(member.bus))
    member.spawn("token revocations published", parts.revocations.run())
    member.spawn("conversations begun", SessionEvents(parts.visitors).run(member.bus))
    member.periodic("sweep", partial(_sweep, parts), every=_SWEEP_SECONDS, alone=True)
    auth = AuthServicer(parts.sign_in, parts.directory)
    users = UserServicer(parts.directory)
    await member.serve(
        lambda server: auth_service_pb2_grpc.add_AuthServiceServicer_to_server(auth, server),
        lambda server: user_service_pb2_grpc.add_UserServiceServicer_to_server(users, server),
    )
    yield


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """The service without its server and tasks; the demo data are made through the same."""

    db: Database
    users: UserStore
    directory: Directory
    sign_in: SignIn
    refresh_tokens: RefreshTokens
    revocations: Revocations
    visitors: Visitors
    keys: SigningKeys
    outbox: Outbox


def now() -> datetime:
    """Return the time in UTC."""
    return datetime.now(UTC)


async def assemble(member: Member, config: UserConfig, *, clock: Callable[[], datetime] = now) -> Parts:
    """Open what the service needs and put it together."""
    db = await member.postgres()
    ids = await member.ids()
    valkey = await member.valkey()
    keyring = Keyring(config.keyring_file)
    passwords = await member.enter(Passwords(threads=config.password_threads))
    outbox = Outbox(db, "cs_user_outbox")
    users = UserStore(keyring)
    events = UserEvents(outbox=outbox, ids=ids, clock=clock)
    refresh_tokens = RefreshTokens(db=db, keyring=keyring, clock=clock)
    keys = SigningKeys(
        db=db,
        store=KeyStore(keyring),
        bucket=member.bus.kv(signing_keys.BUCKET),
        rotate_after=timedelta(days=config.signing_key_days),
        clock=clock,
    )
    revocations = Revocations(db=db, events=events, outbox=outbox, bucket=member.bus.kv(BUCKET), ids=ids, clock=clock)
    directory = Directory(
        db=db,
        users=users,
        passwords=passwords,
        refresh_tokens=refresh_tokens,
        events=events,
        revocations=revocations,
        ids=ids,
        clock=clock,
    )
    sign_in = SignIn(
        db=db,
        users=users,
        passwords=passwords,
        attempts=Attempts(valkey, keyring),
        visitor_rate=VisitorRate(
            valkey,
            keyring,
            per_address=config.visitors_per_minute_per_address,
            per_shop=config.visitors_per_minute_per_shop,
        ),
        keys=keys,
        refresh_tokens=refresh_tokens,
        events=events,
        revocations=revocations,
        ids=ids,
        clock=clock,
    )
    return Parts(
        db=db,
        users=users,
        directory=directory,
        sign_in=sign_in,
        refresh_tokens=refresh_tokens,
        revocations=revocations,
        visitors=Visitors(db=db, keep=timedelta(days=config.visitor_days), clock=clock),
        keys=keys,
        outbox=outbox,
    )


async def _sweep(parts: Parts) -> None:
    """Delete ended tokens and revocations, unused addresses, and visitors who never began a conversation."""
    ended = await parts.refresh_tokens.sweep() + await parts.revocations.sweep()
    await known_addresses.sweep(parts.db, now())
    if ended:
        _log.info("ended tokens deleted", deleted=ended)
    await parts.visitors.purge()
