"""What axe finds on a page, in both languages and both colour schemes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from playwright.async_api import Page

_AXE = Path(__file__).parents[2] / "edge/web/node_modules/axe-core/axe.min.js"

# Everything axe knows, also what it calls experimental: the first two are what strangers found here.
_RUN = """
async () => axe.run(document, {
  resultTypes: ["violations"],
  rules: Object.fromEntries(
    ["label-content-name-mismatch", "target-size", "focus-order-semantics", "p-as-heading", "td-has-header"]
      .map((id) => [id, { enabled: true }]),
  ),
})
"""


async def violations(page: Page) -> list[str]:
    """Return what is wrong with a page as it stands, a line for each element."""
    await page.evaluate(_AXE.read_text(encoding="utf-8"))
    # What fades in is not as it will be.
    await page.evaluate(
        "Promise.all(document.getAnimations({subtree: true}).map((one) => one.finished.catch(() => 0)))"
    )
    found: dict[str, Any] = await page.evaluate(_RUN)
    return [
        f"{violation['id']}: {node['target']} {node['failureSummary']}"
        for violation in found["violations"]
        for node in violation["nodes"]
    ]


async def check(page: Page, state: str) -> None:
    """Fail when axe finds something, as the page stands and in the other colour scheme and language."""
    wrong: list[str] = []
    for scheme in ("light", "dark"):
        await page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        wrong += [f"{state}, {scheme}: {line}" for line in await violations(page)]
    await page.emulate_media(color_scheme="light")
    switch = page.get_by_test_id("language")
    if await switch.count() == 1 and await switch.is_visible():
        await switch.dispatch_event("click")
        wrong += [f"{state}, other language: {line}" for line in await violations(page)]
        await switch.dispatch_event("click")
    assert not wrong, "\n".join(wrong)
