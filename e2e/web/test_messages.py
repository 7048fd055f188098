"""What people do with messages on both pages: quote, recall, edit, emoji, and notes that the shopper is never sent."""

from __future__ import annotations

import secrets
from pathlib import Path

import pytest
from playwright.async_api import Browser, Page, Response, WebSocket, expect

from e2e.people import Shop
from e2e.running import Octopus
from e2e.web.accessibility import check
from e2e.web.visit import PHONE, SLOW_MS, meet

pytestmark = pytest.mark.e2e


def record(page: Page, received: list[bytes]) -> None:
    """Keep everything that a page gets from the platform from now on."""

    def frame(payload: bytes | str) -> None:
        received.append(payload.encode() if isinstance(payload, str) else payload)

    async def response(answer: Response) -> None:
        if "octopus." in answer.url:
            received.append(await answer.body())

    def socket(opened: WebSocket) -> None:
        opened.on("framereceived", frame)

    page.on("websocket", socket)
    page.on("response", response)


async def say(page: Page, box: str, words: str) -> None:
    await page.get_by_test_id(box).fill(words)
    await page.keyboard.press("Enter")


async def choose(page: Page, words: str, action: str) -> None:
    """Choose something from the menu of a message."""
    row = page.get_by_test_id("message").filter(has_text=words).last
    await row.hover()
    await row.get_by_test_id("message-menu").click()
    await row.get_by_test_id(f"menu-{action}").click()


async def test_messages_are_quoted_edited_and_recalled_on_both_pages(
    browser: Browser, octopus: Octopus, qingshan: Shop, artifacts: Path
) -> None:
    shopper, agent = await meet(browser, octopus, qingshan)

    await shopper.get_by_test_id("emoji-button").click()
    await shopper.get_by_test_id("emoji").get_by_role("button").first.click()
    await expect(shopper.get_by_test_id("input")).to_have_value("😀")
    await say(shopper, "input", "有没有大一码？😀")
    await say(shopper, "input", "我的密码是 1234")
    await expect(agent.get_by_test_id("conversation")).to_contain_text("我的密码是 1234", timeout=SLOW_MS)

    # The agent quotes by mouse, then corrects the answer.
    await choose(agent, "有没有大一码？", "quote")
    await expect(agent.get_by_test_id("about")).to_contain_text("有没有大一码？😀")
    await say(agent, "agent-input", "只有 S 码")
    answer = shopper.locator("[data-kind=agent]").filter(has_text="码")
    await expect(answer.get_by_test_id("quoted")).to_contain_text("有没有大一码？😀", timeout=SLOW_MS)
    await expect(agent.locator("[data-kind=agent][data-state=read]").first).to_be_visible(timeout=SLOW_MS)
    await choose(agent, "只有 S 码", "edit")
    await expect(agent.get_by_test_id("agent-input")).to_have_value("只有 S 码")
    await say(agent, "agent-input", "有 XL 码")
    await expect(answer).to_contain_text("有 XL 码", timeout=SLOW_MS)
    await expect(answer).to_contain_text("已编辑")
    await expect(shopper.get_by_test_id("panel")).not_to_contain_text("只有 S 码")

    # The shopper takes back what was not meant for others, by keyboard.
    mine = shopper.get_by_test_id("message").filter(has_text="1234")
    await mine.get_by_test_id("message-menu").focus()
    await shopper.keyboard.press("Enter")
    await expect(mine.get_by_test_id("menu-quote")).to_be_focused()
    await check(shopper, "menu of a message")
    await shopper.screenshot(path=artifacts / "shopper-menu.png")
    await shopper.keyboard.press("ArrowDown")
    await shopper.keyboard.press("Enter")
    for page in (shopper, agent):
        await expect(page.locator("[data-kind=recalled]")).to_be_visible(timeout=SLOW_MS)
        await expect(page.locator("body")).not_to_contain_text("1234")
    await shopper.screenshot(path=artifacts / "shopper-messages.png")
    await agent.screenshot(path=artifacts / "agent-messages.png")

    # It is so after a reload too, and on a telephone.
    await agent.set_viewport_size({"width": PHONE["width"], "height": PHONE["height"]})
    await agent.reload()
    await expect(agent.locator("[data-kind=recalled]")).to_be_visible(timeout=SLOW_MS)
    await expect(agent.get_by_test_id("conversation")).to_contain_text("有 XL 码")
    await expect(agent.locator("body")).not_to_contain_text("1234")
    await check(agent, "conversation with quotes and recalls")
    await agent.screenshot(path=artifacts / "agent-messages-phone.png")


async def test_a_note_is_seen_by_the_agent_and_never_sent_to_the_shopper(
    browser: Browser, octopus: Octopus, qingshan: Shop, artifacts: Path
) -> None:
    shopper, agent = await meet(browser, octopus, qingshan)
    received: list[bytes] = []
    record(shopper, received)
    # From here on over a connection that is recorded from its beginning.
    await shopper.reload()
    await shopper.get_by_test_id("launcher").click()
    secret = f"note-{secrets.token_hex(8)}"

    await agent.get_by_test_id("agent-input").fill("写了一半的回复")
    await agent.get_by_test_id("mode-note").click()
    await expect(agent.get_by_test_id("agent-input")).to_have_value("")
    await say(agent, "agent-input", secret)
    note = agent.locator("[data-kind=note]")
    await expect(note).to_contain_text(secret, timeout=SLOW_MS)
    await expect(note.locator(".state")).to_have_text("仅同事可见", timeout=SLOW_MS)
    await check(agent, "a note")
    await agent.screenshot(path=artifacts / "agent-note.png")
    await agent.get_by_test_id("mode-reply").click()
    await expect(agent.get_by_test_id("agent-input")).to_have_value("写了一半的回复")
    await say(agent, "agent-input", "您好，稍等")
    await expect(shopper.get_by_test_id("panel")).to_contain_text("您好，稍等", timeout=SLOW_MS)

    # Once more from the log, and once ended from the history.
    await shopper.reload()
    await shopper.get_by_test_id("launcher").click()
    await expect(shopper.get_by_test_id("panel")).to_contain_text("您好，稍等", timeout=SLOW_MS)
    await agent.get_by_test_id("end-session").click()
    await agent.get_by_test_id("end-confirm").click()
    await expect(shopper.get_by_test_id("start-again")).to_be_visible(timeout=SLOW_MS)
    await shopper.reload()
    await shopper.get_by_test_id("launcher").click()
    await expect(shopper.get_by_test_id("panel")).to_contain_text("您好，稍等", timeout=SLOW_MS)
    await expect(shopper.locator("body")).not_to_contain_text(secret)
    said = "您好，稍等".encode()
    assert sum(said in each for each in received) >= 3, "live, from the log and from the history"
    assert not [each for each in received if secret.encode() in each]
    await agent.reload()
    await expect(agent.locator("[data-kind=note]")).to_contain_text(secret, timeout=SLOW_MS)
