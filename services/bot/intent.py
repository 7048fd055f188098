"""The intent of a message, from its words: a person, small talk, or an answer.

A request for a person must be a request: "转人工" and "talk to a human" are one, "人工智能手表多少钱", "handmade" and
"刚才人工客服说可以退" are none. Messages are looked at clause by clause, because people write "人工 你好" and
"hi, I want to return this".
"""

from __future__ import annotations

import re
import unicodedata
from enum import Enum, auto
from typing import Final, NamedTuple


class Intent(Enum):
    """What a message asks for."""

    # To talk with a person.
    PERSON = auto()
    # An answer from the shop's knowledge.
    QUESTION = auto()
    # To know whether a machine answers.
    WHO = auto()
    GREETING = auto()
    THANKS = auto()
    FAREWELL = auto()
    # "好的", "ok": nothing more.
    ACKNOWLEDGEMENT = auto()
    # Punctuation, pictures: no words at all.
    NOTHING = auto()


class Understanding(NamedTuple):
    """The intent of a message. `question` is what to look for: the message without its politeness."""

    intent: Intent
    question: str


def _words(*patterns: str) -> re.Pattern[str]:
    return re.compile("|".join(patterns))


_CLAUSE_END: Final = re.compile(r"[\s,.;:!?~，。；：！？、…～—]+")
_ENGLISH: Final = re.compile(r"[a-z]")
# English is cut into sentences, not at every blank.
_SENTENCE_END: Final = re.compile(r"[\n,.;:!?~，。；：！？…]+")
_WORD: Final = re.compile(r"\w")
# "转 人 工": every character by itself.
_SPACED_OUT: Final = re.compile(r"^[\u4e00-\u9fff](?: [\u4e00-\u9fff])+$")

# Traditional characters that the patterns below have in their simplified form.
_SIMPLIFIED: Final = str.maketrans(
    "轉換聯繫給專員說別機話務們個談這時間謝請問嗎沒對幫發", "转换联系给专员说别机话务们个谈这时间谢请问吗没对帮发"
)

# Who wants a person says so early; the rest of a long message is for the search.
_LOOKED_AT: Final = 500

# Around a Chinese request, without weight of their own.
# No two alternatives of a repeated group may spell the same text, or a hostile message takes forever.
_SOFT_START: Final = (
    r"(?:请问|请|麻烦|能不能|能否|可不可以|可以|可否|能|帮忙|帮我|给我|我|就|快点|快|赶紧|马上|直接|还是|那|现在|亲"
    r"|你们|你|您)*"
)
_SOFT_END: Final = r"(?:吧|啊|呀|呢|了|啦|吗|嘛|么|哦|噢|哈|一下|谢谢|可以|行|好|不|快点|来|在|亲|\d)*"

_PERSON: Final = r"(?:人工|真人|活人|人类|专员)"
_DESK: Final = r"(?:(?:在线|售后|售前|人工|真人)*客服(?:人员|专员|小姐姐)?|工作人员|坐席|座席|接线员)"
# 人工 is also "artificial", "manual" and "labour": only these may follow.
_ENDS: Final = (
    r"(?=$|的|吧|啊|呀|呢|了|啦|吗|嘛|么|哦|噢|客服|服务(?!费|电话|时间)|坐席|座席|接待|处理|解答|回复|沟通|聊|说|谢"
    r"|快|来|帮|在|好|可以|行|不)"
)
_NOT_ASKED: Final = r"(?!.{0,4}(?:电话|号码|说过|告诉|答应|态度|上班|下班|时间|几点|微信|qq))"
_REACH: Final = (
    r"(?:转接|转到|转给|转成|转|接入|接通|接到|接|找到|找|叫|换成|换|联系|呼叫|喊|想要|需要|要|(?<!过)来|派|申请)"
)
_FILL: Final = r"(?:你们|个|一个|一下|位|一位|名|到|给|的|我|下|成|点|在线|正常|懂的)*"

