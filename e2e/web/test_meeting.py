"""Two people in two browsers: a shopper on the shop's page, and an agent on the console. Screenshots are kept."""

from __future__ import annotations

import secrets
from pathlib import Path

import pytest
from octopus.chat.v1 import chat_events_pb2, message_pb2
from playwright.async_api import Browser, expect

from e2e.clients.participant import Participant
from e2e.clients.transports import WebSocket
from e2e.people import Shop
from e2e.running import Octopus
from e2e.web.visit import DESKTOP, PHONE, SLOW_MS, log_in, open_page
from mesh.bus import connect
from mesh.identity.files import Identity

pytestmark = pytest.mark.e2e


async def test_a_shopper_and_an_agent_meet_in_their_browsers(
    browser: Browser, octopus: Octopus, qingshan: Shop, artifacts: Path
) -> None:
    shopper = await open_page(browser, octopus, "/shop/qingshan/", PHONE)
    await shopper.get_by_test_id("launcher").click()
    await expect(shopper.get_by_test_id("suggestion").first).to_be_visible(timeout=SLOW_MS)
    await shopper.screenshot(path=artifacts / "shopper-empty.png")

    await shopper.get_by_test_id("input").fill("你们一般多久发货？")
    await shopper.keyboard.press("Enter")
    await expect(shopper.locator("[data-kind=bot]").first).to_contain_text("24 小时", timeout=SLOW_MS)
    await expect(shopper.get_by_test_id("source").first).to_be_visible()

    await shopper.get_by_test_id("handoff").click()
    await expect(shopper.get_by_test_id("queue-position")).to_contain_text("下一位", timeout=SLOW_MS)
    await shopper.screenshot(path=artifacts / "shopper-waiting.png")

    agent = await open_page(browser, octopus, "/agent/", DESKTOP)
    await agent.get_by_test_id("login-form").wait_for()
    await agent.screenshot(path=artifacts / "agent-login.png")
    await log_in(agent, qingshan, qingshan.agents[0])
    await agent.get_by_test_id("status-select").select_option("available")
    await agent.get_by_test_id("accept").first.click()

    conversation = agent.get_by_test_id("conversation")
    await expect(conversation).to_contain_text("你们一般多久发货？", timeout=SLOW_MS)
    await expect(conversation).to_contain_text("24 小时")
    await agent.get_by_test_id("agent-input").fill("您好，我是小林，前面的对话我都看到了。")
    await agent.keyboard.press("Enter")
    await expect(shopper.locator("[data-kind=agent]").first).to_contain_text("我是小林", timeout=SLOW_MS)
    await expect(agent.locator("[data-kind=agent][data-state=read]").first).to_be_visible(timeout=SLOW_MS)

    await shopper.get_by_test_id("input").fill("那我要换大一码")
    await shopper.keyboard.press("Enter")
    await expect(conversation).to_contain_text("那我要换大一码", timeout=SLOW_MS)
    await expect(shopper.locator("[data-kind=customer][data-state=read]").last).to_contain_text(
        "换大一码", timeout=SLOW_MS
    )
    await shopper.screenshot(path=artifacts / "shopper-conversation.png")
    await agent.screenshot(path=artifacts / "agent-conversation.png")

    await agent.get_by_test_id("end-session").click()
    await agent.get_by_test_id("end-confirm").click()
    await expect(shopper.get_by_test_id("start-again")).to_be_visible(timeout=SLOW_MS)
    await shopper.screenshot(path=artifacts / "shopper-ended.png")


async def test_a_shopper_who_loses_the_network_loses_no_words(
    browser: Browser, octopus: Octopus, qingshan: Shop, artifacts: Path
) -> None:
    page = await open_page(browser, octopus, "/shop/qingshan/", PHONE)
    await page.get_by_test_id("launcher").click()
    await page.get_by_test_id("suggestion").first.click()
    await page.locator("[data-kind=bot]").first.wait_for()

    await page.context.set_offline(True)
    await expect(page.get_by_test_id("connection-banner")).to_be_visible(timeout=SLOW_MS)
    await page.get_by_test_id("input").fill("断网时说的话")
    await page.keyboard.press("Enter")
    await expect(page.locator("[data-state=sending]")).to_have_count(1)
    await page.screenshot(path=artifacts / "shopper-offline.png")

    await page.context.set_offline(False)
    await expect(page.locator("[data-state=sending]")).to_have_count(0, timeout=SLOW_MS)
    await expect(page.get_by_test_id("connection-banner")).to_be_hidden(timeout=SLOW_MS)
    await expect(page.get_by_text("断网时说的话")).to_have_count(1)


