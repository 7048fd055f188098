"""From a proof of identity to tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from mesh.bus.ids import IdSource
from mesh.stores.postgres import Connection, Database
from services.user import domain, metrics
from services.user.credentials import known_addresses
from services.user.credentials import store as credential_store
from services.user.credentials.attempts import Attempts
from services.user.credentials.passwords import Passwords
from services.user.domain import CredentialsWrong, Kind, LogOutCause, Role, SignedShopper, TokenInvalid, User
from services.user.events import UserEvents
from services.user.people.store import UserStore
from services.user.people.visitor_rate import VisitorRate
from services.user.tokens import access as access_tokens
from services.user.tokens.refresh import Issued, RefreshTokens, tenant_of
from services.user.tokens.revocation import Revocations
from services.user.tokens.signing_keys import SigningKeys

# Compared with when there is no such shop, so that its absence does not show in the time it takes.
_NO_SECRET = b"there is no such shop"


@dataclass(frozen=True, slots=True)
class Tokens:
    """What a client gets; partners get no refresh token."""

    access: str = field(repr=False)
    access_expires_at: datetime
    refresh: Issued | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SignIn:
    """The ways to get tokens. Each method raises the errors of `domain` when it refuses.

    `address` is where the client is, as the edge saw it; limits are counted by it.
    """

    db: Database
    users: UserStore
    passwords: Passwords
    attempts: Attempts
    visitor_rate: VisitorRate
    keys: SigningKeys
    refresh_tokens: RefreshTokens
    events: UserEvents
    revocations: Revocations
    ids: IdSource
    clock: Callable[[], datetime]

    async def log_in(self, tenant_id: str, login: str, password: str, *, address: str = "") -> tuple[User, Tokens]:
        """Log a member of staff in."""
        user, hashed = await self._proven(tenant_id, Kind.STAFF, login, password, address)
        return await self._start(tenant_id, user.id, proof="password", hashed=hashed)

    async def change_password(self, tenant_id: str, user_id: int, old: str, new: str, *, address: str = "") -> Tokens:
        """Change the password of a member of staff, revoke all tokens, and return a new pair."""
        domain.check_new_password(old, new)
        async with self.db.tenant(tenant_id) as conn:
            known = domain.found(await self.users.user(conn, tenant_id, user_id))
        _, proven = await self._proven(tenant_id, Kind.STAFF, known.external_id, old, address)
        # Outside of a transaction: it takes long, and must not keep a connection.
        hashed = await self.passwords.hash(new)
        async with self.db.tenant(tenant_id) as conn:
            user = await self._allowed(conn, tenant_id, user_id, hashed=proven)
            await credential_store.put_credential(conn, tenant_id, user_id, hashed)
            generation = await self.revocations.revoke(conn, user, LogOutCause.PASSWORD_CHANGED, actor_id=user_id)
            issued = await self.refresh_tokens.issue(conn, tenant_id, user_id, self.ids.next())
        return self._tokens(replace(user, token_generation=generation), issued)

    async def client_token(
        self, tenant_id: str, client_id: str, secret: str, scopes: Sequence[str], *, address: str = ""
    ) -> tuple[tuple[str, ...], Tokens]:
        """Return the granted scopes and the token of a partner."""
        user, _ = await self._proven(tenant_id, Kind.PARTNER, client_id, secret, address)
        granted = domain.granted_scopes(user.scopes, scopes)
        metrics.SIGN_INS.labels("secret").inc()
        return granted, Tokens(*access_tokens.sign(user, self.keys.current(), self.clock(), scopes=granted))

    async def identify(
        self, tenant_id: str, shopper: SignedShopper | None, locale: str, *, address: str = ""
    ) -> tuple[User, Tokens]:
        """Return the customer whom the shop's server signed, new at the first visit, or else a new visitor."""
        if shopper is None:
            await self.visitor_rate.count(tenant_id, address)
            return await self._start(tenant_id, await self._visitor(tenant_id, locale), proof="none")
        return await self._start(tenant_id, await self._customer(tenant_id, shopper, locale), proof="signature")

    async def refresh(self, token: str) -> Tokens:
        """Use a refresh token up and return a new pair."""
        tenant_id = tenant_of(token)
        async with self.db.tenant(tenant_id) as conn:
            exchanged = await self.refresh_tokens.exchange(conn, token)
            if exchanged is not None:
                known, issued = exchanged
                user = await self._allowed(conn, tenant_id, known.user_id)
                metrics.SIGN_INS.labels("refresh token").inc()
                return self._tokens(user, issued)
        metrics.STOLEN.inc()
        # Refused only here, after the family's end is committed.
        raise TokenInvalid("the refresh token was used before, so its family is revoked; log in again")

    async def _proven(self, tenant_id: str, kind: Kind, name: str, password: str, address: str) -> tuple[User, str]:
        """Return whose password it is, and the hash that is kept of it."""
        who = f"{kind.name} {name}"
        place = self.attempts.fingerprint(tenant_id, who, address)
        async with self.db.tenant(tenant_id) as conn:
            tenant = await self.users.tenant(conn, tenant_id)
            user = await self.users.user_named(conn, tenant_id, kind, name)
            user_id = user.id if user else 0
            kept = await credential_store.credential(conn, tenant_id, user_id)
            since = self.clock() - domain.ADDRESS_KNOWN
            known = await known_addresses.is_known(conn, tenant_id, user_id, place, since=since)
        await self.attempts.begin(tenant_id, who, address, known=known)
        right = await self.passwords.verify(kept, password)
        if not right or user is None or tenant is None or kept is None:
            raise CredentialsWrong("the name or the password is wrong")
        await self.attempts.succeeded(tenant_id, who, address, known=known)
        domain.may_log_in(user, tenant)
        async with self.db.tenant(tenant_id) as conn:
            await known_addresses.remember(conn, tenant_id, user.id, place, self.clock())
        if self.passwords.outdated(kept):
            hashed = await self.passwords.hash(password)
            async with self.db.tenant(tenant_id) as conn:
                if await credential_store.replace_credential(conn, tenant_id, user.id, before=kept, after=hashed):
                    kept = hashed
        return user, kept

    async def _visitor(self, tenant_id: str, locale: str) -> int:
        async with self.db.tenant(tenant_id) as conn:
            domain.found(await self.users.tenant(conn, tenant_id))
            user_id = self.ids.next()
            user = User(
                id=user_id,
                tenant_id=tenant_id,
                kind=Kind.VISITOR,
                roles=(Role.VISITOR,),
                display_name=domain.visitor_name(user_id, locale),
                external_id="",
                created_at=self.clock(),
                locale=locale,
            )
            await self.users.add(conn, user)
            await self.events.created(conn, user)
            return user_id

    async def _customer(self, tenant_id: str, shopper: SignedShopper, locale: str) -> int:
        async with self.db.tenant(tenant_id) as conn:
            secret = await self.users.identity_secret(conn, tenant_id)
            domain.check_identity(secret or _NO_SECRET, tenant_id, shopper, self.clock())
            if secret is None:
                raise CredentialsWrong("there is no such shop")
            name = shopper.display_name or shopper.customer_id
            known = await self.users.user_named(conn, tenant_id, Kind.CUSTOMER, shopper.customer_id)
            if known is None:
                new = User(
                    id=self.ids.next(),
                    tenant_id=tenant_id,
                    kind=Kind.CUSTOMER,
                    roles=(Role.CUSTOMER,),
                    display_name=name,
                    external_id=shopper.customer_id,
                    created_at=self.clock(),
                    locale=locale,
                )
                if await self.users.add(conn, new):
                    await self.events.created(conn, new)
                    return new.id
                # Somebody was quicker; the insert has waited until that customer was there.
                known = domain.found(await self.users.user_named(conn, tenant_id, Kind.CUSTOMER, shopper.customer_id))
            if (known.display_name, known.locale) != (name, locale or known.locale):
                known = domain.found(await self.users.user(conn, tenant_id, known.id, lock=True))
                known = replace(known, display_name=name, locale=locale or known.locale)
                await self.users.change(conn, known)
                await self.events.updated(conn, known)
            return known.id

    async def _start(
        self, tenant_id: str, user_id: int, *, proof: str, hashed: str | None = None
    ) -> tuple[User, Tokens]:
        """Begin a family of refresh tokens.

        The user's row is locked, so that disabling the user and a new password come before or after, not in between.
        """
        async with self.db.tenant(tenant_id) as conn:
            user = await self._allowed(conn, tenant_id, user_id, hashed=hashed)
            issued = await self.refresh_tokens.issue(conn, tenant_id, user.id, self.ids.next())
        metrics.SIGN_INS.labels(proof).inc()
        return user, self._tokens(user, issued)

    async def _allowed(self, conn: Connection, tenant_id: str, user_id: int, *, hashed: str | None = None) -> User:
        """Return the user, locked. With `hashed`, that must still be what is kept of the password."""
        tenant = domain.found(await self.users.tenant(conn, tenant_id))
        user = domain.found(await self.users.user(conn, tenant_id, user_id, lock=True))
        domain.may_log_in(user, tenant)
        if hashed is not None and hashed != await credential_store.credential(conn, tenant_id, user_id):
            raise CredentialsWrong("the password was changed in the meantime; log in with the new one")
        return user

    def _tokens(self, user: User, issued: Issued) -> Tokens:
        access, expires_at = access_tokens.sign(user, self.keys.current(), self.clock())
        return Tokens(access, expires_at, issued)