_CHINESE_REQUEST: Final = _words(
    # 转人工, 帮我找个真人, 要人工客服
    rf"{_REACH}{_FILL}{_PERSON}{_ENDS}{_NOT_ASKED}",
    # 帮我联系一下售后客服, and nothing after it: who tells of a talk with the desk is not asking for one
    rf"{_REACH}{_FILL}{_DESK}(?:帮我|帮忙)?(?:处理|解决|看看|来)?{_SOFT_END}$",
    # 我想和人聊, 跟真人说话
    r"(?:跟|和|与|同)(?:一个|个|你们的?)?(?:真?人|活人|客服|真人客服|人工客服)(?:直接)?(?:说|聊|讲|谈|沟通|对话|交流|联系)(?!过|了)",
    # 不想跟机器人说话; a robot that is for sale (扫地机器人) is another matter
    r"(?:不要|不想|别|拒绝|讨厌|受够).{0,4}(?<!扫地)(?<!拖地)(?<!扫拖)机器人(?:$|客服|聊|说|回|答|对话|沟通|服务|了$)",
    # 人类客服在哪, 有没有人工
    rf"^{_SOFT_START}(?:有没有|有)(?:一个|个)?(?:人工|真人|活人)(?:客服|服务)?{_SOFT_END}$",
)
_CHINESE_WHOLE: Final = re.compile(rf"^{_SOFT_START}(?:{_PERSON}(?:服务|客服)?)+{_SOFT_END}$")
# 客服 is also how the one who answers is addressed: "客服，在吗".
_CHINESE_ALONE: Final = re.compile(rf"^{_SOFT_START}(?:{_DESK})+$")
_CHINESE_REFUSAL: Final = _words(
    rf"(?:不用|不需要|不要|不想|别|无需|没必要|不必|先不|再|无人|没人|未|没有?|怎么不能|刚才?|已经|昨天|前天|上次|之前|后来)"
    rf".{{0,3}}{_REACH}",
    rf"(?:不用|不需要|不要|不想要|别|无需|不是){_PERSON}",
    r"^(?:晚上|周末|半夜|节假日).{0,3}有",
)

_AGENT: Final = (
    r"(?:(?:bloody|damn|fucking|freaking|human|live|real|customer|support|service) )*"
    r"(?:agents?|humans?(?! hair| made| size)|(?<!in )persons?|people|someone|somebody|representatives?|reps?"
    r"|operators?|advis[oe]rs?|assistants?|attendants?|staff|employees?|managers?|supervisors?"
    r"|customer (?:service|support|care)|live chat|live support|actual human)\b"
)
_ENGLISH_REQUEST: Final = _words(
    # talk to a human, get through to somebody, contact an agent
    r"\b(?:talk|spea?k|chat|connect|transfer|contact|reach|switch|escalate|get through|put me through|pass me|hand me)"
    rf"\w*\b(?: (?:me|us|over|now|directly|please|this|it|in touch))*(?: (?:to|with|through to))?"
    rf"(?: (?:a|an|the|some|any|your|one of your|real|actual))* {_AGENT}",
    # I want a real person, get me an agent
    r"\b(?:want|need|get|give|prefer|find|send|is there|are there|can i have|i'd like)(?: (?:me|us))?(?: to)?"
    r"(?: (?:a|an|the|some|any))?(?: (?:human|live|real|actual))* "
    r"(?:human agent|human being|human(?= *$| please| now| to | instead| here| support| help| operator)"
    r"|(?:real|live|actual) (?:person|people|human|one)|agent|representative|operator|live chat|live support)\b",
    r"\bnot (?:a |an )?(?:ro)?bot\b.*\b(?:person|human)\b|\b(?:human|person)\b.*\bnot (?:a |an )?(?:ro)?bot\b",
)
_ENGLISH_WHOLE: Final = re.compile(
    r"^(?:please |pls |a |an |the |real |live |actual |now )*"
    r"(?:human|person|agent|operator|representative|human agent|human being|live chat"
    r"|customer (?:service|support|care))s?"
    r"(?: please| pls| now| asap| thanks)*$"
)
_ENGLISH_REFUSAL: Final = _words(
    r"\b(?:don'?t|do not|no|not) (?:need|want|have|wish|necessary)(?! to do)\b",
    r"\b(?:already|yesterday|just) (?:talked|spoke|chatted|contacted)\b",
    r"\b(?:the|your) (?:agent|representative) (?:said|told)",
)

_WHO: Final = _words(
    r"^(?:请问|你好)?(?:你|您|这里|这|那你)?(?:到底)?是不?是?(?:人工|真人|活人|机器人|人|ai|智能)(?:客服)?(?:还是.{1,6})?"
    r"[吗么吧呢啊呀]*$",
    r"\bare you (?:a |an )?(?:real |actual |live )?(?:ro)?(?:bot|human|person|machine|ai|computer)\b",
    r"^(?:am i|is this) .{0,20}\b(?:ro)?(?:bot|human|person|machine|ai|computer)$",
)

