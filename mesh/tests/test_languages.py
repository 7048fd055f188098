"""The contracts name their package in the languages that strangers generate, and what they import is there as text."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from buf.validate import validate_pb2
from google.protobuf import descriptor_pb2

ROOT = Path(__file__).resolve().parents[2]
CONTRACTS = sorted((ROOT / "proto").rglob("*.proto"))

pytestmark = pytest.mark.unit


def compiled(*files: str) -> dict[str, descriptor_pb2.FileDescriptorProto]:
    """Compile contracts from their text alone."""
    folders = ("-Iproto", "-Igen/proto")
    command = [sys.executable, "-m", "grpc_tools.protoc", *folders, "--descriptor_set_out=/dev/stdout", *files]
    image = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout
    return {file.name: file for file in descriptor_pb2.FileDescriptorSet.FromString(image).file}


def test_every_contract_says_what_its_package_is_called_in_other_languages() -> None:
    for name, file in compiled(*(str(path.relative_to(ROOT / "proto")) for path in CONTRACTS)).items():
        _, service, version = file.package.split(".")
        options = file.options
        pascal = f"{service.capitalize()}.{version.upper()}"
        assert options.go_package == f"octopus/contracts/octopus/{service}/{version};{service}{version}", name
        assert options.java_package == f"com.octopus.{service}.{version}", name
        assert options.java_multiple_files, name
        assert options.csharp_namespace == f"Octopus.{pascal}", name
        assert options.php_namespace == f"Octopus\\{pascal}".replace(".", "\\"), name
        assert options.ruby_package == f"Octopus::{pascal}".replace(".", "::"), name


def test_the_text_of_the_validation_rules_is_what_the_servers_enforce() -> None:
    enforced = descriptor_pb2.FileDescriptorProto()
    validate_pb2.DESCRIPTOR.CopyToProto(enforced)
    (text,) = compiled("buf/validate/validate.proto").values()
    for file in (enforced, text):
        for field in (*file.extension, *(field for message in file.message_type for field in message.field)):
            field.ClearField("json_name")
    assert text == enforced
