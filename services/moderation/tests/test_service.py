"""A shop keeps its words, chat reads them, and what was found is kept once."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial

import pytest
from octopus.chat.v1.chat_events_pb2 import FoundWord, WordsFound
from octopus.errors.v1 import errors_pb2
from octopus.moderation.v1 import moderation_service_pb2 as pb
from octopus.moderation.v1.moderation_events_pb2 import WordListChanged
from octopus.moderation.v1.moderation_service_pb2_grpc import (
    ModerationServiceStub,
    add_ModerationServiceServicer_to_server,
)
from octopus.moderation.v1.words_pb2 import (
    WORD_ACTION_BLOCK,
    WORD_ACTION_MASK,
    WORD_ACTION_REVIEW,
    WORD_ACTION_UNSPECIFIED,
    SensitiveWord,
    WordAction,
)

from mesh.bus import connect, parse
from mesh.bus.outbox import Outbox
from mesh.errors import Refused
from mesh.identity.files import Identity
from mesh.rpc.metadata import Metadata, as_service, with_token
from mesh.stores import postgres
from mesh.testing import Platform
from mesh.testing.bus import delivery
from mesh.testing.rpc import Keys, dialling, serving
from services.moderation import domain, words
from services.moderation.events import Hits
from services.moderation.servicer import ModerationServicer
from services.moderation.words import Words

pytestmark = pytest.mark.service

ADMIN, AGENT, CUSTOMER = 11, 12, 13
_numbers = itertools.count(int(time.time() * 1000))
BASE = {category: [f"{category} {number}" for number in range(3)] for category in domain.DEFAULTS}


class Ids:
    """Ids for one test process."""

    def next(self) -> int:
        """Return a new id."""
        return next(_numbers)


@dataclass
class Moderation:
    """The service, and who calls it."""

    stub: ModerationServiceStub
    chat: ModerationServiceStub
    hits: Hits
    keys: Keys
    tenant: str

    def by(self, role: str, user_id: int = ADMIN) -> Metadata:
        """Return what the calls of somebody carry."""
        return with_token(self.keys.token(self.tenant, user_id, role))

    async def put(self, *words: tuple[str, WordAction.ValueType]) -> pb.PutWordsResponse:
        """Add words as the shop's admin."""
        listed = [SensitiveWord(word=word, action=action) for word, action in words]
        return await self.stub.PutWords(pb.PutWordsRequest(words=listed), metadata=self.by("ADMIN"))

    async def checked(self, token: str = "", *, known_version: int | None = None) -> pb.GetWordListResponse:
        """Return what chat would check."""
        request = pb.GetWordListRequest(page_token=token, known_version=known_version)
        return await self.chat.GetWordList(request, metadata=as_service(self.tenant))


@pytest.fixture
async def moderation(platform: Platform, migrated: Platform) -> AsyncIterator[Moderation]:
    keys, ids = Keys(), Ids()
    identity = Identity(platform.identity, "moderation")
    async with (
        postgres.connect(migrated.postgres.conninfo, identity, statement_timeout_s=20) as db,
        connect(platform.nats_url, "moderation", tls=identity.client_context) as bus,
    ):
        outbox = Outbox(db, "cs_moderation_outbox")
        relay = asyncio.create_task(outbox.relay(bus))
        hits = Hits(db, ids)
        servicer = ModerationServicer(Words(db, outbox, ids), hits, BASE)
        add = partial(add_ModerationServiceServicer_to_server, servicer)
        async with (
            serving(platform.identity, "moderation", keys, add) as address,
            dialling(platform.identity, "edge", "moderation", address) as edge,
            dialling(platform.identity, "chat", "moderation", address) as chat,
        ):
            yield Moderation(
                ModerationServiceStub(edge), ModerationServiceStub(chat), hits, keys, f"words-{next(_numbers)}"
            )
        relay.cancel()
        await asyncio.gather(relay, return_exceptions=True)


