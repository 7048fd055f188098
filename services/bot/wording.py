"""The bot's own words, in Chinese and English."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from services.bot.domain import Language
from services.bot.intent import Intent

_ZH: Final = Language.CHINESE
_EN: Final = Language.ENGLISH

# Replies to messages that ask nothing. Which of them offer a person is in `OFFERS`.
POLITE: Final[Mapping[Intent, Mapping[Language, str]]] = {
    Intent.GREETING: {
        _ZH: "您好，我是智能客服，发货、退换货、尺码、优惠、保修等问题都可以问我。",
        _EN: "Hello, I am the shop's assistant. Ask me about delivery, returns, sizes, discounts or warranty.",
    },
    Intent.THANKS: {
        _ZH: "不客气，还有问题随时问我。",
        _EN: "You are welcome. Ask me anytime.",
    },
    Intent.FAREWELL: {
        _ZH: "感谢光临，祝您生活愉快，再见。",
        _EN: "Thank you for your visit. Goodbye!",
    },
    Intent.ACKNOWLEDGEMENT: {
        _ZH: "好的，还有别的问题可以继续问我。",
        _EN: "All right. Is there anything else you would like to know?",
    },
    Intent.WHO: {
        _ZH: "我是智能客服，不是真人。想和同事聊，可以点“转人工”，或直接发“转人工”。",
        _EN: "I am an automatic assistant, not a person. To talk to one, press the button or write “talk to a human”.",
    },
    Intent.NOTHING: {
        _ZH: "我只看得懂文字，请用一句话告诉我您的问题，比如“什么时候发货”。",
        _EN: "I only understand words. Please write your question, for example “When will my order arrive?”",
    },
}

# After these the button that asks for a person is shown.
OFFERS: Final = frozenset({Intent.WHO, Intent.NOTHING})

_UNSURE: Final = {
    _ZH: "抱歉，这个问题我没有把握，不想误导您。需要的话可以点“转人工”，请同事来回答。",
    _EN: "Sorry, I am not sure about this one and do not want to mislead you. Shall I get a person to help?",
}
_PERHAPS: Final = {
    _ZH: "抱歉，我没有完全明白。您想问的是不是：",
    _EN: "Sorry, I did not quite get that. Did you mean:",
}
_PERHAPS_END: Final = {
    _ZH: "请把其中一句发给我；如果都不是，可以点“转人工”，请同事来回答。",
    _EN: "Send me one of these, or ask for a person to help.",
}
_OUT_OF_REACH: Final = {
    _ZH: "抱歉，我暂时查不到资料。请过一会儿再问我，或者点“转人工”，请同事来回答。",
    _EN: "Sorry, I cannot look that up at the moment. Please ask again a little later, or ask for a person to help.",
}


def unsure(language: Language, suggestions: Sequence[str]) -> str:
    """Return that the bot has no answer, with the questions that may be meant."""
    if not suggestions:
        return _UNSURE[language]
    return "\n".join([_PERHAPS[language], *(f"· {question}" for question in suggestions), _PERHAPS_END[language]])


def out_of_reach(language: Language) -> str:
    """Return that the shop's knowledge cannot be searched now."""
    return _OUT_OF_REACH[language]
