"""A connection that takes messages and answers none is said to be, and left within seconds."""

from __future__ import annotations

import time

import pytest
from playwright.async_api import Browser, WebSocketRoute, expect

from e2e.people import Shop
from e2e.running import Octopus
from e2e.web.visit import (
    DESKTOP,
    PHONE,
    SLOW_MS,
    accept,
    ask_for_a_person,
    log_in,
    new_context,
    open_chat,
    open_page,
    visit,
)

pytestmark = pytest.mark.e2e

# The rule's 5 seconds, and what a busy machine takes to draw.
TOLD_WITHIN_MS = 15_000


async def test_a_message_without_an_acknowledgement_makes_the_page_say_so_and_reconnect(
    browser: Browser, octopus: Octopus, qingshan: Shop
) -> None:
    context = await new_context(browser, PHONE)
    silent = False
    sockets = 0

    def pass_on(route: WebSocketRoute) -> None:
        nonlocal sockets
        sockets += 1
        number = sockets
        server = route.connect_to_server()
        # The first connection stays open and falls silent: what the server says over it is lost.
        server.on_message(lambda message: None if silent and number == 1 else route.send(message))

    await context.route_web_socket("**/ws", pass_on)
    page = await visit(context, octopus, "/shop/qingshan/")
    await open_chat(page)
    await page.get_by_test_id("suggestion").first.click()
    await expect(page.locator("[data-kind=bot]").first).to_be_visible(timeout=SLOW_MS)

    silent = True
    await page.get_by_test_id("input").fill("有人吗？")
    began = time.monotonic()
    await page.keyboard.press("Enter")
    await expect(page.locator("[data-state=sending]")).to_have_count(1)
    await expect(page.get_by_test_id("connection-banner")).to_be_visible(timeout=TOLD_WITHIN_MS)
    assert time.monotonic() - began > 4, "a connection that is only slow is not left"
    await expect(page.locator("[data-state=sending]")).to_have_count(0, timeout=SLOW_MS)
    await expect(page.get_by_test_id("connection-banner")).to_be_hidden(timeout=SLOW_MS)
    await expect(page.get_by_text("有人吗？")).to_have_count(1)
    assert sockets == 2

    await page.reload()
    await open_chat(page)
    await expect(page.get_by_text("有人吗？")).to_have_count(1, timeout=SLOW_MS)


async def test_both_sides_are_told_when_every_chat_instance_is_frozen(
    browser: Browser, octopus: Octopus, qingshan: Shop
) -> None:
    shopper = await open_page(browser, octopus, "/shop/qingshan/", PHONE)
    await open_chat(shopper)
    await ask_for_a_person(shopper)
    agent = await open_page(browser, octopus, "/agent/", DESKTOP)
    await log_in(agent, qingshan, qingshan.agents[0])
    await accept(agent)
    with octopus.frozen("chat-1"), octopus.frozen("chat-2"):
        for page, box, words in ((shopper, "input", "还在吗？"), (agent, "agent-input", "我在。")):
            await page.get_by_test_id(box).fill(words)
            await page.keyboard.press("Enter")
        for page in (shopper, agent):
            await expect(page.get_by_test_id("connection-banner")).to_be_visible(timeout=TOLD_WITHIN_MS)
            await expect(page.locator("[data-state=sending]")).to_have_count(1)
    for page in (shopper, agent):
        await expect(page.locator("[data-state=sending]")).to_have_count(0, timeout=60_000)
        await expect(page.get_by_test_id("connection-banner")).to_be_hidden(timeout=SLOW_MS)
        for words in ("还在吗？", "我在。"):
            await expect(page.locator(".bubble").get_by_text(words)).to_have_count(1, timeout=SLOW_MS)
