"""A text that a shop does not allow comes back to the box it was written in, with the reason."""

from __future__ import annotations

import pytest
from playwright.async_api import Browser, Page, expect

from e2e.people import Shop
from e2e.running import Octopus
from e2e.web.visit import DESKTOP, PHONE, SLOW_MS, accept, ask_for_a_person, log_in, open_chat, open_page

pytestmark = pytest.mark.e2e

# Blocked by default, as a trade in weapons; the signs are ignored.
REFUSED = "你们 出*售*炸*药 吗"


async def comes_back(page: Page, box: str, reason: str) -> None:
    await page.get_by_test_id(box).fill(REFUSED)
    await page.keyboard.press("Enter")
    await expect(page.get_by_test_id("returned")).to_have_text(reason, timeout=SLOW_MS)
    await expect(page.get_by_test_id(box)).to_have_value(REFUSED, timeout=SLOW_MS)
    await expect(page.get_by_test_id("message").filter(has_text="出*售")).to_have_count(0, timeout=SLOW_MS)
    await page.get_by_test_id(box).fill(f"你们好 {box}")
    await page.keyboard.press("Enter")
    await expect(page.get_by_test_id("returned")).to_have_count(0, timeout=SLOW_MS)
    message = page.get_by_test_id("message").filter(has_text=f"你们好 {box}")
    await expect(message).not_to_have_attribute("data-state", "sending", timeout=SLOW_MS)
    await expect(message).not_to_have_attribute("data-state", "failed", timeout=SLOW_MS)
    await page.get_by_test_id(box).fill(REFUSED)
    await page.keyboard.press("Enter")
    await expect(page.get_by_test_id("returned")).to_be_visible(timeout=SLOW_MS)


async def test_both_sides_get_a_refused_text_back_and_read_why(
    browser: Browser, octopus: Octopus, qingshan: Shop
) -> None:
    shopper = await open_page(browser, octopus, f"/shop/{qingshan.tenant_id}/", PHONE)
    await open_chat(shopper)
    await ask_for_a_person(shopper)
    agent = await open_page(browser, octopus, "/agent/", DESKTOP, "en-GB")
    await log_in(agent, qingshan, qingshan.agents[0])
    await accept(agent)
    await comes_back(shopper, "input", "没有发出去：里面有店铺不允许的词，请修改后再发")
    await comes_back(
        agent, "agent-input", "Not sent: it has a word that the shop does not allow. Please change it and send again"
    )
