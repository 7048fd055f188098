"""A member of staff's own account: another password, out of everywhere, and what a disabled one is told."""

from __future__ import annotations

import grpc
import pytest
from octopus.user.v1 import user_service_pb2, user_service_pb2_grpc
from playwright.async_api import Browser, Page, expect

from e2e.people import Shop
from e2e.running import Octopus
from e2e.web.visit import DESKTOP, SLOW_MS, log_in_as, open_page, password_of

pytestmark = pytest.mark.e2e

# Not those of the other tests: their tokens are taken back here.
LOGIN = "xiaoxing"
SMALL_PHONE = {"width": 360, "height": 640}
NEW_PASSWORD = "a new password, and long enough"


@pytest.fixture
async def xinghe(octopus: Octopus, channel: grpc.aio.Channel) -> Shop:
    return Shop("xinghe", octopus.logins()["xinghe"], octopus.edge, channel)


async def logged_in(browser: Browser, octopus: Octopus, shop: Shop, password: str, locale: str = "zh-CN") -> Page:
    page = await open_page(browser, octopus, "/agent/", DESKTOP, locale)
    await log_in_as(page, shop, LOGIN, password)
    return page


async def change_password(page: Page, before: str, after: str, again: str) -> None:
    await page.get_by_test_id("password-before").fill(before)
    await page.get_by_test_id("password-after").fill(after)
    await page.get_by_test_id("password-again").fill(again)
    await page.get_by_test_id("password-submit").click()


async def test_an_agent_changes_their_password_and_other_browsers_are_logged_out(
    browser: Browser, octopus: Octopus, xinghe: Shop
) -> None:
    old = password_of(xinghe, LOGIN)
    here = await logged_in(browser, octopus, xinghe, old)
    there = await logged_in(browser, octopus, xinghe, old)
    await here.get_by_test_id("account").click()
    for before, after, again, problem in (
        (old, "short", "short", "太短"),
        (old, NEW_PASSWORD, NEW_PASSWORD + "!", "不一样"),
        (old, old, old, "请换一个"),
        ("not the password", NEW_PASSWORD, NEW_PASSWORD, "不正确"),
    ):
        await change_password(here, before, after, again)
        await expect(here.get_by_test_id("password-problem")).to_contain_text(problem, timeout=SLOW_MS)
    await change_password(here, old, NEW_PASSWORD, NEW_PASSWORD)
    await expect(here.get_by_test_id("password-changed")).to_be_visible(timeout=SLOW_MS)
    try:
        await expect(there.get_by_test_id("login-error")).to_contain_text("密码已修改", timeout=SLOW_MS)
        # This browser goes on, on a stream with its new tokens.
        await here.get_by_test_id("account-close").click()
        await expect(here.get_by_test_id("connection-banner")).to_be_hidden(timeout=SLOW_MS)
        await here.get_by_test_id("status-select").select_option("busy")
        await expect(here.get_by_test_id("notice")).to_be_hidden()
        await here.reload()
        await expect(here.get_by_test_id("status-select")).to_have_value("busy", timeout=SLOW_MS)
    finally:
        await here.get_by_test_id("account").click()
        await change_password(here, NEW_PASSWORD, old, old)
        await expect(here.get_by_test_id("password-changed")).to_be_visible(timeout=SLOW_MS)


async def test_an_agent_logs_out_everywhere(browser: Browser, octopus: Octopus, xinghe: Shop) -> None:
    password = password_of(xinghe, LOGIN)
    here = await logged_in(browser, octopus, xinghe, password)
    there = await logged_in(browser, octopus, xinghe, password)
    await here.get_by_test_id("account").click()
    await here.get_by_test_id("log-out-everywhere").click()
    await expect(here.get_by_test_id("login-form")).to_be_visible(timeout=SLOW_MS)
    await expect(here.get_by_test_id("login-error")).to_be_hidden()
    await expect(there.get_by_test_id("login-error")).to_contain_text("所有设备", timeout=SLOW_MS)


async def test_an_agent_who_is_disabled_is_told_so_at_once_and_at_the_next_log_in(
    browser: Browser, octopus: Octopus, xinghe: Shop, channel: grpc.aio.Channel
) -> None:
    page = await logged_in(browser, octopus, xinghe, password_of(xinghe, LOGIN))
    admin = await xinghe.staff("admin")
    users = user_service_pb2_grpc.UserServiceStub(channel)
    user_id = int(await page.evaluate("JSON.parse(localStorage['octopus:agent']).userId"))
    await users.UpdateUser(user_service_pb2.UpdateUserRequest(user_id=user_id, disabled=True), metadata=admin.metadata)
    try:
        await expect(page.get_by_test_id("login-error")).to_contain_text("管理员停用", timeout=SLOW_MS)
        await page.get_by_test_id("login-name").fill(LOGIN)
        await page.get_by_test_id("login-password").fill(password_of(xinghe, LOGIN))
        await page.get_by_test_id("login-submit").click()
        await expect(page.get_by_test_id("login-error")).to_contain_text("停用", timeout=SLOW_MS)
    finally:
        await users.UpdateUser(
            user_service_pb2.UpdateUserRequest(user_id=user_id, disabled=False), metadata=admin.metadata
        )


@pytest.mark.parametrize("locale", ["zh-CN", "en-GB"])
async def test_an_agent_reaches_every_button_of_the_bar_on_a_small_phone(
    browser: Browser, octopus: Octopus, xinghe: Shop, locale: str
) -> None:
    page = await open_page(browser, octopus, "/agent/", SMALL_PHONE, locale)
    await log_in_as(page, xinghe, LOGIN, password_of(xinghe, LOGIN))
    for button in ("status-select", "language", "account", "log-out"):
        await expect(page.get_by_test_id(button)).to_be_in_viewport(ratio=1, timeout=SLOW_MS)
