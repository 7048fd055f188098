"""A shopper who falls silent, in a browser: the reminder, the end, and the question how it was."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from google.protobuf.duration_pb2 import Duration
from octopus.session.v1 import session_pb2, session_service_pb2
from playwright.async_api import Browser, expect

from e2e.people import Shop
from e2e.running import Octopus
from e2e.web.visit import DESKTOP, PHONE, SLOW_MS, log_in, open_page

pytestmark = pytest.mark.e2e


def wanted(remind_s: int, close_s: int) -> session_service_pb2.UpdateSessionSettingsRequest:
    return session_service_pb2.UpdateSessionSettingsRequest(
        settings=session_pb2.SessionSettings(
            remind_after=Duration(seconds=remind_s),
            close_after=Duration(seconds=close_s),
            return_within=Duration(seconds=1800),
            ask_satisfaction=True,
        )
    )


@pytest.fixture
async def impatient(qingshan: Shop) -> AsyncIterator[Shop]:
    """A shop that reminds after a second, and leaves a minute later; as before when the test has ended."""
    admin = await qingshan.staff(qingshan.who_is("ADMIN"))
    await qingshan.sessions.UpdateSessionSettings(wanted(1, 60), metadata=admin.metadata)
    yield qingshan
    await qingshan.sessions.UpdateSessionSettings(wanted(300, 180), metadata=admin.metadata)


async def test_a_silent_shopper_is_reminded_left_and_asked_how_it_was(
    browser: Browser, octopus: Octopus, impatient: Shop, artifacts: Path
) -> None:
    shopper = await open_page(browser, octopus, "/shop/qingshan/", PHONE)
    await shopper.get_by_test_id("launcher").click()
    await shopper.get_by_test_id("handoff").click()
    await shopper.get_by_test_id("queue-position").wait_for(timeout=SLOW_MS)
    agent = await open_page(browser, octopus, "/agent/", DESKTOP)
    await log_in(agent, impatient, impatient.agents[0])
    await agent.get_by_test_id("status-select").select_option("available")
    await agent.get_by_test_id("accept").first.click()
    await agent.get_by_test_id("agent-input").fill("您好，请问是哪一件？")
    await agent.keyboard.press("Enter")

    reminder = shopper.get_by_test_id("reminder")
    await expect(reminder).to_be_visible(timeout=SLOW_MS)
    await expect(shopper.get_by_test_id("time-left")).to_contain_text(re.compile(r"\d:\d\d"))
    await shopper.screenshot(path=artifacts / "shopper-reminded.png")
    # The agent may go on writing meanwhile.
    await expect(agent.get_by_test_id("agent-input")).to_be_visible()
    await shopper.get_by_test_id("still-here").click()
    await expect(reminder).to_be_hidden(timeout=SLOW_MS)
    await expect(agent.get_by_test_id("conversation")).to_contain_text("我还在", timeout=SLOW_MS)

    admin = await impatient.staff(impatient.who_is("ADMIN"))
    await impatient.sessions.UpdateSessionSettings(wanted(1, 1), metadata=admin.metadata)
    await agent.get_by_test_id("agent-input").fill("好的，请告诉我订单号。")
    await agent.keyboard.press("Enter")
    rating = shopper.get_by_test_id("rating")
    await expect(rating).to_be_visible(timeout=SLOW_MS)
    # By keyboard alone: arrows choose, Tab goes on.
    await shopper.get_by_test_id("score-1").focus()
    for _ in range(3):
        await shopper.keyboard.press("ArrowRight")
    await expect(shopper.get_by_test_id("score-4")).to_be_checked()
    await shopper.keyboard.press("Tab")
    await shopper.keyboard.type("回复很快")
    await shopper.screenshot(path=artifacts / "shopper-rating.png")
    await shopper.keyboard.press("Tab")
    await shopper.keyboard.press("Enter")
    await expect(shopper.get_by_test_id("rated")).to_be_visible(timeout=SLOW_MS)
    await shopper.screenshot(path=artifacts / "shopper-rated.png")

    # The agent sees what the customer said, and what the chat was about.
    await expect(agent.get_by_test_id("satisfaction")).to_have_attribute("data-score", "4", timeout=SLOW_MS)
    await expect(agent.get_by_test_id("satisfaction-comment")).to_have_text("回复很快")
    await expect(agent.get_by_test_id("closing")).to_contain_text("我还在", timeout=SLOW_MS)
    await agent.screenshot(path=artifacts / "agent-closing.png")

    # Asked once: the page that is opened again shows what was said.
    await shopper.reload()
    await shopper.get_by_test_id("launcher").click()
    await expect(shopper.get_by_test_id("rated")).to_be_visible(timeout=SLOW_MS)
    await expect(rating).to_be_hidden()
