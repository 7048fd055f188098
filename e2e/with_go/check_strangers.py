"""grpcurl against the edge, and a client in Go that is generated in an empty folder. `make strangers` runs this."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from e2e.people import Shop
from e2e.running import Octopus
from e2e.test_strangers import archive, download, run

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

__all__ = ["archive"]

GO_CLIENT = """
package main

import (
	"context"
	"crypto/x509"
	"fmt"
	"os"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"
	userv1 "octopus/contracts/octopus/user/v1"
)

func main() {
	pem, _ := os.ReadFile(os.Args[2])
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	trusted := credentials.NewClientTLSFromCert(pool, "")
	channel, err := grpc.NewClient(os.Args[1], grpc.WithTransportCredentials(trusted))
	if err != nil {
		panic(err)
	}
	auth := userv1.NewAuthServiceClient(channel)
	_, err = auth.IdentifyShopper(context.Background(), &userv1.IdentifyShopperRequest{TenantId: "NO SUCH SHOP"})
	for _, detail := range status.Convert(err).Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok {
			fmt.Println(info.Reason)
		}
	}
	me, err := auth.IdentifyShopper(context.Background(), &userv1.IdentifyShopperRequest{TenantId: "qingshan"})
	if err != nil {
		panic(err)
	}
	fmt.Println(me.User.TenantId)
}
"""


async def test_grpcurl_discovers_and_calls(octopus: Octopus, qingshan: Shop, tmp_path: Path) -> None:
    agent = await qingshan.staff(qingshan.agents[0])
    edge = octopus.edge
    grpcurl = ("grpcurl", "-cacert", edge.ca, "-H", f"authorization: Bearer {agent.access_token}")
    services = (await run(*grpcurl, edge.address, "list", cwd=tmp_path)).split()
    assert "octopus.session.v1.SessionService" in services
    assert not [name for name in services if name.startswith(("octopus.mesh", "octopus.echo"))]
    described = await run(*grpcurl, edge.address, "describe", "octopus.chat.v1.ChatService", cwd=tmp_path)
    assert "rpc Converse ( stream .octopus.chat.v1.ConverseRequest )" in described
    me = json.loads(await run(*grpcurl, edge.address, "octopus.user.v1.UserService/GetMe", cwd=tmp_path))
    assert me["user"]["tenantId"] == "qingshan"


async def test_grpcurl_calls_with_the_image_and_reads_errors(octopus: Octopus, tmp_path: Path) -> None:
    edge = octopus.edge
    (tmp_path / "octopus.binpb").write_bytes(await download(octopus, "octopus.binpb"))
    grpcurl = ("grpcurl", "-cacert", edge.ca, "-protoset", "octopus.binpb", "-d")
    method = "octopus.user.v1.AuthService/IdentifyShopper"
    me = json.loads(await run(*grpcurl, '{"tenant_id": "qingshan"}', edge.address, method, cwd=tmp_path))
    assert me["tokens"]["accessToken"]
    wrong = 'grpcurl -cacert {} -protoset octopus.binpb -d \'{{"tenant_id": "NO SUCH SHOP"}}\' {} {} || true'
    said = await run("sh", "-c", wrong.format(edge.ca, edge.address, method), cwd=tmp_path)
    assert "google.rpc.ErrorInfo" in said
    assert "INVALID_ARGUMENT" in said


async def test_a_client_in_go_works(octopus: Octopus, archive: Path) -> None:
    contracts = archive / "octopus-contracts"
    files = sorted(str(path.relative_to(contracts)) for path in (contracts / "octopus").rglob("*.proto"))
    out = archive / "contracts"
    out.mkdir()
    module = "module=octopus/contracts"
    await run(
        *(sys.executable, "-m", "grpc_tools.protoc", "-Ioctopus-contracts"),
        *("--go_out=contracts", f"--go_opt={module}", "--go-grpc_out=contracts", f"--go-grpc_opt={module}", *files),
        cwd=archive,
    )
    await run("go", "mod", "init", "octopus/contracts", cwd=out)
    client = archive / "client"
    client.mkdir()
    (client / "main.go").write_text(GO_CLIENT)
    await run("go", "mod", "init", "stranger", cwd=client)
    await run(
        "go", "mod", "edit", "-require=octopus/contracts@v0.0.0", "-replace=octopus/contracts=../contracts", cwd=client
    )
    await run("go", "mod", "tidy", cwd=out)
    await run("go", "mod", "tidy", cwd=client)
    said = await run("go", "run", ".", octopus.edge.address, octopus.edge.ca, cwd=client)
    assert said.split()[-2:] == ["INVALID_ARGUMENT", "qingshan"]