async def test_words_are_kept_changed_and_removed(moderation: Moderation) -> None:
    assert (await moderation.put(("代开发票", WORD_ACTION_MASK), ("QQ", WORD_ACTION_REVIEW))).total == 2
    changed = await moderation.put(("代开发票", WORD_ACTION_BLOCK))
    assert (changed.version, changed.total) == (2, 2)
    listed = await moderation.stub.ListWords(pb.ListWordsRequest(), metadata=moderation.by("SUPERVISOR"))
    assert [(each.word, each.action, each.changed_by) for each in listed.words] == [
        ("QQ", WORD_ACTION_REVIEW, ADMIN),
        ("代开发票", WORD_ACTION_BLOCK, ADMIN),
    ]
    assert all(each.HasField("changed_at") for each in listed.words)
    request = pb.RemoveWordsRequest(words=["QQ", "never there"])
    assert (await moderation.stub.RemoveWords(request, metadata=moderation.by("ADMIN"))).total == 1
    assert [each.word for each in (await moderation.checked()).words] == ["代开发票"]


async def test_words_come_by_page_and_by_what_they_contain(moderation: Moderation) -> None:
    await moderation.put(*((f"Word {number}", WORD_ACTION_MASK) for number in range(5)))
    seen: list[str] = []
    token = ""
    while True:
        request = pb.ListWordsRequest(page_size=2, page_token=token)
        page = await moderation.stub.ListWords(request, metadata=moderation.by("ADMIN"))
        assert page.total == 5
        seen += [each.word for each in page.words]
        token = page.next_page_token
        if not token:
            break
    assert seen == [f"Word {number}" for number in range(5)]
    request = pb.ListWordsRequest(containing="word 3")
    found = await moderation.stub.ListWords(request, metadata=moderation.by("ADMIN"))
    assert [each.word for each in found.words] == ["Word 3"]


async def test_all_words_of_a_request_are_stored_or_none(moderation: Moderation) -> None:
    with pytest.raises(Refused) as refused:
        await moderation.put(("好", WORD_ACTION_MASK), ("***", WORD_ACTION_MASK))
    assert refused.value.reason == errors_pb2.REASON_INVALID_ARGUMENT
    assert refused.value.violations[0][0] == "words[1].word"
    assert (await moderation.checked()).version == 0


