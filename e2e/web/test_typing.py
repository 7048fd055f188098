"""What is typed in the widget stays there, whatever the shop's page does with keys."""

from __future__ import annotations

import pytest
from playwright.async_api import Browser, Page, expect

from e2e.people import Shop
from e2e.running import Octopus
from e2e.web.visit import DESKTOP, SLOW_MS, new_context, open_chat, open_page, visit

pytestmark = pytest.mark.e2e

WORDS = "ships/sizes? a+b 你好"

# A page that takes every key it sees outside text fields, and notes what it sees of the widget.
GREEDY = """
window.seen = [];
const types = ["keydown", "keypress", "keyup", "beforeinput", "input", "paste", "cut", "copy",
               "compositionstart", "compositionupdate", "compositionend"];
for (const type of types) {
  %s.addEventListener(type, (event) => {
    if (event.target.tagName !== "OCTOPUS-CHAT") return;
    window.seen.push(type);
    if (event.key === "/") document.getElementById("search").focus();
    if (type !== "input") event.preventDefault();
  }, %s);
}
"""


async def greedy_page(browser: Browser, octopus: Octopus, target: str, capture: str) -> Page:
    context = await new_context(browser, DESKTOP)
    await context.add_init_script(GREEDY % (target, capture))
    page = await visit(context, octopus, "/shop/qingshan/")
    await open_chat(page)
    return page


async def test_the_shop_has_shortcuts_and_the_widget_gets_every_letter(
    browser: Browser, octopus: Octopus, qingshan: Shop
) -> None:
    page = await open_page(browser, octopus, "/shop/qingshan/", DESKTOP)
    await page.keyboard.press("/")
    await expect(page.get_by_test_id("search")).to_be_focused()
    await page.get_by_test_id("search").blur()
    await page.keyboard.press("?")
    await expect(page.get_by_test_id("shortcuts")).to_be_visible()

    await open_chat(page)
    await page.keyboard.type(WORDS)
    await expect(page.get_by_test_id("input")).to_have_value(WORDS)
    await expect(page.get_by_test_id("shortcuts")).to_be_visible()
    await page.keyboard.press("Enter")
    await expect(page.locator("[data-kind=customer]").first).to_contain_text(WORDS, timeout=SLOW_MS)

    await page.keyboard.press("Escape")
    await expect(page.get_by_test_id("launcher")).to_be_focused()
    await page.get_by_test_id("launcher").blur()
    await page.keyboard.press("?")
    await expect(page.get_by_test_id("shortcuts")).to_be_hidden()


@pytest.mark.parametrize("capture", ["false", "true"], ids=["bubbling", "capturing"])
async def test_no_event_of_typing_reaches_a_listener_of_the_page(
    browser: Browser, octopus: Octopus, qingshan: Shop, capture: str
) -> None:
    page = await greedy_page(browser, octopus, "document", capture)
    box = page.get_by_test_id("input")
    await page.keyboard.type("ships/sizes?")
    await page.keyboard.press("Backspace")
    await page.keyboard.press("Shift+Enter")
    await expect(box).to_have_value("ships/sizes\n")

    # A method of input: letters are composed, then a candidate is taken.
    devtools = await page.context.new_cdp_session(page)
    await devtools.send("Input.imeSetComposition", {"text": "nihao", "selectionStart": 5, "selectionEnd": 5})
    await expect(box).to_have_value("ships/sizes\nnihao")
    await devtools.send("Input.insertText", {"text": "你好"})
    await expect(box).to_have_value("ships/sizes\n你好")

    await page.keyboard.press("Control+a")
    await page.keyboard.press("Control+x")
    await expect(box).to_have_value("")
    await page.keyboard.press("Control+v")
    await page.keyboard.press("Control+v")
    await expect(box).to_have_value("ships/sizes\n你好ships/sizes\n你好")
    await page.keyboard.press("Control+z")
    await expect(box).to_have_value("ships/sizes\n你好")

    assert await page.evaluate("window.seen") == []
    await page.keyboard.press("Escape")
    await expect(page.get_by_test_id("launcher")).to_be_visible()
    assert await page.evaluate("window.seen") == []


async def test_a_listener_that_was_on_the_window_first_takes_no_letter_away(
    browser: Browser, octopus: Octopus, qingshan: Shop
) -> None:
    page = await greedy_page(browser, octopus, "window", "true")
    box = page.get_by_test_id("input")
    await page.keyboard.type("ships/sizes?")
    await page.keyboard.press("Backspace")
    await expect(box).to_have_value("ships/sizes")
    await expect(box).to_be_focused()
    assert "keydown" in await page.evaluate("window.seen"), "the page did see the keys"


async def test_a_page_that_asks_before_it_takes_a_key_sees_a_text_field(
    browser: Browser, octopus: Octopus, qingshan: Shop
) -> None:
    page = await open_page(browser, octopus, "/shop/qingshan/", DESKTOP)
    asked = "document.querySelector('octopus-chat').isContentEditable"
    assert await page.evaluate(asked) is False
    await open_chat(page)
    await expect(page.get_by_test_id("input")).to_be_focused()
    assert await page.evaluate(asked) is True
    await page.get_by_test_id("close").focus()
    assert await page.evaluate(asked) is False
