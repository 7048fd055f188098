"""What can be called from outside, as descriptors: nothing else is in them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from google.protobuf import descriptor_pb2, descriptor_pool
from google.protobuf.descriptor import FileDescriptor, MethodDescriptor, ServiceDescriptor
from google.rpc import error_details_pb2, status_pb2
from octopus.options.v1 import options_pb2

from edge.reflection.contract import EDGE
from mesh.control.contract import methods
from mesh.identity import names

# Details of errors come as `Any`, so no contract imports their types; clients ask for them by name.
_ERRORS = (error_details_pb2.DESCRIPTOR, status_pb2.DESCRIPTOR)


@dataclass(frozen=True)
class Published:
    """The contracts as outsiders may see them."""

    # Their services, in order.
    services: tuple[str, ...]
    # The files that define those services and what they need, without the methods that are not for outside.
    pool: descriptor_pool.DescriptorPool
    # Every scope that opens one of the methods to a partner.
    scopes: frozenset[str]


def published() -> Published:
    """Return what the contracts let the edge call.

    A service without any such method is left out, and a file that only such services need: so are internal events,
    the mesh's own services and the comments, which descriptors in a program do not have.
    """
    services = [service for service in _services() if any(map(_from_outside, service.methods))]
    pool = descriptor_pool.DescriptorPool()
    for file in _with_imports([*(service.file for service in services), *_ERRORS]):
        pool.AddSerializedFile(_outside_only(file).SerializeToString())
    scopes = {
        scope
        for service in services
        for method in filter(_from_outside, service.methods)
        for scope in method.GetOptions().Extensions[options_pb2.access].scopes
    }
    return Published(tuple(sorted(service.full_name for service in services)), pool, frozenset(scopes))


def _services() -> Iterator[ServiceDescriptor]:
    """Yield the services of all contracts."""
    default = descriptor_pool.Default()
    for name in sorted({method.path.split("/")[1] for method in methods() if method.service != names.ECHO}):
        yield default.FindServiceByName(name)


def _from_outside(method: MethodDescriptor) -> bool:
    return EDGE in method.GetOptions().Extensions[options_pb2.access].callers


def _with_imports(files: Iterable[FileDescriptor]) -> list[FileDescriptor]:
    """Return files and all that they import, what is imported first."""
    found: dict[str, FileDescriptor] = {}

    def add(file: FileDescriptor) -> None:
        if file.name not in found:
            for each in file.dependencies:
                add(each)
            found[file.name] = file

    for file in files:
        add(file)
    return list(found.values())


def _outside_only(file: FileDescriptor) -> descriptor_pb2.FileDescriptorProto:
    """Return a file without the methods that are not for outside, and without services that have no others."""
    shown = descriptor_pb2.FileDescriptorProto()
    file.CopyToProto(shown)
    services = [file.services_by_name[service.name] for service in shown.service]
    del shown.service[:]
    for service in services:
        kept = descriptor_pb2.ServiceDescriptorProto()
        service.CopyToProto(kept)
        outside = {method.name for method in service.methods if _from_outside(method)}
        remaining = [method for method in kept.method if method.name in outside]
        del kept.method[:]
        kept.method.extend(remaining)
        if remaining:
            shown.service.append(kept)
    return shown
