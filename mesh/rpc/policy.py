"""The rules a contract states, read from its descriptors: who may call a method, and what is safe to retry.

The generated modules (`gen/python`) of a service must be imported before its rules are read; registering a servicer
imports them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Final

from google.protobuf import descriptor_pb2, descriptor_pool
from google.protobuf.descriptor import Descriptor, MethodDescriptor, ServiceDescriptor
from octopus.options.v1 import options_pb2

from mesh.identity import names

# Parts of gRPC itself, which carry no options of ours. Any member of the mesh may call them.
OPEN_SERVICES: Final = frozenset(
    {"grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection", "grpc.reflection.v1.ServerReflection"}
)


# How options begin that belong to `buf.validate`: extension 1159 of messages, oneofs and fields, length-delimited.
_VALIDATE_TAG: Final = b"\xba\x48"


class PolicyError(Exception):
    """A contract's rules are missing or impossible, so the server must not start. The text says what to change."""


@dataclass(frozen=True, slots=True)
class Method:
    """One method and its rules."""

    # As in the HTTP/2 path: "/octopus.chat.v1.ChatService/Send".
    path: str
    roles: frozenset[int]
    callers: frozenset[str]
    scopes: frozenset[str]
    # True when the contract declares the method idempotent.
    idempotent: bool = False
    # False when no message of the request has a rule, so that validation can be skipped.
    checked: bool = True
    # A part of gRPC itself: any certificate of the mesh is accepted, and tokens are ignored.
    open: bool = False

    @property
    def needs_principal(self) -> bool:
        """Return False for methods that anyone may call, such as log-in."""
        return not self.open and options_pb2.ROLE_ANYONE not in self.roles


def of(path: str) -> Method | None:
    """Return the rules of a method, by its HTTP/2 path; None when no such method is known. Raise `PolicyError`."""
    service, _, name = path.removeprefix("/").rpartition("/")
    if service in OPEN_SERVICES:
        return Method(path, frozenset(), names.members(), frozenset(), open=True)
    try:
        descriptor = descriptor_pool.Default().FindServiceByName(service).FindMethodByName(name)
    except KeyError:
        return None
    # The stub's signature says that it cannot fail; older runtimes return None instead of raising.
    return None if descriptor is None else _method(descriptor)


def service(full_name: str) -> Iterator[Method]:
    """Yield the rules of all methods of a service, e.g. "octopus.chat.v1.ChatService". Raise `PolicyError`."""
    if full_name in OPEN_SERVICES:
        return
    try:
        descriptor: ServiceDescriptor = descriptor_pool.Default().FindServiceByName(full_name)
    except KeyError as error:
        raise PolicyError(
            f"{full_name} has no descriptor: import its generated module before registering it"
        ) from error
    for method in descriptor.methods:
        yield _method(method)


def check(services: Iterable[str]) -> None:
    """Fail a server's start when a method of these services has no rules, or rules that no caller can meet.

    Raise `PolicyError` with all findings.
    """
    wrong = [
        f"{method.path} allows {', '.join(sorted(unknown))}, which is not a member of the mesh"
        for full_name in services
        for method in service(full_name)
        if (unknown := method.callers - names.members())
    ]
    wrong += [
        f"{method.path} admits ROLE_SERVICE, but none of its callers is a service"
        for full_name in services
        for method in service(full_name)
        if options_pb2.ROLE_SERVICE in method.roles and not method.callers & names.acting()
    ]
    if wrong:
        known = ", ".join(sorted(names.members()))
        raise PolicyError(
            f"{'; '.join(wrong)}. Members are: {known}. Correct the contract, or give the new program a manifest"
        )


@cache
def _method(descriptor: MethodDescriptor) -> Method:
    path = f"/{descriptor.containing_service.full_name}/{descriptor.name}"
    options = descriptor.GetOptions()
    if not options.HasExtension(options_pb2.access):
        raise PolicyError(f"{path} has no (octopus.options.v1.access) option: say in the contract who may call it")
    access = options.Extensions[options_pb2.access]
    return Method(
        path,
        frozenset(access.roles),
        frozenset(access.callers),
        frozenset(access.scopes),
        idempotent=options.idempotency_level != descriptor_pb2.MethodOptions.IDEMPOTENCY_UNKNOWN,
        checked=_has_rules(descriptor.input_type, set()),
    )


def _has_rules(message: Descriptor, seen: set[str]) -> bool:
    """Return whether a message, or a nested one, has rules of protovalidate."""
    if message.full_name in seen:
        return False
    seen.add(message.full_name)
    return any(
        _VALIDATE_TAG in part.GetOptions().SerializeToString() for part in (message, *message.oneofs, *message.fields)
    ) or any(field.message_type is not None and _has_rules(field.message_type, seen) for field in message.fields)
