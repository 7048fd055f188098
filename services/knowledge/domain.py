"""What an entry is, which texts it is found by, and what may be refused.

```
KnowledgeError
├── NotFound          there is no such entry in the shop
├── AlreadyExists     an enabled entry of the shop has the same question and locale
├── VersionConflict   the entry changed since it was read
└── FileRefused       the file as a whole cannot be imported
```
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar, Final

# Numbers that name a person are replaced before a text is embedded: they say nothing about its meaning, and a
# vector must not keep them. `\b` finds no boundary beside Chinese, hence the look-arounds.
_PERSONAL: Final = (
    (re.compile(r"[\w.+-]+@[\w-]+(\.[\w-]+)+", re.ASCII), "邮箱"),
    (re.compile(r"(?<!\d)\d{17}[\dXx](?![\dXx])"), "证件号"),
    (re.compile(r"(?<!\d)(\+?86[- ]?)?1[3-9]\d[- ]?\d{4}[- ]?\d{4}(?!\d)"), "手机号"),
)
_HAN: Final = re.compile(r"[\u3400-\u9fff\uf900-\ufaff]")


class KnowledgeError(Exception):
    """A request that is refused. `reason` is a name of `octopus.errors.v1.Reason`."""

    reason: ClassVar[str]


class NotFound(KnowledgeError):
    """There is no such entry."""

    reason = "NOT_FOUND"

    def __init__(self, faq_id: int) -> None:
        super().__init__(f"there is no entry {faq_id} in this shop")


class AlreadyExists(KnowledgeError):
    """The question is answered already."""

    reason = "ALREADY_EXISTS"

    def __init__(self) -> None:
        super().__init__("an enabled entry has the same question and locale; change that one, or disable it first")


class VersionConflict(KnowledgeError):
    """The entry has changed since it was read."""

    reason = "VERSION_CONFLICT"

    def __init__(self, faq_id: int, current: int) -> None:
        super().__init__(f"entry {faq_id} has version {current} by now; read it again and repeat the change on it")


class FileRefused(KnowledgeError):
    """No line of the file can be used."""

    reason = "INVALID_ARGUMENT"


@dataclass(frozen=True, slots=True)
class Content:
    """What a knowledge admin writes; see `octopus.knowledge.v1.FaqContent`."""

    question: str
    answer: str
    similar_questions: tuple[str, ...] = ()
    category: str = ""
    locale: str = ""

    def tidied(self) -> Content:
        """Return the content without blanks around texts and empty or repeated similar questions, and with a locale."""
        question = self.question.strip()
        similar = dict.fromkeys(text.strip() for text in self.similar_questions)
        return Content(
            question=question,
            answer=self.answer.strip(),
            similar_questions=tuple(text for text in similar if text and text != question),
            category=self.category.strip(),
            locale=self.locale.strip() or guessed_locale(question),
        )

    def problems(self) -> list[tuple[str, str]]:
        """Return pairs of a field and what is wrong with it, beyond the rules in the contract."""
        found = []
        for field, text in (("question", self.question), ("answer", self.answer)):
            if not text.strip():
                found.append((field, "is empty; write something"))
        for field, text in (
            ("question", self.question),
            ("answer", self.answer),
            ("category", self.category),
            *(("similar_questions", text) for text in self.similar_questions),
        ):
            if not is_storable(text):
                found.append(
                    (field, "holds a character that cannot be stored (NUL or half a surrogate pair); remove it")
                )
        return found

    def texts(self) -> list[str]:
        """Return the texts the entry is found by, in the order of `cs_faq_embedding.part`."""
        return [self.question, *self.similar_questions, self.answer]


@dataclass(frozen=True, slots=True)
class Faq:
    """A stored entry."""

    id: int
    tenant_id: str
    content: Content
    disabled: bool
    version: int
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class Hit:
    """An entry that was found. `score` is a cosine similarity, -1 to 1."""

    faq: Faq
    score: float


def is_storable(text: str) -> bool:
    """Return whether PostgreSQL and UTF-8 can hold the text."""
    if "\0" in text:
        return False
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def guessed_locale(text: str) -> str:
    """Return the locale of a text whose author named none: Chinese if it has a Chinese character, else English."""
    return "zh-CN" if _HAN.search(text) else "en"


def without_personal_data(text: str) -> str:
    """Return the text with telephone numbers, e-mail addresses and identity card numbers replaced by placeholders."""
    for pattern, name in _PERSONAL:
        text = pattern.sub(name, text)
    return text