async def test_the_pages_speak_english_and_work_by_keyboard(
    browser: Browser, octopus: Octopus, qingshan: Shop, artifacts: Path
) -> None:
    page = await open_page(browser, octopus, "/shop/xinghe/", DESKTOP, locale="en-GB")
    await page.evaluate("document.querySelector('octopus-chat').setAttribute('lang', 'en')")
    launcher = page.get_by_role("button", name="Open customer service")
    await launcher.focus()
    await page.keyboard.press("Enter")
    await expect(page.get_by_label("Type your question")).to_be_focused(timeout=SLOW_MS)
    await page.keyboard.type("Do you ship abroad?")
    await page.keyboard.press("Enter")
    await page.locator("[data-kind=bot]").first.wait_for()
    await page.screenshot(path=artifacts / "shopper-english.png")
    await page.keyboard.press("Escape")
    await expect(launcher).to_be_focused()


async def test_a_wrong_password_is_told(browser: Browser, octopus: Octopus, qingshan: Shop) -> None:
    page = await open_page(browser, octopus, "/agent/", PHONE)
    await page.get_by_test_id("login-tenant").fill(qingshan.tenant_id)
    await page.get_by_test_id("login-name").fill(qingshan.agents[0])
    await page.get_by_test_id("login-password").fill("not the password")
    await page.get_by_test_id("login-submit").click()
    await expect(page.get_by_test_id("login-error")).to_be_visible(timeout=SLOW_MS)
    await expect(page.get_by_test_id("login-error")).not_to_be_empty()


async def test_pages_older_than_a_kind_of_message_show_its_fallback(
    browser: Browser, octopus: Octopus, qingshan: Shop
) -> None:
    shopper = await open_page(browser, octopus, "/shop/qingshan/", PHONE)
    await shopper.get_by_test_id("launcher").click()
    await shopper.get_by_test_id("input").fill("转人工")
    await shopper.keyboard.press("Enter")
    agent = await open_page(browser, octopus, "/agent/", DESKTOP)
    await log_in(agent, qingshan, qingshan.agents[0])
    await agent.get_by_test_id("status-select").select_option("available")
    await agent.get_by_test_id("accept").first.click()
    await expect(agent.get_by_test_id("conversation")).to_contain_text("转人工", timeout=SLOW_MS)

    agent_too = await qingshan.staff(qingshan.agents[0])
    async with Participant(agent_too, WebSocket(octopus.edge, json=True)).connected() as client:
        (session_id,) = client.sessions
        await newer_entry(octopus, qingshan.tenant_id, session_id, "[语音 12 秒]", message_pb2.SENDER_KIND_CUSTOMER)
        await newer_entry(octopus, qingshan.tenant_id, session_id, "会话已升级", message_pb2.SENDER_KIND_SYSTEM)
        await newer_entry(octopus, qingshan.tenant_id, session_id, "", message_pb2.SENDER_KIND_CUSTOMER)
        await client.until(lambda p: {"[语音 12 秒]", "会话已升级"} <= set(p.texts(session_id)))

    for page in (shopper, agent):
        await expect(page.locator("[data-kind=customer]").last).to_contain_text("[语音 12 秒]", timeout=SLOW_MS)
        await expect(page.locator("[data-kind=system]").last).to_contain_text("会话已升级", timeout=SLOW_MS)


async def newer_entry(
    octopus: Octopus, tenant_id: str, session_id: int, fallback: str, sender: message_pb2.SenderKind.ValueType
) -> None:
    """Put into the log what a later release would: a kind that nobody here knows, field 100 of the content."""
    content = message_pb2.Content.FromString(b"\xa2\x06\x02\x08\x01")
    content.fallback_text = fallback
    message = message_pb2.Message(
        id=int.from_bytes(secrets.token_bytes(7)),
        session_id=session_id,
        sender=message_pb2.Sender(kind=sender),
        content=content,
    )
    message.sent_at.GetCurrentTime()
    entry = chat_events_pb2.LogEntry(message=message, tenant_id=tenant_id)
    nats = octopus.status()["endpoints"]["nats"]
    async with connect(nats, "chat", tls=Identity(octopus.root / "identity", "chat").client_context) as bus:
        await bus.publish(f"log.{tenant_id}.{session_id}", entry, message_id=str(message.id))
