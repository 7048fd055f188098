"""What a person reads while the platform refuses a message for a time: why, and when it goes by itself."""

from __future__ import annotations

import asyncio

import pytest
from octopus.chat.v1.chat_service_pb2 import ConverseRequest, ConverseResponse
from octopus.chat.v1.frame_pb2 import Refusal, ServerFrame
from octopus.errors.v1 import errors_pb2
from playwright.async_api import Browser, BrowserContext, Page, WebSocketRoute, expect

from e2e.people import Shop
from e2e.running import Octopus
from e2e.web.visit import (
    DESKTOP,
    PHONE,
    SLOW_MS,
    accept,
    ask_for_a_person,
    log_in,
    new_context,
    open_chat,
    visit,
)

pytestmark = pytest.mark.e2e

FULL = errors_pb2.REASON_STORAGE_FULL
TOO_FAST = errors_pb2.REASON_RATE_LIMITED
WORDS = {
    ("zh-CN", FULL): "系统暂时存不下新消息，约 3 秒后自动重发",
    ("zh-CN", TOO_FAST): "发得太快了，约 3 秒后自动重发",
    ("en-GB", FULL): "There is no room for new messages just now; it is sent again in about 3 s",
    ("en-GB", TOO_FAST): "That was too fast; it is sent again in about 3 s",
}


class Refusing:
    """Refuses each message of a browser once, for a reason and 3 seconds, as chat does; off without a reason."""

    def __init__(self) -> None:
        self.reason: errors_pb2.Reason.ValueType | None = None
        self._refused: set[str] = set()

    async def stand_in(self, context: BrowserContext) -> None:
        """Stand between a browser and the edge."""
        await context.route_web_socket("**/ws", self._pass_on)

    def _pass_on(self, route: WebSocketRoute) -> None:
        server = route.connect_to_server()

        def say(message: str | bytes) -> None:
            assert isinstance(message, bytes)
            for frame in ConverseRequest.FromString(message).frames:
                post = frame.post
                if frame.HasField("post") and self.reason and post.client_message_id not in self._refused:
                    self._refused.add(post.client_message_id)
                    refusal = Refusal(
                        reason=self.reason, client_message_id=post.client_message_id, session_id=post.session_id
                    )
                    refusal.retry_after.FromSeconds(3)
                    route.send(ConverseResponse(frames=[ServerFrame(refusal=refusal)]).SerializeToString())
                else:
                    server.send(ConverseRequest(frames=[frame]).SerializeToString())

        route.on_message(say)


async def is_told_and_gets_through(page: Page, box: str, locale: str, reason: errors_pb2.Reason.ValueType) -> None:
    said = f"{errors_pb2.Reason.Name(reason)} {box}."
    await page.get_by_test_id(box).fill(said)
    await page.keyboard.press("Enter")
    message = page.get_by_test_id("message").filter(has_text=said)
    await expect(message).to_have_attribute("data-state", "sending", timeout=SLOW_MS)
    await expect(message).to_contain_text(WORDS[locale, reason], timeout=SLOW_MS)
    await expect(message).not_to_have_attribute("data-state", "sending", timeout=SLOW_MS)
    await expect(message).not_to_contain_text(WORDS[locale, reason])
    await expect(message).not_to_have_attribute("data-state", "failed")


@pytest.mark.parametrize("locale", ["zh-CN", "en-GB"])
async def test_both_sides_read_why_a_message_waits_and_when_it_goes(
    browser: Browser, octopus: Octopus, qingshan: Shop, locale: str
) -> None:
    refusing = Refusing()
    pages = []
    for size, path in ((PHONE, "/shop/qingshan/"), (DESKTOP, "/agent/")):
        context = await new_context(browser, size, locale)
        await refusing.stand_in(context)
        pages.append(await visit(context, octopus, path))
    shopper, agent = pages
    await open_chat(shopper)
    await ask_for_a_person(shopper)
    await log_in(agent, qingshan, qingshan.agents[0])
    await accept(agent)
    for reason in (FULL, TOO_FAST):
        refusing.reason = reason
        # Each message waits its three seconds; the two sides wait together.
        await asyncio.gather(
            is_told_and_gets_through(shopper, "input", locale, reason),
            is_told_and_gets_through(agent, "agent-input", locale, reason),
        )