_FILLER: Final = r"(?:[呀啊啦哈哦噢喔呢吧了的亲们你您哥]|大家|客服|老板|店家|掌柜|小姐姐|美女)*"
_POLITE: Final = (
    (
        Intent.GREETING,
        _words(
            rf"^(?:亲|你好|您好|哈喽|哈啰|嗨|喂|早上好|上午好|中午好|下午好|晚上好|早安|早(?!上|安)|客服"
            rf"|在不在|在线吗|在[吗么嘛不]?(?!不|线)|有人在吗|有人[吗没么])+{_FILLER}[吗么嘛]?$",
            r"^(?:hi|hello|hey|hiya|greetings|good (?:morning|afternoon|evening|day))(?: (?:there|all|everyone))?$",
            r"^(?:is )?any(?:one|body) (?:there|here|home)$",
        ),
    ),
    (
        Intent.THANKS,
        _words(
            rf"^(?:好的?|嗯|行|ok|那就|那|太|非常|十分|多|真的|麻烦)*(?:谢谢|多谢|感谢|谢啦|谢了|谢|辛苦|3q)"
            rf"{_FILLER}(?:谢谢|感谢)?{_FILLER}$",
            r"^(?:ok(?:ay)? |great |many |no |perfect )*(?:thanks|thank you|thx|ty|cheers|much appreciated|thank u)"
            r"(?: (?:so much|very much|a lot|again|for your help|for the help|a bunch|you|anyway))*$",
        ),
    ),
    (
        Intent.FAREWELL,
        _words(
            rf"^(?:再见|拜拜|拜|回见|回头见|下次见|886?|晚安|没事了|没有了|没了|没别的了?|没有其他问题了?|没问题了|先这样|就这样){_FILLER}$",
            r"^(?:good ?)?(?:bye|goodbye|bye bye|see you|see ya|cya|good night)(?: (?:then|later|now|soon))?$",
            r"^(?:no )?(?:that'?s|that is) (?:all|it)(?: (?:for now|thanks|thank you))*$",
        ),
    ),
    (
        Intent.ACKNOWLEDGEMENT,
        _words(
            rf"^(?:好的|好好|好吧|好滴|好嘞|好|嗯+|恩|哦+|噢+|喔|行吧|行|可以|明白|知道|了解|懂|收到|清楚|没问题|没关系"
            rf"|是的|是|对的|对|哈+|呵+|嘿+|嘻+){_FILLER}$",
            r"^(?:ok|okay|k|kk|sure|alright|all right|got it|i see|fine|great|perfect|cool|nice|understood)$",
            r"^(?:yes|yep|yeah|no|nope|ha(?:ha)+|lol|never mind|no problem)$",
        ),
    ),
)


def understand(text: str) -> Understanding:
    """Return the intent of a message, and what to search for when it is a question."""
    normal = unicodedata.normalize("NFKC", text[:_LOOKED_AT]).lower().translate(_SIMPLIFIED).replace("’", "'").strip()
    if _SPACED_OUT.search(normal):
        normal = normal.replace(" ", "")
    if not _WORD.search(normal):
        return Understanding(Intent.NOTHING, text)
    if _wants_person(normal):
        return Understanding(Intent.PERSON, text)
    if any(_WHO.search(clause) for clause in _clauses(normal, _SENTENCE_END)):
        return Understanding(Intent.WHO, text)
    return _politeness(normal) or Understanding(Intent.QUESTION, _without_politeness(text))


def _clauses(text: str, end: re.Pattern[str]) -> list[str]:
    return [
        clause for part in end.split(text) if (clause := part.strip(" \"'“”‘’()（）[]【】")) and _WORD.search(clause)
    ]


def _wants_person(normal: str) -> bool:
    if _CHINESE_ALONE.search(normal):
        return True
    for clause in _clauses(normal, _CLAUSE_END):
        if _CHINESE_WHOLE.search(clause):
            return True
        if _CHINESE_REQUEST.search(clause) and not _CHINESE_REFUSAL.search(clause):
            return True
    if not _ENGLISH.search(normal):
        return False
    return any(
        _ENGLISH_WHOLE.search(sentence) or (_ENGLISH_REQUEST.search(sentence) and not _ENGLISH_REFUSAL.search(sentence))
        for sentence in _clauses(re.sub(r"[ \t]+", " ", normal), _SENTENCE_END)
    )


def _polite(clause: str) -> Intent | None:
    return next((intent for intent, pattern in _POLITE if pattern.search(clause)), None)


def _politeness(normal: str) -> Understanding | None:
    """Return the intent of a message that is only small talk; thanks and goodbyes go before greetings."""
    # Chinese needs no blanks between clauses, English needs them within.
    for end in (_SENTENCE_END, _CLAUSE_END):
        found = [_polite(clause) for clause in _clauses(normal, end)]
        if found and None not in found:
            for intent in (Intent.THANKS, Intent.FAREWELL, Intent.GREETING, Intent.ACKNOWLEDGEMENT):
                if intent in found:
                    return Understanding(intent, normal)
    return None


def _without_politeness(text: str) -> str:
    """Return the clauses that ask something, as they were written."""
    kept = [
        part
        for part in re.split(r"(?<=[\n,.;!?，。；！？~～])|(?<=[\u4e00-\u9fff]) +", text)
        if part and not _is_polite(part)
    ]
    return " ".join(part.strip() for part in kept) or text


def _is_polite(part: str) -> bool:
    clauses = _clauses(unicodedata.normalize("NFKC", part).lower(), _SENTENCE_END)
    return all(_polite(clause) is not None for clause in clauses)
