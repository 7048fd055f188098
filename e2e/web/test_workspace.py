"""What an agent works with: the inbox by who waits longest, picking from the queue, canned replies and the palette."""

from __future__ import annotations

import re
import secrets
import time
from pathlib import Path

import pytest
from octopus.knowledge.v1 import canned_reply_pb2
from octopus.knowledge.v1.canned_reply_service_pb2 import CreateCannedReplyRequest, ListCannedRepliesRequest
from octopus.knowledge.v1.canned_reply_service_pb2_grpc import CannedReplyServiceStub
from octopus.options.v1 import options_pb2
from octopus.session.v1 import session_pb2
from octopus.user.v1 import user_pb2
from octopus.user.v1.user_service_pb2 import CreateUserRequest
from octopus.user.v1.user_service_pb2_grpc import UserServiceStub
from playwright.async_api import Browser, Page, Route, expect

from e2e.clients.participant import Participant
from e2e.people import Shop
from e2e.running import Octopus
from e2e.web.accessibility import check
from e2e.web.visit import DESKTOP, PHONE, SLOW_MS, accept, log_in, log_in_as, new_context, open_page, visit

pytestmark = pytest.mark.e2e

WIDE = {"width": 1440, "height": 900}


async def waiting(shop: Shop, customer: Participant, question: str) -> int:
    """Let a customer ask a question and for a person; return the session."""
    session = await shop.open_session(customer.identity)
    await customer.say(session.id, question)
    await shop.ask_for_a_person(customer.identity, session.id)
    return int(session.id)


def item(session_id: int) -> str:
    return f"[data-testid=inbox-item][data-session='{session_id}']"


async def order(agent: Page) -> list[str]:
    """Return the sessions of the agent's list from top to bottom."""
    items = await agent.get_by_test_id("inbox-item").all()
    return [await one.get_attribute("data-session") or "" for one in items]


async def test_who_has_waited_longest_for_an_answer_stands_first(
    browser: Browser, octopus: Octopus, qingshan: Shop, artifacts: Path
) -> None:
    people = [await qingshan.customer(name) for name in ("王小明", "李雷")]
    async with qingshan.present(people[0]) as first, qingshan.present(people[1]) as second:
        one, two = [await waiting(qingshan, each, "有没有大一码的？") for each in (first, second)]
        agent = await open_page(browser, octopus, "/agent/", WIDE)
        await log_in(agent, qingshan, qingshan.agents[0])
        await accept(agent)
        await agent.get_by_test_id("accept").click()
        await expect(agent.get_by_test_id("unanswered")).to_have_count(2, timeout=SLOW_MS)
        assert await order(agent) == [str(one), str(two)]
        running = agent.locator(item(one)).get_by_test_id("unanswered")
        await expect(running).to_have_text(re.compile(r"未回复 \d+:\d\d"))
        shown = await running.inner_text()
        await expect(running).not_to_have_text(shown)

        # Who is answered does not wait any more, and stands below who does.
        await agent.locator(item(one)).click()
        await agent.get_by_test_id("agent-input").fill("有的")
        await agent.keyboard.press("Enter")
        await expect(agent.get_by_test_id("unanswered")).to_have_count(1, timeout=SLOW_MS)
        await expect(agent.get_by_test_id("inbox-item").first).to_have_attribute("data-session", str(two))

        # Their next word begins another wait, which is the shorter one; colours follow the time.
        await first.say(one, "那要两件")
        await expect(agent.get_by_test_id("unanswered")).to_have_count(2, timeout=SLOW_MS)
        assert await order(agent) == [str(two), str(one)]
        await agent.clock.set_fixed_time(time.time() + 60)
        await expect(agent.locator(item(one)).locator(".unanswered.soon")).to_be_visible()
        await agent.clock.set_fixed_time(time.time() + 240)
        await expect(agent.locator(item(one)).locator(".unanswered.late")).to_be_visible()
        await agent.screenshot(path=artifacts / "agent-unanswered.png")

        await agent.get_by_test_id("filter").fill("李雷")
        await expect(agent.get_by_test_id("inbox-item")).to_have_count(1)
        await expect(agent.locator(item(two))).to_be_visible()


