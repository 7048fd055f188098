import time

import pytest

from services.bot.intent import Intent, understand

pytestmark = pytest.mark.unit

ASKS_FOR_A_PERSON = [
    "转人工", "人工", "人工！", "人工客服", "我要转人工", "转人工客服谢谢", "请转人工服务", "找真人",
    "我要找真人客服", "帮我转一下人工", "能不能给我转个人工", "有没有人工啊", "有人工吗", "转客服", "找客服",
    "客服", "怎么联系客服", "叫你们客服来", "人工 你好", "你好，转人工", "人工\n我想退货", "不要机器人，转人工",
    "我不想和机器人聊", "我想跟人说话", "人工人工人工", "转 人 工", "赶紧给我转人工！！", "是机器人吗？转人工",
    "麻烦帮我联系一下售后客服", "換人工", "請轉人工", "talk to a human", "I want to talk to a human",
    "Talk to a HUMAN!!", "real person", "real person please", "agent", "can I speak with someone?", "human please",
    "connect me to an agent", "I need a real person", "get me a human", "let me talk to a representative",
    "transfer me to customer service", "not a bot, a person please", "speak to a manager",
    "I'd like to chat with a live agent", "Please put me through to a person",
]  # fmt: skip

DOES_NOT = [
    "人工智能手表多少钱", "是人工缝制的吗", "handmade", "Are the clothes handmade?", "刺绣是人工的吗",
    "人工费多少", "安装人工费怎么算", "昨天人工客服说可以退", "人工客服几点上班", "晚上有人工客服吗",
    "客服的工作时间", "不用转人工", "不需要人工", "扫地机器人怎么连Wi-Fi", "我不要扫地机器人了想退货",
    "扫地机器人坏了", "客服电话是多少", "客服告诉我明天到", "刚才的客服说给我补发", "客服态度真差", "谢谢客服",
    "转账可以吗", "我找了半天没找到尺码表", "人工草坪多少钱", "人造棉是什么", "有真人上身图吗", "模特是真人吗",
    "手表能转接电话吗", "后来我联系客服更改了发票抬头", "客服 这个耳机最近会涨价么", "what is your return policy",
    "show me a photo of a real person wearing it", "how many people can use it", "human hair wig price",
    "I don't want to talk to anyone", "contact lenses", "a gift for a person who likes tea",
    "can I talk on the phone with the watch", "The agent said it would arrive today",
    "Does the agent get a discount?",
]  # fmt: skip


@pytest.mark.parametrize("text", ASKS_FOR_A_PERSON)
def test_a_request_for_a_person_is_recognised(text: str) -> None:
    assert understand(text).intent is Intent.PERSON


@pytest.mark.parametrize("text", DOES_NOT)
def test_what_only_sounds_like_one_is_not(text: str) -> None:
    assert understand(text).intent is not Intent.PERSON


@pytest.mark.parametrize(
    ("text", "intent"),
    [
        ("你好", Intent.GREETING),
        ("您好呀", Intent.GREETING),
        ("亲，在吗？", Intent.GREETING),
        ("客服在吗", Intent.GREETING),
        ("Hello there!", Intent.GREETING),
        ("谢谢", Intent.THANKS),
        ("好的，谢谢你", Intent.THANKS),
        ("Thank you so much", Intent.THANKS),
        ("没有了，再见", Intent.FAREWELL),
        ("bye", Intent.FAREWELL),
        ("好的", Intent.ACKNOWLEDGEMENT),
        ("嗯嗯", Intent.ACKNOWLEDGEMENT),
        ("OK.", Intent.ACKNOWLEDGEMENT),
        ("你是机器人吗", Intent.WHO),
        ("请问是人工客服吗", Intent.WHO),
        ("are you a real person?", Intent.WHO),
        ("？？？", Intent.NOTHING),
        ("😊", Intent.NOTHING),
        ("可以退吗", Intent.QUESTION),
        ("是真丝的还是仿真丝", Intent.QUESTION),
        ("谢谢卡可以写字吗", Intent.QUESTION),
        ("好的那怎么退", Intent.QUESTION),
        ("OK how do I pay", Intent.QUESTION),
    ],
)
def test_politeness_is_told_from_questions(text: str, intent: Intent) -> None:
    assert understand(text).intent is intent


@pytest.mark.parametrize(
    ("text", "question"),
    [
        ("你好，什么时候发货", "什么时候发货"),
        ("你好 请问怎么退货 谢谢", "请问怎么退货"),
        ("hi, when do you ship?", "when do you ship?"),
        ("iPhone 15 pro 的壳有吗", "iPhone 15 pro 的壳有吗"),
    ],
)
def test_the_question_is_what_remains_without_politeness(text: str, question: str) -> None:
    assert understand(text).question == question


@pytest.mark.parametrize(
    "unit", ["亲", "嗯", "我就", "在吗", "谢谢你", "转你们", "不要", "好的", "talk to a ", "hi ", "real "]
)
def test_a_hostile_message_takes_no_longer_than_another(unit: str) -> None:
    message = (unit * 8000)[:8000] + "!x"
    began = time.process_time()
    for _ in range(5):
        understand(message)
    assert (time.process_time() - began) / 5 < 0.5
