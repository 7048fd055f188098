"""UserService on the wire."""

from __future__ import annotations

from typing import Final, TypeAlias, TypeVar

import grpc.aio
from octopus.user.v1 import user_service_pb2 as pb
from octopus.user.v1 import user_service_pb2_grpc

from mesh.rpc import principal
from mesh.rpc.paging import Paging
from services.user import wire
from services.user.domain import Kind, Role
from services.user.people.directory import Directory, NewUser, UserChange

_USERS: Final = Paging("ListUsers", (0,))

Q = TypeVar("Q")
R = TypeVar("R")
Context: TypeAlias = "grpc.aio.ServicerContext[Q, R]"


class UserServicer(user_service_pb2_grpc.UserServiceServicer):
    """Translate between the contract and `Directory`."""

    def __init__(self, directory: Directory) -> None:
        self._directory = directory

    async def GetMe(
        self, request: pb.GetMeRequest, context: Context[pb.GetMeRequest, pb.GetMeResponse]
    ) -> pb.GetMeResponse:
        """Return the caller and the names of the shop."""
        caller = principal.current()
        user = await self._directory.find(caller.tenant_id, caller.user_id)
        shop = await self._directory.shop(caller.tenant_id)
        return pb.GetMeResponse(
            user=wire.user(user, unmasked=True), shop_name_zh=shop.name_zh, shop_name_en=shop.name_en
        )

    async def GetUser(
        self, request: pb.GetUserRequest, context: Context[pb.GetUserRequest, pb.GetUserResponse]
    ) -> pb.GetUserResponse:
        """Return one user of the caller's shop."""
        user = await self._directory.find(principal.current().tenant_id, request.user_id)
        return pb.GetUserResponse(user=wire.user(user))

    async def ListUsers(
        self, request: pb.ListUsersRequest, context: Context[pb.ListUsersRequest, pb.ListUsersResponse]
    ) -> pb.ListUsersResponse:
        """Return a page of the shop's users."""
        size, (after_id,) = _USERS.size(request.page_size), _USERS.position(request.page_token)
        found = await self._directory.page(
            principal.current().tenant_id,
            after_id=after_id,
            limit=size + 1,
            kind=request.kind,
            tag=request.tag,
        )
        users, following = _USERS.page(found, size, lambda user: (user.id,))
        return pb.ListUsersResponse(users=[wire.user(user) for user in users], next_page_token=following)

    async def CreateUser(
        self, request: pb.CreateUserRequest, context: Context[pb.CreateUserRequest, pb.CreateUserResponse]
    ) -> pb.CreateUserResponse:
        """Create a member of staff or a partner."""
        new = NewUser(
            request_id=request.request_id,
            kind=Kind(request.kind),
            external_id=request.external_id,
            display_name=request.display_name,
            roles=[Role(role) for role in request.roles],
            password=request.password,
            scopes=request.scopes,
            capacity=request.capacity,
        )
        user = await self._directory.create(principal.current().tenant_id, new)
        return pb.CreateUserResponse(user=wire.user(user))

    async def UpdateUser(
        self, request: pb.UpdateUserRequest, context: Context[pb.UpdateUserRequest, pb.UpdateUserResponse]
    ) -> pb.UpdateUserResponse:
        """Change the given fields of a user."""
        change = UserChange(
            display_name=request.display_name if request.HasField("display_name") else None,
            disabled=request.disabled if request.HasField("disabled") else None,
            phone=request.phone if request.HasField("phone") else None,
            capacity=request.capacity if request.HasField("capacity") else None,
        )
        caller = principal.current()
        user = await self._directory.change(caller.tenant_id, request.user_id, change, actor_id=caller.user_id)
        return pb.UpdateUserResponse(user=wire.user(user))

    async def SetTags(
        self, request: pb.SetTagsRequest, context: Context[pb.SetTagsRequest, pb.SetTagsResponse]
    ) -> pb.SetTagsResponse:
        """Replace the labels of a user."""
        user = await self._directory.set_tags(principal.current().tenant_id, request.user_id, request.tags)
        return pb.SetTagsResponse(user=wire.user(user))

    async def LogOutUser(
        self, request: pb.LogOutUserRequest, context: Context[pb.LogOutUserRequest, pb.LogOutUserResponse]
    ) -> pb.LogOutUserResponse:
        """End every session of a user, for an administrator."""
        caller = principal.current()
        await self._directory.log_out(caller.tenant_id, request.user_id, actor_id=caller.user_id)
        return pb.LogOutUserResponse()

    async def MergeVisitor(
        self, request: pb.MergeVisitorRequest, context: Context[pb.MergeVisitorRequest, pb.MergeVisitorResponse]
    ) -> pb.MergeVisitorResponse:
        """Make the visitor part of the calling customer."""
        caller = principal.current()
        customer = await self._directory.merge(caller.tenant_id, caller.user_id, request.visitor_refresh_token)
        return pb.MergeVisitorResponse(user=wire.user(customer, unmasked=True))