async def test_of_two_agents_who_pick_a_customer_one_gets_them_and_the_other_hears_who(
    browser: Browser, octopus: Octopus, qingshan: Shop, artifacts: Path
) -> None:
    shopper = await qingshan.customer("韩梅梅")
    async with qingshan.present(shopper) as customer:
        session = await waiting(qingshan, customer, "我的包裹三天没动了，能帮我查一下吗？")
        pages = []
        for login in qingshan.agents[:2]:
            page = await open_page(browser, octopus, "/agent/", WIDE)
            await log_in(page, qingshan, login)
            await page.get_by_test_id("status-select").select_option("busy")
            await page.get_by_test_id("tab-waiting").click()
            await expect(page.get_by_test_id("question")).to_contain_text("三天没动了", timeout=SLOW_MS)
            pages.append(page)
        fast, slow = pages
        await check(slow, "waiting list")
        await slow.screenshot(path=artifacts / "agent-waiting.png")

        # The slower one still sees the customer in the list.
        async def hold(route: Route) -> None:
            await route.abort()

        await slow.route("**/octopus.session.v1.SessionService/ListSessions", hold)
        await fast.get_by_test_id("pick").click()
        await expect(fast.get_by_test_id("agent-input")).to_be_visible(timeout=SLOW_MS)
        await expect(fast.get_by_test_id("conversation")).to_contain_text("三天没动了", timeout=SLOW_MS)
        await slow.get_by_test_id("pick").click()
        name = next(
            person["display_name"] for person in qingshan.logins["staff"] if person["login"] == qingshan.agents[0]
        )
        await expect(slow.get_by_test_id("notice")).to_contain_text(f"{name} 先领取了", timeout=SLOW_MS)
        await slow.unroute("**/octopus.session.v1.SessionService/ListSessions")
        await expect(slow.get_by_test_id("pick")).to_have_count(0, timeout=SLOW_MS)

        await fast.get_by_test_id("agent-input").fill("我来帮您查")
        await fast.keyboard.press("Enter")
        await customer.until(lambda one: "我来帮您查" in one.texts(session))


async def test_a_canned_reply_is_inserted_by_its_shortcut_with_the_names_filled_in(
    browser: Browser, octopus: Octopus, qingshan: Shop, artifacts: Path
) -> None:
    shortcut = f"ship{secrets.token_hex(3)}"
    supervisor = await qingshan.staff(qingshan.who_is("SUPERVISOR"))
    content = canned_reply_pb2.CannedReplyContent(
        shortcut=shortcut, category="物流", text="{{customer.name}}您好，我是{{shop.name}}的{{agent.name}}，今天发货。"
    )
    scope = canned_reply_pb2.CANNED_REPLY_SCOPE_SHARED
    request = CreateCannedReplyRequest(request_id=f"request-{shortcut}", scope=scope, content=content)
    await CannedReplyServiceStub(qingshan.channel).CreateCannedReply(request, metadata=supervisor.metadata)
    async with qingshan.present(await qingshan.customer("韩梅梅")) as customer:
        session = await waiting(qingshan, customer, "什么时候发货？")
        agent = await open_page(browser, octopus, "/agent/", WIDE)
        await log_in(agent, qingshan, qingshan.agents[0])
        await accept(agent)
        await expect(agent.get_by_test_id("agent-input")).to_be_focused(timeout=SLOW_MS)

        await agent.keyboard.type(f"/{shortcut[:8]}")
        await expect(agent.get_by_test_id("canned-option").first).to_contain_text(shortcut, timeout=SLOW_MS)
        await check(agent, "list of canned replies")
        await agent.screenshot(path=artifacts / "agent-canned.png")
        await agent.get_by_test_id("agent-input").focus()
        await agent.keyboard.type(shortcut[8:])
        await expect(agent.get_by_test_id("canned-option")).to_have_count(1)
        await agent.keyboard.press("Enter")
        name = next(
            person["display_name"] for person in qingshan.logins["staff"] if person["login"] == qingshan.agents[0]
        )
        filled = f"韩梅梅您好，我是青衫服饰的{name}，今天发货。"
        await expect(agent.get_by_test_id("agent-input")).to_have_value(filled)
        await agent.keyboard.press("Enter")
        await customer.until(lambda one: filled in one.texts(session))


async def test_a_supervisor_who_answers_writes_what_the_shop_shares(
    browser: Browser, octopus: Octopus, qingshan: Shop
) -> None:
    login, password, shortcut = f"lead-{secrets.token_hex(4)}", secrets.token_hex(8), f"team{secrets.token_hex(3)}"
    admin = await qingshan.staff(qingshan.who_is("ADMIN"))
    await UserServiceStub(qingshan.channel).CreateUser(
        CreateUserRequest(
            request_id=login,
            kind=user_pb2.USER_KIND_STAFF,
            external_id=login,
            display_name="林组长",
            roles=[options_pb2.ROLE_AGENT, options_pb2.ROLE_SUPERVISOR],
            password=password,
        ),
        metadata=admin.metadata,
    )
    page = await open_page(browser, octopus, "/agent/", PHONE)
    await log_in_as(page, qingshan, login, password)
    await page.get_by_test_id("palette-open").click()
    await page.get_by_test_id("palette-input").fill("管理快捷")
    await page.keyboard.press("Enter")
    await page.get_by_test_id("canned-share").check()
    await page.get_by_test_id("canned-shortcut").fill(shortcut)
    await page.get_by_test_id("canned-text").fill("{{shop.name}}祝您愉快")
    await page.get_by_test_id("canned-save").click()
    mine = page.get_by_test_id("canned-shared").filter(has_text=shortcut)
    await expect(mine).to_contain_text("祝您愉快", timeout=SLOW_MS)
    agent = await qingshan.staff(qingshan.agents[0])
    replies = CannedReplyServiceStub(qingshan.channel)
    seen = await replies.ListCannedReplies(ListCannedRepliesRequest(page_size=200), metadata=agent.metadata)
    assert shortcut in [reply.content.shortcut for reply in seen.canned_replies]
    await mine.get_by_test_id("canned-remove").click()
    await expect(mine).to_have_count(0, timeout=SLOW_MS)


