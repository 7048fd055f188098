"""What somebody is writing is never lost, and never kept longer than it should be."""

from __future__ import annotations

import pytest
from playwright.async_api import Browser, Page, expect

from e2e.people import Shop
from e2e.running import Octopus
from e2e.web.visit import DESKTOP, SLOW_MS, meet, open_chat, open_page

pytestmark = pytest.mark.e2e

STORED = "JSON.stringify({...sessionStorage, ...localStorage})"


async def end_as_agent(agent: Page) -> None:
    await agent.get_by_test_id("end-session").click()
    await agent.get_by_test_id("end-confirm").click()


async def test_who_is_writing_when_the_agent_ends_the_chat_goes_on_in_a_new_one(
    browser: Browser, octopus: Octopus, qingshan: Shop
) -> None:
    shopper, agent = await meet(browser, octopus, qingshan)
    await shopper.get_by_test_id("input").fill("还有一个问题：")
    await end_as_agent(agent)
    await expect(shopper.get_by_test_id("draft-kept")).to_be_visible(timeout=SLOW_MS)
    await expect(shopper.get_by_test_id("input")).to_be_focused()
    await shopper.keyboard.type("怎么退换货？")
    await expect(shopper.get_by_test_id("input")).to_have_value("还有一个问题：怎么退换货？")

    # It also survives a reload here.
    await shopper.reload()
    await shopper.get_by_test_id("launcher").click()
    await expect(shopper.get_by_test_id("start-again")).to_be_visible(timeout=SLOW_MS)
    await expect(shopper.get_by_test_id("input")).to_have_value("还有一个问题：怎么退换货？")
    await shopper.get_by_test_id("send").click()
    await expect(shopper.locator("[data-kind=customer]")).to_contain_text("还有一个问题：怎么退换货？", timeout=SLOW_MS)
    await expect(shopper.locator("[data-kind=bot]").first).to_be_visible(timeout=SLOW_MS)
    assert "还有一个问题" not in await shopper.evaluate(STORED), "what was sent is no draft any more"


async def test_a_message_that_met_the_end_of_the_chat_can_be_sent_in_a_new_one(
    browser: Browser, octopus: Octopus, qingshan: Shop
) -> None:
    shopper, agent = await meet(browser, octopus, qingshan)
    await shopper.context.set_offline(True)
    await shopper.get_by_test_id("input").fill("正要结束时说的话")
    await shopper.keyboard.press("Enter")
    await end_as_agent(agent)
    await expect(agent.get_by_test_id("agent-input")).to_be_hidden(timeout=SLOW_MS)
    await shopper.context.set_offline(False)
    await expect(shopper.locator("[data-state=failed]")).to_have_count(1, timeout=SLOW_MS)
    await shopper.get_by_test_id("resend").click()
    await expect(shopper.locator("[data-kind=customer]").last).to_contain_text("正要结束时说的话", timeout=SLOW_MS)
    # The new chat goes to the agent who had the one before.
    await expect(agent.get_by_test_id("accept")).to_be_visible(timeout=SLOW_MS)
    await expect(shopper.locator("[data-state=failed]")).to_have_count(0)


async def test_the_shoppers_draft_survives_a_closed_panel_a_reload_and_a_log_in_but_no_log_out(
    browser: Browser, octopus: Octopus, qingshan: Shop
) -> None:
    page = await open_page(browser, octopus, "/shop/qingshan/", DESKTOP)
    await open_chat(page)
    box = page.get_by_test_id("input")
    await box.fill("写了一半")
    await page.keyboard.press("Escape")
    await open_chat(page)
    await expect(box).to_have_value("写了一半")
    await page.reload()
    await open_chat(page)
    await expect(box).to_have_value("写了一半")

    await page.get_by_test_id("identity").click()
    await expect(page.get_by_test_id("who")).to_contain_text("王小明", timeout=SLOW_MS)
    await expect(box).to_have_value("写了一半", timeout=SLOW_MS)
    await page.get_by_test_id("identity").click()
    await expect(box).to_have_value("", timeout=SLOW_MS)
    assert "写了一半" not in await page.evaluate(STORED)


