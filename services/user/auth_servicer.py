"""AuthService on the wire."""

from __future__ import annotations

from typing import TypeAlias, TypeVar

import grpc.aio
from octopus.user.v1 import auth_service_pb2 as pb
from octopus.user.v1 import auth_service_pb2_grpc

from mesh.rpc import principal
from mesh.rpc.timestamps import to_wire
from services.user import wire
from services.user.domain import SignedShopper
from services.user.people.directory import Directory
from services.user.sign_in import SignIn, Tokens

Q = TypeVar("Q")
R = TypeVar("R")
Context: TypeAlias = "grpc.aio.ServicerContext[Q, R]"


class AuthServicer(auth_service_pb2_grpc.AuthServiceServicer):
    """Translate between the contract, `SignIn` and `Directory`."""

    def __init__(self, sign_in: SignIn, directory: Directory) -> None:
        self._sign_in = sign_in
        self._directory = directory

    async def LogIn(
        self, request: pb.LogInRequest, context: Context[pb.LogInRequest, pb.LogInResponse]
    ) -> pb.LogInResponse:
        """Log a member of staff in."""
        user, tokens = await self._sign_in.log_in(
            request.tenant_id, request.login, request.password, address=_address()
        )
        return pb.LogInResponse(tokens=_pair(tokens), user=wire.user(user, unmasked=True))

    async def IdentifyShopper(
        self,
        request: pb.IdentifyShopperRequest,
        context: Context[pb.IdentifyShopperRequest, pb.IdentifyShopperResponse],
    ) -> pb.IdentifyShopperResponse:
        """Give a shopper a token."""
        shopper = None
        if request.HasField("identity"):
            signed = request.identity
            shopper = SignedShopper(signed.customer_id, signed.display_name, signed.signed_at_unix, signed.signature)
        user, tokens = await self._sign_in.identify(request.tenant_id, shopper, request.locale, address=_address())
        return pb.IdentifyShopperResponse(tokens=_pair(tokens), user=wire.user(user, unmasked=True))

    async def IssueClientToken(
        self,
        request: pb.IssueClientTokenRequest,
        context: Context[pb.IssueClientTokenRequest, pb.IssueClientTokenResponse],
    ) -> pb.IssueClientTokenResponse:
        """Give a partner's system a token."""
        scopes, tokens = await self._sign_in.client_token(
            request.tenant_id, request.client_id, request.client_secret, request.scopes, address=_address()
        )
        return pb.IssueClientTokenResponse(tokens=_pair(tokens), scopes=scopes)

    async def RefreshToken(
        self, request: pb.RefreshTokenRequest, context: Context[pb.RefreshTokenRequest, pb.RefreshTokenResponse]
    ) -> pb.RefreshTokenResponse:
        """Exchange a refresh token for a new pair."""
        return pb.RefreshTokenResponse(tokens=_pair(await self._sign_in.refresh(request.refresh_token)))

    async def RevokeToken(
        self, request: pb.RevokeTokenRequest, context: Context[pb.RevokeTokenRequest, pb.RevokeTokenResponse]
    ) -> pb.RevokeTokenResponse:
        """Revoke a refresh token and its family."""
        await self._sign_in.refresh_tokens.revoke(request.refresh_token)
        return pb.RevokeTokenResponse()

    async def LogOutEverywhere(
        self,
        request: pb.LogOutEverywhereRequest,
        context: Context[pb.LogOutEverywhereRequest, pb.LogOutEverywhereResponse],
    ) -> pb.LogOutEverywhereResponse:
        """End every session of the caller."""
        caller = principal.current()
        await self._directory.log_out(caller.tenant_id, caller.user_id, actor_id=caller.user_id)
        return pb.LogOutEverywhereResponse()

    async def ChangePassword(
        self, request: pb.ChangePasswordRequest, context: Context[pb.ChangePasswordRequest, pb.ChangePasswordResponse]
    ) -> pb.ChangePasswordResponse:
        """Give the calling member of staff a new password and new tokens."""
        caller = principal.current()
        tokens = await self._sign_in.change_password(
            caller.tenant_id, caller.user_id, request.old_password, request.new_password, address=caller.address
        )
        return pb.ChangePasswordResponse(tokens=_pair(tokens))

    async def GetKeySet(
        self, request: pb.GetKeySetRequest, context: Context[pb.GetKeySetRequest, pb.GetKeySetResponse]
    ) -> pb.GetKeySetResponse:
        """Return the public keys of access tokens."""
        return pb.GetKeySetResponse(jwks=self._sign_in.keys.key_set())


def _address() -> str:
    return principal.current().address


def _pair(tokens: Tokens) -> pb.TokenPair:
    pair = pb.TokenPair(access_token=tokens.access, access_expires_at=to_wire(tokens.access_expires_at))
    if tokens.refresh is not None:
        pair.refresh_token = tokens.refresh.token
        pair.refresh_expires_at.CopyFrom(to_wire(tokens.refresh.expires_at))
    return pair
