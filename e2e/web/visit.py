"""How tests visit the pages: as a new person in a browser of their own."""

from __future__ import annotations

from typing import Literal

from playwright.async_api import Browser, BrowserContext, Page, expect

from e2e.people import Shop
from e2e.running import Octopus

PHONE = {"width": 390, "height": 844}
DESKTOP = {"width": 1280, "height": 800}
SLOW_MS = 20_000


async def new_context(browser: Browser, size: dict[str, int], locale: str = "zh-CN") -> BrowserContext:
    """Return a browser that nobody has used yet."""
    context = await browser.new_context(
        ignore_https_errors=True,
        viewport={"width": size["width"], "height": size["height"]},
        locale=locale,
    )
    context.set_default_timeout(SLOW_MS)
    return context


async def open_page(browser: Browser, octopus: Octopus, path: str, size: dict[str, int], locale: str = "zh-CN") -> Page:
    """Open a page of the platform as a new person would; a script error on it fails the test."""
    return await visit(await new_context(browser, size, locale), octopus, path)


async def visit(
    context: BrowserContext, octopus: Octopus, path: str, wait_until: Literal["commit", "load"] = "load"
) -> Page:
    """Open a page of the platform in a browser; a script error on it fails the test."""
    page = await context.new_page()

    def fail(error: Exception) -> None:
        raise AssertionError(f"script error on {path}: {error}")

    page.on("pageerror", fail)
    await page.goto(f"https://{octopus.edge.address}{path}", wait_until=wait_until)
    return page


async def log_in(page: Page, shop: Shop, login: str) -> None:
    """Log an agent in at the agents' page."""
    await log_in_as(page, shop, login, password_of(shop, login))


async def log_in_as(page: Page, shop: Shop, login: str, password: str) -> None:
    """Log in with a password."""
    await page.get_by_test_id("login-tenant").fill(shop.tenant_id)
    await page.get_by_test_id("login-name").fill(login)
    await page.get_by_test_id("login-password").fill(password)
    await page.get_by_test_id("login-submit").click()
    await page.get_by_test_id("status-select").wait_for()


def password_of(shop: Shop, login: str) -> str:
    """Return the password of a member of staff in the demo data."""
    return str(next(person["password"] for person in shop.logins["staff"] if person["login"] == login))


async def open_chat(page: Page) -> None:
    """Open the chat by its launcher, and wait until one can write."""
    await page.get_by_test_id("launcher").click()
    await expect(page.get_by_test_id("input")).to_be_focused(timeout=SLOW_MS)


async def ask_for_a_person(page: Page) -> None:
    """Press the button that asks for a person, and wait until that is on its way."""
    await page.get_by_test_id("handoff").click()
    await expect(page.get_by_test_id("queue-position")).to_be_visible(timeout=SLOW_MS)


async def accept(agent: Page) -> None:
    """Become available and accept the offer."""
    await agent.get_by_test_id("status-select").select_option("available")
    await agent.get_by_test_id("accept").first.click()
    await expect(agent.get_by_test_id("agent-input")).to_be_visible(timeout=SLOW_MS)


async def meet(browser: Browser, octopus: Octopus, shop: Shop) -> tuple[Page, Page]:
    """Return a shopper's page and an agent's, in conversation."""
    shopper = await open_page(browser, octopus, f"/shop/{shop.tenant_id}/", PHONE)
    await open_chat(shopper)
    await ask_for_a_person(shopper)
    agent = await open_page(browser, octopus, "/agent/", DESKTOP)
    await log_in(agent, shop, shop.agents[0])
    await accept(agent)
    return shopper, agent
