"""An agent's page is closed and opened again: the way back is one click, and colleagues see who is there."""

from __future__ import annotations

import pytest
from playwright.async_api import Browser, expect

from e2e.people import Shop
from e2e.running import Octopus
from e2e.test_absence import AWAY_AFTER_S, NOTICED_WITHIN_S, impatient
from e2e.web.visit import DESKTOP, PHONE, SLOW_MS, ask_for_a_person, log_in, new_context, open_chat, open_page, visit

pytestmark = pytest.mark.e2e


async def test_an_agent_whose_page_was_closed_sees_why_she_is_away_and_returns_with_one_click(
    browser: Browser, octopus: Octopus, qingshan: Shop
) -> None:
    colleague = await open_page(browser, octopus, "/agent/", DESKTOP)
    await log_in(colleague, qingshan, qingshan.agents[1])
    shopper = await open_page(browser, octopus, "/shop/qingshan/", PHONE)
    async with impatient(qingshan):
        context = await new_context(browser, DESKTOP)
        agent = await visit(context, octopus, "/agent/")
        await log_in(agent, qingshan, qingshan.agents[0])
        await agent.get_by_test_id("status-select").select_option("available")
        await open_chat(shopper)
        await ask_for_a_person(shopper)
        await expect(agent.get_by_test_id("offer-countdown")).to_contain_text("还剩", timeout=SLOW_MS)
        await agent.close()

        colleagues = colleague.get_by_test_id("colleague")
        await colleague.get_by_test_id("colleagues").click()
        gone_within_ms = (AWAY_AFTER_S + NOTICED_WITHIN_S) * 1000
        await expect(colleagues.filter(has_text="不在线").first).to_be_visible(timeout=gone_within_ms)
        # Nobody else is on duty, so the shopper waits again and is told.
        await expect(shopper.get_by_test_id("queue-position")).to_contain_text("下一位", timeout=gone_within_ms)

        again = await visit(context, octopus, "/agent/")
        await expect(again.get_by_test_id("away-banner")).to_contain_text("断开了一段时间", timeout=SLOW_MS)
        await again.get_by_test_id("come-back").click()
        await expect(again.get_by_test_id("status-select")).to_have_value("available", timeout=SLOW_MS)
        await expect(again.get_by_test_id("away-banner")).to_be_hidden()
        await expect(again.get_by_test_id("accept")).to_be_visible(timeout=SLOW_MS)
        await expect(colleague.locator("[data-testid=colleague][data-online=true]").first).to_be_visible(
            timeout=SLOW_MS
        )
