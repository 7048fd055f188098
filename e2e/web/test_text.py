"""How what people write is shown: links, writing directions, and where it is cut."""

from __future__ import annotations

import pytest
from playwright.async_api import Browser, expect

from e2e.people import Shop
from e2e.running import Octopus
from e2e.web.visit import SLOW_MS, meet

pytestmark = pytest.mark.e2e

FAMILY = "👩‍👩‍👧‍👦"


async def test_text_is_linked_directed_and_cut_as_its_reader_expects(
    browser: Browser, octopus: Octopus, qingshan: Shop
) -> None:
    shopper, agent = await meet(browser, octopus, qingshan)
    for page, box, other in ((shopper, "input", agent), (agent, "agent-input", shopper)):
        await page.get_by_test_id(box).fill("（请看 https://qingshan.example/help_(returns)）。")
        await page.keyboard.press("Enter")
        for seen_by in (page, other):
            link = seen_by.get_by_role("link", name="https://qingshan.example/help_(returns)", exact=True).last
            await expect(link).to_have_attribute("href", "https://qingshan.example/help_(returns)", timeout=SLOW_MS)

    await shopper.get_by_test_id("input").fill("مرحبا، أين طلبي؟")
    await expect(shopper.get_by_test_id("input")).to_have_css("direction", "rtl")
    await shopper.keyboard.press("Enter")
    for page in (shopper, agent):
        await expect(page.get_by_test_id("message").get_by_text("مرحبا")).to_have_css(
            "direction", "rtl", timeout=SLOW_MS
        )
    await agent.get_by_test_id("agent-input").fill("שלום")
    await expect(agent.get_by_test_id("agent-input")).to_have_css("direction", "rtl")

    await shopper.get_by_test_id("input").fill(FAMILY * 130)
    await shopper.keyboard.press("Enter")
    item = agent.get_by_test_id("inbox-item").first
    await expect(item.locator(".preview")).to_have_text(FAMILY * 120 + "…", timeout=SLOW_MS)