async def test_a_list_has_an_end(moderation: Moderation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(domain, "MOST_WORDS", 2)
    await moderation.put(("a", WORD_ACTION_MASK), ("b", WORD_ACTION_MASK))
    with pytest.raises(Refused, match="at most 2 words"):
        await moderation.put(("c", WORD_ACTION_MASK))
    assert [each.word for each in (await moderation.checked()).words] == ["a", "b"]


async def test_categories_have_defaults_and_the_shops_choice(moderation: Moderation) -> None:
    by = moderation.by("ADMIN")
    listed = (await moderation.stub.ListBaseCategories(pb.ListBaseCategoriesRequest(), metadata=by)).categories
    assert {each.name: int(each.action) for each in listed} == dict(domain.DEFAULTS)
    assert all((each.words, each.action) == (3, each.default_action) for each in listed)
    request = pb.SetBaseCategoryRequest(name="weapons", action=WORD_ACTION_UNSPECIFIED)
    category = (await moderation.stub.SetBaseCategory(request, metadata=by)).category
    assert (category.action, category.default_action) == (WORD_ACTION_UNSPECIFIED, WORD_ACTION_BLOCK)
    checked = await moderation.checked()
    assert {each.name: int(each.action) for each in checked.categories} == {**domain.DEFAULTS, "weapons": 0}
    with pytest.raises(Refused) as refused:
        await moderation.stub.SetBaseCategory(pb.SetBaseCategoryRequest(name="food"), metadata=by)
    assert refused.value.reason == errors_pb2.REASON_NOT_FOUND


async def test_chat_reads_a_long_list_by_page_and_nothing_when_it_has_it(
    moderation: Moderation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(words, "PAGE", 2)
    monkeypatch.setattr("services.moderation.servicer.PAGE", 2)
    await moderation.put(*((f"word {number}", WORD_ACTION_MASK) for number in range(5)))
    first = await moderation.checked()
    seen = [each.word for each in first.words]
    token = first.next_page_token
    while token:
        page = await moderation.checked(token)
        assert page.version == first.version
        seen += [each.word for each in page.words]
        token = page.next_page_token
    assert seen == [f"word {number}" for number in range(5)]
    known = await moderation.checked(known_version=first.version)
    assert (known.version, list(known.words), known.next_page_token) == (first.version, [], "")
    base = await moderation.chat.ListBaseWords(pb.ListBaseWordsRequest(), metadata=as_service(moderation.tenant))
    assert {each.category: list(each.words) for each in base.categories} == BASE


async def test_a_change_is_told(platform: Platform, moderation: Moderation) -> None:
    version = (await moderation.put(("好", WORD_ACTION_MASK))).version
    chat = Identity(platform.identity, "session")
    async with connect(platform.nats_url, "session", tls=chat.client_context) as bus, asyncio.timeout(15):
        while not (told := await bus.read(f"event.moderation.{moderation.tenant}.words", after_seq=0, limit=10)):
            await asyncio.sleep(0.02)
    event = parse(WordListChanged, told[0].data)
    assert (event.tenant_id, event.version) == (moderation.tenant, version)


async def test_what_was_found_is_kept_once_and_listed_newest_first(moderation: Moderation) -> None:
    def event(client_message_id: str, session_id: int, *found: FoundWord) -> WordsFound:
        made = WordsFound(
            tenant_id=moderation.tenant,
            session_id=session_id,
            customer_id=CUSTOMER,
            user_id=CUSTOMER,
            client_message_id=client_message_id,
            words=found,
        )
        made.occurred_at.GetCurrentTime()
        return made

    blocked = FoundWord(word="炸药", category="weapons", action=WORD_ACTION_BLOCK)
    review = FoundWord(word="投诉", action=WORD_ACTION_REVIEW)
    for _ in range(2):
        await moderation.hits.note(delivery(event("one", 7, blocked, review)))
        await moderation.hits.note(delivery(event("two", 8, review)))
    by = moderation.by("SUPERVISOR")
    listed = await moderation.stub.ListWordHits(pb.ListWordHitsRequest(page_size=2), metadata=by)
    rest = await moderation.stub.ListWordHits(pb.ListWordHitsRequest(page_token=listed.next_page_token), metadata=by)
    hits = [*listed.hits, *rest.hits]
    assert [(hit.session_id, hit.word, hit.category, hit.action, hit.user_id) for hit in hits] == [
        (8, "投诉", "", WORD_ACTION_REVIEW, CUSTOMER),
        (7, "投诉", "", WORD_ACTION_REVIEW, CUSTOMER),
        (7, "炸药", "weapons", WORD_ACTION_BLOCK, CUSTOMER),
    ]
    of_one = await moderation.stub.ListWordHits(pb.ListWordHitsRequest(session_id=8), metadata=by)
    assert [hit.session_id for hit in of_one.hits] == [8]


async def test_each_shop_has_words_and_hits_of_its_own(moderation: Moderation) -> None:
    await moderation.put(("好", WORD_ACTION_MASK))
    other = with_token(moderation.keys.token(f"{moderation.tenant}-b", ADMIN, "ADMIN"))
    assert (await moderation.stub.ListWords(pb.ListWordsRequest(), metadata=other)).total == 0


@pytest.mark.parametrize("role", ["AGENT", "CUSTOMER", "SUPERVISOR", "KNOWLEDGE_ADMIN"])
async def test_only_an_admin_changes_words(moderation: Moderation, role: str) -> None:
    by, stub = moderation.by(role, AGENT), moderation.stub
    word = SensitiveWord(word="x", action=WORD_ACTION_MASK)
    for call in (
        lambda: stub.PutWords(pb.PutWordsRequest(words=[word]), metadata=by),
        lambda: stub.RemoveWords(pb.RemoveWordsRequest(words=["x"]), metadata=by),
        lambda: stub.SetBaseCategory(pb.SetBaseCategoryRequest(name="weapons"), metadata=by),
    ):
        with pytest.raises(Refused) as refused:
            await call()
        assert refused.value.reason == errors_pb2.REASON_ROLE_NOT_ALLOWED