async def test_the_palette_does_without_a_mouse_what_an_agent_does(
    browser: Browser, octopus: Octopus, qingshan: Shop, artifacts: Path
) -> None:
    shortcut = f"bye{secrets.token_hex(3)}"
    async with qingshan.present(await qingshan.customer("韩梅梅")) as customer:
        session = await waiting(qingshan, customer, "什么时候发货？")
        agent = await open_page(browser, octopus, "/agent/", WIDE)
        await log_in(agent, qingshan, qingshan.agents[0])
        await accept(agent)
        await agent.keyboard.press("Control+k")
        await expect(agent.get_by_test_id("palette-input")).to_be_focused()
        await check(agent, "palette")
        await agent.screenshot(path=artifacts / "agent-palette.png")
        await agent.keyboard.type("管理快捷")
        await agent.keyboard.press("Enter")
        await expect(agent.get_by_test_id("canned-shortcut")).to_be_focused()
        await agent.keyboard.type(shortcut)
        await agent.keyboard.press("Tab")
        await agent.keyboard.press("Tab")
        await agent.keyboard.type("再见，{{customer.name}}")
        await agent.keyboard.press("Tab")
        await agent.keyboard.press("Enter")
        await expect(agent.get_by_test_id("canned-own").filter(has_text=shortcut)).to_be_visible(timeout=SLOW_MS)
        await check(agent, "canned replies")
        await agent.keyboard.press("Escape")
        await agent.keyboard.press("Control+k")
        await agent.keyboard.type("忙碌")
        await agent.keyboard.press("Enter")
        await expect(agent.get_by_test_id("status-select")).to_have_value("busy", timeout=SLOW_MS)
        assert await qingshan.status(await qingshan.staff(qingshan.agents[0])) == session_pb2.AGENT_STATUS_BUSY
        await agent.keyboard.press("Control+k")
        await agent.keyboard.type(shortcut)
        await agent.keyboard.press("Enter")
        await expect(agent.get_by_test_id("agent-input")).to_have_value("再见，韩梅梅")
        # The last word arrives before the end.
        await agent.keyboard.press("Control+Enter")
        await customer.until(lambda one: "再见，韩梅梅" in one.texts(session))
        await expect(agent.get_by_test_id("agent-input")).to_be_hidden(timeout=SLOW_MS)
        await agent.get_by_test_id("tab-ended").click()
        await expect(agent.locator(item(session))).to_be_visible()


async def test_an_agent_who_looks_elsewhere_is_called_as_they_chose(
    browser: Browser, octopus: Octopus, qingshan: Shop
) -> None:
    context = await new_context(browser, DESKTOP)
    await context.grant_permissions(["notifications"])
    await context.add_init_script(
        """
        window.shown = [];
        window.Notification = class {
          static permission = "granted";
          static requestPermission = async () => "granted";
          constructor(title, options) { window.shown.push(`${title}|${options.body}`); }
          close() {}
        };
        """
    )
    agent = await visit(context, octopus, "/agent/")
    await log_in(agent, qingshan, qingshan.agents[0])
    await agent.get_by_test_id("status-select").select_option("available")
    await agent.get_by_test_id("alerts").click()
    await check(agent, "alerts")
    await agent.get_by_test_id("alert-message-desktop").check()
    await agent.get_by_test_id("alerts-close").click()
    await agent.reload()
    await agent.get_by_test_id("status-select").wait_for()
    async with qingshan.present(await qingshan.customer("韩梅梅")) as customer:
        session = await waiting(qingshan, customer, "在吗？")
        # Nothing was chosen for offers: the title counts, and nothing else happens.
        await expect(agent).to_have_title(re.compile(r"^\(1\)"), timeout=SLOW_MS)
        await agent.get_by_test_id("accept").click()
        await expect(agent.get_by_test_id("agent-input")).to_be_visible(timeout=SLOW_MS)
        await expect(agent.get_by_test_id("conversation")).to_contain_text("在吗？", timeout=SLOW_MS)
        await agent.get_by_test_id("agent-input").fill("在的")
        await agent.keyboard.press("Enter")
        await customer.until(lambda one: "在的" in one.texts(session))
        assert await agent.evaluate("window.shown") == []
        await agent.evaluate("document.hasFocus = () => false")
        await customer.say(session, "有人在吗？")
        await agent.wait_for_function("window.shown.length > 0")
        assert await agent.evaluate("window.shown") == ["韩梅梅|有人在吗？"]
