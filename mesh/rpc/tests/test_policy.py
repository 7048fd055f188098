"""The contracts' own rules, read from every generated service."""

import importlib
from pathlib import Path

import octopus
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message_factory import GetMessageClass
from octopus.options.v1 import options_pb2
from octopus.user.v1 import auth_service_pb2

from mesh.identity import names
from mesh.rpc import policy
from mesh.rpc.masking import mask, mask_text

pytestmark = pytest.mark.unit


def _generated() -> list[str]:
    """The names of all generated modules with messages, imported."""
    root = Path(next(iter(octopus.__path__)))
    found = sorted(root.rglob("*_pb2.py"))
    modules = [".".join(("octopus", *path.relative_to(root).with_suffix("").parts)) for path in found]
    for module in modules:
        importlib.import_module(module)
    return modules


FILES = [importlib.import_module(module).DESCRIPTOR for module in _generated()]
SERVICES = [service.full_name for file in FILES for service in file.services_by_name.values()]
METHODS = [method for service in SERVICES for method in policy.service(service)]
MESSAGES = [message for file in FILES for message in file.message_types_by_name.values()]


def test_every_service_of_the_contracts_is_looked_at() -> None:
    written = sum(path.read_text().count("\nservice ") for path in Path("proto").rglob("*.proto"))
    assert len(SERVICES) == written >= 8


@pytest.mark.parametrize("service", SERVICES)
def test_every_method_says_who_may_call_it(service: str) -> None:
    for method in policy.service(service):
        assert method.roles, method.path
        assert method.callers, method.path
        assert method.callers <= names.members(), method.path
        assert options_pb2.ROLE_UNSPECIFIED not in method.roles, method.path


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.path)
def test_partners_need_a_scope_where_they_are_let_in(method: policy.Method) -> None:
    assert (options_pb2.ROLE_PARTNER in method.roles) == bool(method.scopes)


def test_a_method_without_rules_fails_the_start() -> None:
    pool = descriptor_pool.Default()
    file = descriptor_pb2.FileDescriptorProto(
        name="tests/without_rules.proto", package="octopus.tests", syntax="proto3"
    )
    file.message_type.add(name="Empty")
    file.service.add(name="Open").method.add(
        name="Enter", input_type=".octopus.tests.Empty", output_type=".octopus.tests.Empty"
    )
    pool.Add(file)
    with pytest.raises(policy.PolicyError, match=r"/octopus\.tests\.Open/Enter has no"):
        policy.check(["octopus.tests.Open"])


def test_an_allowlist_that_names_nobody_fails_the_start() -> None:
    pool = descriptor_pool.Default()
    file = descriptor_pb2.FileDescriptorProto(name="tests/stranger.proto", package="octopus.tests", syntax="proto3")
    file.dependency.append("octopus/options/v1/options.proto")
    file.message_type.add(name="Nothing")
    method = file.service.add(name="Strange").method.add(
        name="Enter", input_type=".octopus.tests.Nothing", output_type=".octopus.tests.Nothing"
    )
    method.options.Extensions[options_pb2.access].CopyFrom(
        options_pb2.Access(roles=[options_pb2.ROLE_AGENT], callers=["edge", "bott"])
    )
    pool.Add(file)
    with pytest.raises(policy.PolicyError, match="allows bott, which is not a member of the mesh"):
        policy.check(["octopus.tests.Strange"])


def test_an_unknown_method_has_no_rules() -> None:
    assert policy.of("/octopus.chat.v1.ChatService/Nothing") is None
    assert policy.of("/nobody.Knows/This") is None
    assert policy.of("no path at all") is None


def _filled(descriptor: Descriptor, depth: int = 0) -> object:
    """A message in which every personal field holds a marked value."""
    message = GetMessageClass(descriptor)()
    for field in descriptor.fields:
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            continue
        if field.type == FieldDescriptor.TYPE_STRING and field.GetOptions().Extensions[options_pb2.personal_data]:
            value = "SECRETVALUE9876"
            if field.is_repeated:
                getattr(message, field.name).append(value)
            else:
                setattr(message, field.name, value)
        elif field.message_type is not None and depth < 6 and field.message_type.full_name.startswith("octopus."):
            inner = _filled(field.message_type, depth + 1)
            if field.is_repeated:
                getattr(message, field.name).append(inner)
            else:
                getattr(message, field.name).CopyFrom(inner)
    return message


@pytest.mark.parametrize("descriptor", MESSAGES, ids=lambda descriptor: descriptor.full_name)
def test_no_personal_data_of_any_message_reaches_a_log(descriptor: Descriptor) -> None:
    assert "SECRETVALUE" not in mask(_filled(descriptor))  # type: ignore[arg-type]


def test_masking_keeps_what_helps() -> None:
    request = auth_service_pb2.LogInRequest(tenant_id="qingshan", login="lin", password="hunter2")
    assert mask(request) == "{tenant_id: 'qingshan', login: 'lin', password: ***}"


@pytest.mark.parametrize(
    ("kind", "text", "shown"),
    [
        (options_pb2.PERSONAL_DATA_NAME, "李雷", "李*"),
        (options_pb2.PERSONAL_DATA_PHONE, "13812345678", "*5678"),
        (options_pb2.PERSONAL_DATA_PHONE, "5678", "***"),
        (options_pb2.PERSONAL_DATA_EMAIL, "li@example.com", "*@example.com"),
        (options_pb2.PERSONAL_DATA_EMAIL, "not an address", "***"),
        (options_pb2.PERSONAL_DATA_ADDRESS, "浙江省杭州市", "***"),
        (options_pb2.PERSONAL_DATA_TEXT, "你好吗", "<3 characters>"),
        (options_pb2.PERSONAL_DATA_SECRET, "x", "***"),
        (999, "newer than this code", "***"),
    ],
)
def test_each_kind_is_masked_in_its_way(kind: int, text: str, shown: str) -> None:
    assert mask_text(kind, text) == shown


@pytest.mark.parametrize(
    ("path", "checked"),
    [
        ("/octopus.chat.v1.ChatService/Converse", True),
        ("/octopus.chat.v1.ChatService/Send", True),
        ("/octopus.chat.v1.RelayService/Relay", False),
        ("/octopus.session.v1.SessionService/GetSession", True),
    ],
)
def test_only_requests_with_rules_are_checked(path: str, checked: bool) -> None:
    method = policy.of(path)
    assert method is not None
    assert method.checked is checked
