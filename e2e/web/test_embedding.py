"""The chat opens however and whenever the shop's page asks for it."""

from __future__ import annotations

import asyncio

import pytest
from playwright.async_api import Browser, Route, expect

from e2e.people import Shop
from e2e.running import Octopus
from e2e.web.visit import DESKTOP, SLOW_MS, new_context, open_page, visit

pytestmark = pytest.mark.e2e

# Each asks as early as a page can, while the widget's script is on its way.
EARLY = {
    "a button of the shop": "document.querySelector('[data-testid=ask]').click()",
    "a link without a script": "document.getElementById('contact').click()",
    "a call": "(window.octopus ??= []).push('open')",
    "an attribute": "document.querySelector('octopus-chat').setAttribute('open', '')",
}


@pytest.mark.parametrize("ask", EARLY.values(), ids=EARLY.keys())
async def test_who_asks_before_the_script_has_arrived_is_served_when_it_has(
    browser: Browser, octopus: Octopus, qingshan: Shop, ask: str
) -> None:
    context = await new_context(browser, DESKTOP)
    arrives = asyncio.Event()

    async def hold(route: Route) -> None:
        await arrives.wait()
        await route.continue_()

    await context.route("**/octopus-chat.js", hold)
    page = await visit(context, octopus, "/shop/qingshan/", wait_until="commit")
    await page.get_by_test_id("ask").wait_for()
    await page.evaluate(
        "document.body.insertAdjacentHTML('beforeend', '<a id=contact href=\"#octopus-chat\">Contact us</a>')"
    )
    await page.evaluate(ask)
    arrives.set()
    await expect(page.get_by_test_id("input")).to_be_focused(timeout=SLOW_MS)
    assert "#" not in page.url, "a reload must not open the chat again"

    # And once more, now that everything is there.
    await page.keyboard.press("Escape")
    await expect(page.get_by_test_id("panel")).to_be_hidden()
    if "setAttribute" in ask:
        await page.evaluate("document.querySelector('octopus-chat').removeAttribute('open')")
    await page.evaluate(ask)
    await expect(page.get_by_test_id("panel")).to_be_visible()
    assert "#" not in page.url


async def test_the_page_can_take_back_what_it_asked_for(browser: Browser, octopus: Octopus, qingshan: Shop) -> None:
    page = await open_page(browser, octopus, "/shop/qingshan/", DESKTOP)
    await page.get_by_test_id("launcher").wait_for()
    await page.evaluate("octopus.push('open')")
    await expect(page.get_by_test_id("panel")).to_be_visible()
    await page.evaluate("octopus.push('close')")
    await expect(page.get_by_test_id("panel")).to_be_hidden()
    await page.evaluate("octopus.push('open', 'close')")
    await expect(page.get_by_test_id("launcher")).to_be_visible()


async def test_a_panel_that_cannot_be_loaded_says_so_and_the_next_press_tries_again(
    browser: Browser, octopus: Octopus, qingshan: Shop
) -> None:
    context = await new_context(browser, DESKTOP)
    await context.route("**/assets/chat-*.js", lambda route: route.abort())
    page = await visit(context, octopus, "/shop/qingshan/")
    await page.get_by_test_id("launcher").click()
    await expect(page.get_by_role("alert")).to_contain_text("没有加载出来", timeout=SLOW_MS)
    await context.unroute("**/assets/chat-*.js")
    await page.get_by_test_id("launcher").click()
    await expect(page.get_by_test_id("panel")).to_be_visible(timeout=SLOW_MS)


async def test_a_shop_of_another_origin_with_a_strict_policy_embeds_the_widget(
    browser: Browser, octopus: Octopus, qingshan: Shop
) -> None:
    platform = f"https://{octopus.edge.address}"
    context = await new_context(browser, DESKTOP)
    html = (
        "<!doctype html><html lang='zh-CN'><title>Shop</title>"
        f"<script type='module' async src='{platform}/octopus-chat.js'></script>"
        "<octopus-chat tenant='qingshan' open></octopus-chat>"
    )
    policy = f"default-src 'none'; script-src {platform}; connect-src {platform} wss://{octopus.edge.address}"
    await context.route(
        "https://shop.example/",
        lambda route: route.fulfill(body=html, content_type="text/html", headers={"Content-Security-Policy": policy}),
    )
    page = await context.new_page()
    await page.goto("https://shop.example/")
    await expect(page.get_by_test_id("panel")).to_have_css("position", "fixed", timeout=SLOW_MS)
    await page.get_by_test_id("suggestion").first.click()
    await expect(page.locator("[data-kind=bot]").first).to_be_visible(timeout=SLOW_MS)
