"""Who may see and change a canned reply, and what it may say.

```
CannedReplyError
├── NotFound          there is none, or it is somebody else's own: the caller is not told which
├── NotAllowed        agents do not change what the shop shares
├── ShortcutTaken     another one in the same scope has the shortcut
└── VersionConflict   it changed since it was read
```
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar, Final

VARIABLES: Final = ("customer.name", "agent.name", "shop.name")
_PLACEHOLDER: Final = re.compile(r"\{\{(.*?)\}\}", re.DOTALL)


class CannedReplyError(Exception):
    """A request that is refused. `reason` is a name of `octopus.errors.v1.Reason`."""

    reason: ClassVar[str]


class NotFound(CannedReplyError):
    """There is no such canned reply, or it is somebody else's own."""

    reason = "NOT_FOUND"

    def __init__(self) -> None:
        super().__init__("there is no such canned reply")


class NotAllowed(CannedReplyError):
    """The caller may not change what the shop shares."""

    reason = "ROLE_NOT_ALLOWED"

    def __init__(self) -> None:
        super().__init__("shared canned replies are changed by supervisors and administrators; make one of your own")


class ShortcutTaken(CannedReplyError):
    """The shortcut is in use."""

    reason = "ALREADY_EXISTS"

    def __init__(self) -> None:
        super().__init__("another canned reply has this shortcut; choose another one, or change that one")


class VersionConflict(CannedReplyError):
    """It has changed since it was read."""

    reason = "VERSION_CONFLICT"

    def __init__(self, current: int) -> None:
        super().__init__(f"the canned reply has version {current} by now; read it again and repeat the change on it")


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """What is inserted, and how it is found; see `octopus.knowledge.v1.CannedReplyContent`."""

    shortcut: str
    category: str
    text: str

    def problems(self) -> list[tuple[str, str]]:
        """Return pairs of a field and what is wrong with it, beyond the rules in the contract."""
        found = [
            (field, "holds a NUL character, which cannot be stored; remove it")
            for field in ("shortcut", "category", "text")
            if "\0" in getattr(self, field)
        ]
        if not self.text.strip():
            found.append(("text", "is empty; write something"))
        unknown = sorted({name for name in _PLACEHOLDER.findall(self.text) if name.strip() not in VARIABLES})
        if unknown:
            known = ", ".join(f"{{{{{name}}}}}" for name in VARIABLES)
            found.append(("text", f"names a variable that does not exist; use {known}, or single braces"))
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class CannedReply:
    """A stored canned reply; `owner_id` is 0 for one that the shop shares."""

    id: int
    tenant_id: str
    owner_id: int
    content: Content
    version: int
    updated_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Editor:
    """The caller. `supervisor` includes the administrators of the shop."""

    tenant_id: str
    user_id: int
    supervisor: bool = False

    def owner_of_new(self, *, shared: bool) -> int:
        """Return whose a new canned reply is. Raises `NotAllowed`."""
        if not shared:
            return self.user_id
        if not self.supervisor:
            raise NotAllowed
        return 0

    def must_change(self, reply: CannedReply | None) -> CannedReply:
        """Return the canned reply, which the caller may change. Raises `NotFound` and `NotAllowed`."""
        if reply is None or reply.owner_id not in (0, self.user_id):
            raise NotFound
        if reply.owner_id == 0 and not self.supervisor:
            raise NotAllowed
        return reply