async def test_the_agents_page_opens_the_same_conversation_with_its_draft_after_a_reload(
    browser: Browser, octopus: Octopus, qingshan: Shop
) -> None:
    _, agent = await meet(browser, octopus, qingshan)
    await agent.get_by_test_id("agent-input").fill("您好，我查一下")
    await agent.reload()
    await expect(agent.get_by_test_id("agent-input")).to_have_value("您好，我查一下", timeout=SLOW_MS)
    await expect(agent.get_by_test_id("inbox-item").first).to_have_attribute("aria-current", "true")

    await agent.get_by_test_id("agent-send").click()
    await expect(agent.locator("[data-kind=agent]").last).to_contain_text("我查一下")
    assert "我查一下" not in await agent.evaluate(STORED)

    await agent.get_by_test_id("agent-input").fill("再等一下")
    await agent.get_by_test_id("log-out").click()
    await expect(agent.get_by_test_id("login-form")).to_be_visible(timeout=SLOW_MS)
    assert "再等一下" not in await agent.evaluate(STORED)


async def test_the_agents_words_stay_when_the_customer_ends_the_chat(
    browser: Browser, octopus: Octopus, qingshan: Shop
) -> None:
    shopper, agent = await meet(browser, octopus, qingshan)
    await agent.get_by_test_id("agent-input").fill("您的订单已经")
    await shopper.get_by_test_id("end-session").click()
    await shopper.get_by_test_id("end-confirm").click()
    await expect(agent.get_by_test_id("unsent")).to_contain_text("您的订单已经", timeout=SLOW_MS)
    await agent.reload()
    await expect(agent.get_by_test_id("unsent")).to_contain_text("您的订单已经", timeout=SLOW_MS)
    await agent.get_by_test_id("discard").click()
    await expect(agent.get_by_test_id("unsent")).to_be_hidden()
    assert "您的订单已经" not in await agent.evaluate(STORED)


async def test_the_chat_that_ended_last_stays_readable(browser: Browser, octopus: Octopus, qingshan: Shop) -> None:
    shopper, agent = await meet(browser, octopus, qingshan)
    await agent.get_by_test_id("agent-input").fill("七天内都可以退。")
    await agent.keyboard.press("Enter")
    await expect(shopper.locator("[data-kind=agent]").first).to_contain_text("七天内", timeout=SLOW_MS)
    await end_as_agent(agent)
    await expect(shopper.get_by_test_id("start-again")).to_be_visible(timeout=SLOW_MS)

    await shopper.reload()
    await shopper.get_by_test_id("launcher").click()
    await expect(shopper.locator("[data-kind=agent]").first).to_contain_text("七天内", timeout=SLOW_MS)
    await expect(shopper.get_by_test_id("start-again")).to_be_visible()
    await shopper.get_by_test_id("start-again").click()
    await expect(shopper.get_by_test_id("suggestion").first).to_be_visible()
    await expect(shopper.locator("[data-kind=agent]")).to_have_count(0)

    await agent.reload()
    await expect(agent.get_by_test_id("conversation")).to_contain_text("七天内", timeout=SLOW_MS)


async def test_the_chat_that_ended_last_is_there_after_a_log_in_on_another_device(
    browser: Browser, octopus: Octopus, qingshan: Shop
) -> None:
    telephone = await qingshan.customer("王小明", "wang-xiaoming")
    session = await qingshan.open_session(telephone)
    said = f"在手机上问过的 {session.id}"
    async with qingshan.present(telephone) as participant:
        await participant.say(session.id, said)
    await qingshan.end(telephone, session.id)

    desktop = await open_page(browser, octopus, "/shop/qingshan/", DESKTOP)
    await desktop.get_by_test_id("identity").click()
    await expect(desktop.get_by_test_id("who")).to_contain_text("王小明", timeout=SLOW_MS)
    await desktop.get_by_test_id("launcher").click()
    await expect(desktop.locator("[data-kind=customer]").last).to_contain_text(said, timeout=SLOW_MS)
    await desktop.get_by_test_id("start-again").click()
    await expect(desktop.get_by_test_id("suggestion").first).to_be_visible()
