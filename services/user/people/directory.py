"""Creating, changing, listing and merging users."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from mesh.bus.ids import IdSource
from mesh.stores.postgres import Database
from services.user import domain
from services.user.credentials import store as credential_store
from services.user.credentials.passwords import Passwords
from services.user.domain import (
    Action,
    AlreadyExists,
    CredentialsWrong,
    Kind,
    LogOutCause,
    NotFound,
    Role,
    Tenant,
    User,
    found,
)
from services.user.events import UserEvents
from services.user.people.store import UserStore
from services.user.tokens import revocation_store
from services.user.tokens.refresh import RefreshTokens, tenant_of
from services.user.tokens.revocation import Revocations


@dataclass(frozen=True, slots=True, kw_only=True)
class NewUser:
    """A member of staff or a partner who is to be."""

    request_id: str
    kind: Kind
    external_id: str
    display_name: str
    roles: Sequence[Role]
    password: str = field(repr=False)
    scopes: Sequence[str] = ()
    capacity: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class UserChange:
    """What is to change of a user; None leaves a field as it is."""

    display_name: str | None = None
    disabled: bool | None = None
    phone: str | None = None
    capacity: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Directory:
    """The users of the shops. Each method raises the errors of `domain` when it refuses."""

    db: Database
    users: UserStore
    passwords: Passwords
    refresh_tokens: RefreshTokens
    events: UserEvents
    revocations: Revocations
    ids: IdSource
    clock: Callable[[], datetime]

    async def find(self, tenant_id: str, user_id: int) -> User:
        """Return a user of the shop."""
        async with self.db.tenant(tenant_id) as conn:
            return found(await self.users.user(conn, tenant_id, user_id))

    async def shop(self, tenant_id: str) -> Tenant:
        """Return the shop. Raise `NotFound`."""
        async with self.db.tenant(tenant_id) as conn:
            shop = await self.users.tenant(conn, tenant_id)
        if shop is None:
            raise NotFound("there is no such shop")
        return shop

    async def page(self, tenant_id: str, *, after_id: int, limit: int, kind: int, tag: str) -> list[User]:
        """Return at most `limit` users after an id, oldest first."""
        async with self.db.tenant(tenant_id) as conn:
            return await self.users.page(conn, tenant_id, after_id=after_id, limit=limit, kind=kind, tag=tag)

    async def create(self, tenant_id: str, new: NewUser) -> User:
        """Create a user with a credential, or return the one that the same request made before."""
        roles = domain.check_new(new.kind, new.roles, new.scopes, new.capacity)
        async with self.db.tenant(tenant_id) as conn:
            made = await self.users.user_requested(conn, tenant_id, new.request_id)
        if made is not None:
            return made
        # Outside of a transaction: it takes long, and must not keep a connection.
        hashed = await self.passwords.hash(new.password)
        user = User(
            id=self.ids.next(),
            tenant_id=tenant_id,
            kind=new.kind,
            roles=roles,
            display_name=new.display_name,
            external_id=new.external_id,
            created_at=self.clock(),
            scopes=tuple(sorted(set(new.scopes))),
            capacity=new.capacity,
        )
        async with self.db.tenant(tenant_id) as conn:
            if await self.users.add(conn, user, request_id=new.request_id):
                await credential_store.put_credential(conn, tenant_id, user.id, hashed)
                await self.events.created(conn, user)
                return user
            made = await self.users.user_requested(conn, tenant_id, new.request_id)
        if made is None:
            raise AlreadyExists(f"{new.external_id!r} is taken in this shop; choose another name")
        return made

    async def change(self, tenant_id: str, user_id: int, change: UserChange, *, actor_id: int) -> User:
        """Change the given fields of a user; disabling takes back all tokens."""
        async with self.db.tenant(tenant_id) as conn:
            before = found(await self.users.user(conn, tenant_id, user_id, lock=True))
            if change.capacity is not None:
                domain.check_capacity(before.kind)
            after = replace(
                before,
                display_name=before.display_name if change.display_name is None else change.display_name,
                disabled=before.disabled if change.disabled is None else change.disabled,
                phone=before.phone if change.phone is None else change.phone,
                capacity=before.capacity if change.capacity is None else change.capacity,
            )
            if after != before:
                await self.users.change(conn, after)
                await self.events.updated(conn, after)
            if after.disabled and not before.disabled:
                await self.revocations.revoke(conn, after, LogOutCause.DISABLED, actor_id=actor_id)
            elif before.disabled and not after.disabled:
                await revocation_store.audit(
                    conn,
                    self.ids.next(),
                    tenant_id,
                    actor_id=actor_id,
                    user_id=user_id,
                    action=Action.ENABLED,
                    at=self.clock(),
                )
            return after

    async def log_out(self, tenant_id: str, user_id: int, *, actor_id: int) -> None:
        """Take back all tokens of a user: their own wish, or an administrator's."""
        cause = LogOutCause.SELF if user_id == actor_id else LogOutCause.ADMIN
        async with self.db.tenant(tenant_id) as conn:
            user = found(await self.users.user(conn, tenant_id, user_id, lock=True))
            await self.revocations.revoke(conn, user, cause, actor_id=actor_id)

    async def set_tags(self, tenant_id: str, user_id: int, tags: Sequence[str]) -> User:
        """Replace the labels of a user."""
        async with self.db.tenant(tenant_id) as conn:
            before = found(await self.users.user(conn, tenant_id, user_id, lock=True))
            after = replace(before, tags=tuple(sorted(tags)))
            if after != before:
                await self.users.set_tags(conn, tenant_id, user_id, tags)
                await self.events.updated(conn, after)
            return after

    async def merge(self, tenant_id: str, customer_id: int, visitor_token: str) -> User:
        """Make the visitor who holds the refresh token part of the customer, and return the customer.

        The visitor's tokens are revoked with it.
        """
        if tenant_of(visitor_token) != tenant_id:
            raise CredentialsWrong("the visitor's token is of another shop")
        async with self.db.tenant(tenant_id) as conn:
            token = await self.refresh_tokens.find(conn, visitor_token)
            visitor = found(await self.users.user(conn, tenant_id, token.user_id, lock=True))
            customer = found(await self.users.user(conn, tenant_id, customer_id, lock=True))
            if visitor.merged_into == customer_id:
                return customer
            self.refresh_tokens.check(token)
            if visitor.kind is not Kind.VISITOR or visitor.merged_into:
                raise CredentialsWrong("the token is not a visitor's, or the visitor has become another customer")
            await self.users.change(conn, replace(visitor, merged_into=customer_id))
            await self.revocations.revoke(conn, visitor, LogOutCause.MERGED, actor_id=customer_id)
            await self.users.add_tags(conn, tenant_id, customer_id, visitor.tags)
            customer = found(await self.users.user(conn, tenant_id, customer_id))
            await self.events.merged(conn, customer, visitor.id)
            return customer
