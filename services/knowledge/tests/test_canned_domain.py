"""What a canned reply may say."""

from __future__ import annotations

import pytest

from services.knowledge.canned.domain import VARIABLES, Content

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("between", ["", "，", " {a} ", "{", "\n"])
def test_known_variables_and_single_braces_are_allowed(between: str) -> None:
    text = "您好" + f" {between} ".join(f"{{{{{name}}}}}" for name in (*VARIABLES, " shop.name "))
    assert Content(shortcut="a", category="", text=text).problems() == []


@pytest.mark.parametrize("name", ["customer", "customer.phone", "", "CUSTOMER.NAME", "a\nb", "{shop.name"])
def test_a_variable_that_does_not_exist_is_refused(name: str) -> None:
    problems = Content(shortcut="a", category="", text=f"您好 {{{{{name}}}}} 再见").problems()
    assert [field for field, _ in problems] == ["text"]
