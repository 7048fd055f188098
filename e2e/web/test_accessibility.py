"""Everybody can use the pages: axe finds nothing in any state, in both languages and colour schemes."""

from __future__ import annotations

import pytest
from playwright.async_api import Browser, expect

from e2e.people import Shop
from e2e.running import Octopus
from e2e.web.accessibility import check
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


async def test_the_start_page_and_the_shops(browser: Browser, octopus: Octopus, qingshan: Shop) -> None:
    page = await open_page(browser, octopus, "/", DESKTOP)
    await page.get_by_test_id("language").wait_for()
    await check(page, "start page")
    for shop in ("qingshan", "xinghe"):
        page = await open_page(browser, octopus, f"/shop/{shop}/", DESKTOP)
        await page.get_by_test_id("launcher").wait_for()
        await check(page, shop)
    page = await open_page(browser, octopus, "/no/such/page", PHONE)
    await check(page, "not found")


async def test_a_conversation_on_both_sides(browser: Browser, octopus: Octopus, qingshan: Shop) -> None:
    shopper = await open_page(browser, octopus, "/shop/qingshan/", DESKTOP)
    await open_chat(shopper)
    await check(shopper, "greeting")
    await shopper.get_by_test_id("input").fill("你们一般多久发货？")
    await shopper.keyboard.press("Enter")
    await expect(shopper.locator("[data-kind=bot]").first).to_be_visible(timeout=SLOW_MS)
    await check(shopper, "with the bot")
    await ask_for_a_person(shopper)
    await check(shopper, "waiting")

    agent = await open_page(browser, octopus, "/agent/", DESKTOP)
    await agent.get_by_test_id("login-form").wait_for()
    await check(agent, "log-in")
    await log_in(agent, qingshan, qingshan.agents[0])
    await check(agent, "empty inbox")
    await accept(agent)
    await agent.get_by_test_id("agent-input").fill("您好")
    await agent.keyboard.press("Enter")
    await expect(agent.locator("[data-kind=agent]").first).to_be_visible(timeout=SLOW_MS)
    await check(agent, "conversation of the agent")
    await agent.get_by_test_id("account").click()
    await check(agent, "account")
    await agent.get_by_test_id("account-close").click()
    await agent.keyboard.press("Escape")
    await agent.keyboard.press("?")
    await expect(agent.get_by_test_id("help")).to_be_visible()
    await check(agent, "help")
    await agent.keyboard.press("Escape")

    await expect(shopper.locator("[data-kind=agent]").first).to_be_visible(timeout=SLOW_MS)
    await check(shopper, "conversation of the shopper")
    await agent.get_by_test_id("agent-input").fill("写了一半")
    await shopper.get_by_test_id("input").fill("写了一半")
    await shopper.get_by_test_id("end-session").click()
    await check(shopper, "asked whether to end")
    await shopper.get_by_test_id("end-confirm").click()
    await expect(shopper.get_by_test_id("draft-kept")).to_be_visible(timeout=SLOW_MS)
    await check(shopper, "ended")
    await expect(agent.get_by_test_id("unsent")).to_be_visible(timeout=SLOW_MS)
    await check(agent, "ended for the agent")


async def test_what_goes_wrong(browser: Browser, octopus: Octopus, qingshan: Shop) -> None:
    context = await new_context(browser, PHONE)
    await context.route("**/octopus.user.v1.AuthService/**", lambda route: route.abort())
    page = await visit(context, octopus, "/shop/qingshan/")
    await page.get_by_test_id("launcher").click()
    await expect(page.get_by_test_id("trouble")).to_be_visible(timeout=SLOW_MS)
    await check(page, "not reached")
    await context.unroute("**/octopus.user.v1.AuthService/**")
    await page.get_by_test_id("trouble").get_by_role("button").click()
    await expect(page.get_by_test_id("input")).to_be_focused(timeout=SLOW_MS)
    await page.get_by_test_id("suggestion").first.click()
    await expect(page.locator("[data-kind=bot]").first).to_be_visible(timeout=SLOW_MS)
    await context.set_offline(True)
    await expect(page.get_by_test_id("connection-banner")).to_be_visible(timeout=SLOW_MS)
    await check(page, "offline")

    agent = await open_page(browser, octopus, "/agent/", PHONE)
    await agent.get_by_test_id("login-tenant").fill("NO SHOP")
    await agent.get_by_test_id("login-name").fill("nobody")
    await agent.get_by_test_id("login-password").fill("wrong")
    await agent.get_by_test_id("login-submit").click()
    await expect(agent.get_by_test_id("login-error")).to_be_visible(timeout=SLOW_MS)
    await check(agent, "log-in refused")
