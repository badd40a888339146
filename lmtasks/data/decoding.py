"""Bytes of a text file become text: UTF-8, UTF-16 with a byte order mark, or GB18030 (which holds GBK and GB2312).

GB18030 is taken only where what comes out is Chinese; any other encoding must be named.

>>> decode("评论,标签,很好".encode("gb18030"), name="reviews.csv")
'评论,标签,很好'
>>> decode("맛있다".encode("euc-kr"), name="reviews.csv", encoding="euc-kr")
'맛있다'

Bytes of many other encodings decode as GB18030 as well, so the result is held against how Chinese is written.
EUC-KR and EUC-JP come out as characters of GB2312, so that a range of characters proves nothing. How often characters
are used does: of a Chinese text half are among the most frequent three hundred and eight in ten among the most frequent
thousand, and of what other bytes come out as one in ten and a quarter.

>>> korean = "음식이 맛있고 서비스도 좋습니다".encode("euc-kr").decode("gb18030")
>>> chinese_evidence("味道很好") > ENOUGH_EVIDENCE, chinese_evidence(korean) > 0
(True, False)
"""

import codecs
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lmtasks.errors import UsageError

Notify = Callable[[str], None]
"""Hears a sentence."""

log = logging.getLogger(__name__)

UTF8_MARK = b"\xef\xbb\xbf"
MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    UTF8_MARK: "utf-8",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
"""Byte order marks and what they say; the longer ones first, since they begin as the others do."""
BY_LINES = ("utf-8", "gb18030")
"""Encodings of which the bytes of line ends are part of no other character, so that lines may be decoded one by one."""
MOST_ZEROS = 0.05
"""Of the bytes of a text; one of UTF-16 has more, by its line ends and commas alone."""
PIECE_BYTES = 1 << 20
SAVE = "save it as UTF-8"
NAME_IT = "save it as UTF-8, or say its encoding (--encoding NAME; in a task file dataset_kwargs: {encoding: NAME})"
# In the order of frequency among the characters of GB2312, each text counting alike: ChnSentiCorp's reviews, titles of
# THUCNews, Tatoeba's sentences, paragraphs of CMRC 2018, abstracts of CSL, and the Chinese Wikipedia.
FIRST = frozenset(
    "的我了一是不在有人个中为大你这年他用上时法对和以分来行到于生国能出可要会数很子方多本高后们学成间好下图过天性点发"
    "地得度算么现开提没作家新实日小进月自基与里汤姆也看最机理将都果网去结就说房动被还公比前定书明名相长她道模文合之通"
    "那金想其同问面种部三经电据入事信价所系特计如型化应统吗该起并重加平无全量什心当内元表西而题车知及别主工常务关感位"
    "建次美考做区类回等酒期外给正意式东体测制使像但情业服语两更台因任解市水店利花真设值标组海着手程然样从路由第此只目"
    "物山者打力儿太女场件较代风效总器住些万传称觉处选取游线南非验首空北节安字变已喜再单云率准员接调欢优络二错英见少试"
    "何把认收十视至向世确参话交或布门装今改集"
    # What is written otherwise in traditional characters, of these and of other common ones.
    "們個來為對會說時這國還過學麼樣間發話點現動長給見開關經問從裡實電頭應無難題邊聽讓書車門機寫幾種東進業場樂請該"
    "氣員論變當與將務處數據記運遠連計認識語讀誰談課議親覺觀視規買賣錢錯鐘陽陳隊際隨雙雖離響頂須預類風飛飯館馬驗體"
    "魚麗黃劇眾價選擇單質級線組終結統維續網總義習萬較轉輕達適遲邏釋針鐵階隻靜項領顯鬥齊龍壞優傳兩劃勝勢勞區協參圖"
    "團圍圓報壓夠夢寶導層屬島師帶幣幫幹廣廠強彈態懷戰戶執擔擁擊斷曆條極構權歡歷殺決況滿準潔濟獨獲環產畫異療癥盡監"
    "確碼禮稱節範築簡納紅細絕緊緩縣縮織職聯聲華葉蘭號蟲術衛裝製複訊訓設許訴評詞試詩誠誤調諸證譯護豐負責貨貴費資賽"
    "趕跡軍輸辦農遊違鄉醫錄鎮闆險陸雲靈頻顧飲養騎鬆"
)
NEXT = frozenset(
    "保斯受差让老影推战格买品星直运流研征形色指原教存构马息头它完光低近身产预华需包具四城快球科立约评强级先离联精居则"
    "盘周每复商早象带民置户请配香且求达尔证热军气政口态放几资京决米院候号难爱持客亚王活读晚便引始记望均容检死孩楼士环"
    "广清赛校议告乐列神友义质速析音显江论整识展获管边报己声亲吃术又满究司红男未写示习白张界丽反属功春怎域条深片共才钱"
    "超转控州失克卡采售送例专导似言波局费待增走规查龙索半随状足林适必拉维针备观队源景故连层五易版巴根密跟支断罗致谁师"
    "听双火造续步权案技演际留够换块您独思德降飞歌兴码初黄餐货录升供戏各百哪投岁境唱注园异响消许领序干父划医命尼招找病"
    "角须站港馆助千远画朝照雨河修归越省六函除曾策排移办群母府兰诉击帮青争创简素落职项希微细玛套银段误阿社班剧减夜即拿"
    "符轻富笑湾频协阳积底略输叶宝况夫般举官武令玩玉治择购吧键势限软印尽终折朋室谢洲古词食志历婚散编短旧伤杀仅眼床梦著"
    "纪款播典破委停康曲荐史湖警堂李述福树销温板施护黑钟团依饭育股退普岛往临休哥奇亮博草返假礼弹杂端毛核否甚昨石份极智"
    "融亿九压末衣聚铁载航济携谷拍射绝念刚遭封径含讲睡阵启季笔味免佳监另冷久拟料缺享愿却烟亡库伊雪派卫估宾静油旅硬脑屏"
    "牌坐七陈防谈塞仿围午韩艺互穿叫血窗险束土范继贵判虽皇松鱼座八攻秋奥卷架切欧签票止趣负突街遇洗句章妈执县承倒操刘概"
    "纳律练介族幕威川访担充弟订延占仙宣训池附匹冲卖绿怕虑副尚稳醉塔背余牙汉营圆木庭距缘仍众批陆沙苏阶补乎药登靠翻盟桥"
    "括牛冠良疑私答慢奖驱君础严释涨忙害寒虚蓝曝讨梅秀闻钢扩企描顶庆泳惊呢隐秘村兵吉左宫船帝洞枝泰狗浪搜席借宗盖善财冰"
    "胜健亦露档跑永灵按圣啊莫雷暗夏混哈爆舞益紧杨盛麻若败迟寻"
)
FIRST_WEIGHS, NEXT_WEIGHS, OTHER_WEIGHS = 1.9, 0.9, -1.5
"""Logarithms of how much likelier such a character is in Chinese than in what comes of another encoding."""
ENOUGH_EVIDENCE = 4.6
"""A hundred to one: three of the most frequent characters. No Korean, Japanese, Russian, Thai, Greek, Arabic, Hebrew or
Western review tried, whole or in parts, has more than 3.2; of two Chinese titles one pair in a thousand has less."""


def log_notice(sentence: str) -> None:
    """Tell whoever listens to the log."""
    log.info("%s", sentence)


def decode(data: bytes, *, name: str, encoding: str | None = None, notify: Notify = log_notice) -> str:
    """The text of a file, without its byte order mark.

    Args:
        data: the bytes.
        name: the file's name, for messages.
        encoding: as somebody says; None: found by its mark or its content.
        notify: called with a sentence about an encoding that was found and is not UTF-8.

    Raises:
        UsageError: the bytes are not in that encoding, or in none that can be told; says at which byte.
    """
    codec = codec_of(data, name=name, notify=notify) if encoding is None else known_codec(encoding)
    try:
        return data.decode(codec).removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        at = _place(data, error.start)
    if encoding is None:
        raise UsageError(f"{name} says by its first bytes that it is {codec.upper()}, but is not at {at}; {SAVE}.")
    raise UsageError(f"{name} is not {encoding}: wrong at {at}; give another --encoding, or {SAVE}.")


def known_codec(encoding: str) -> str:
    """Python's name of an encoding of text.

    Raises:
        UsageError: there is none of that name.
    """
    try:
        b"text".decode(encoding)
    except UnicodeDecodeError:
        pass
    except (LookupError, ValueError) as error:
        raise UsageError(
            f"unknown encoding {encoding!r}; it is one of those of Python, such as utf-8, utf-16-le, gb18030, big5, "
            "shift_jis, euc-kr, windows-1252."
        ) from error
    return codecs.lookup(encoding).name


def codec_of(data: bytes, *, name: str, notify: Notify = log_notice) -> str:
    """The codec that decodes a file, by its mark or its content.

    Raises:
        UsageError: its bytes are in no encoding that can be told; says at which byte they are not UTF-8.
    """
    marked = next((codec for mark, codec in MARKS.items() if data.startswith(mark)), None)
    if marked == "utf-32":
        raise UsageError(f"{name} is written in UTF-32; {SAVE}.")
    if marked is not None:
        if marked != "utf-8":
            notify(f"{name} was read as {marked.upper()}.")
        return marked
    if data.count(b"\0") > MOST_ZEROS * len(data):
        raise UsageError(f"{name} has zero bytes, as UTF-16 without a byte order mark has; {NAME_IT}.")
    if data.isascii() and b"\x1b$" in data:
        raise UsageError(f"{name} changes its character set by escape sequences, as ISO-2022 does; {NAME_IT}.")
    try:
        data.decode("utf-8")
        return "utf-8"
    except UnicodeDecodeError as error:
        at = _place(data, error.start)
    try:
        text = data.decode("gb18030")
    except UnicodeDecodeError as error:
        raise UsageError(
            f"{name} is neither UTF-8 (wrong at {at}) nor GB18030 (wrong at {_place(data, error.start)}); {NAME_IT}."
        ) from error
    lines = data.split(b"\n")
    others = {number for number, line in enumerate(lines, start=1) if _is_utf8(line)}
    if others:
        text = b"\n".join(line for number, line in enumerate(lines, start=1) if number not in others).decode("gb18030")
    if chinese_evidence(text) < ENOUGH_EVIDENCE:
        raise UsageError(f"{name} is not UTF-8 (wrong at {at}) and no common Chinese in GB18030; {NAME_IT}.")
    if others:
        first = min(others)
        raise UsageError(f"{name} is written in two encodings: line {first} is UTF-8, and others are GB18030; {SAVE}.")
    notify(f"{name} was read as GB18030.")
    return "gb18030"


@dataclass(frozen=True, kw_only=True)
class Encoding:
    """The encoding of a file, with its byte order mark."""

    codec: str
    mark_bytes: int
    """Of the byte order mark, before the text."""


def encoding_of(file: Path, *, notify: Notify = log_notice) -> Encoding | None:
    """The encoding by which `decode` would read a file, found without the whole of it in memory where it is UTF-8; None
    where its lines cannot be decoded one by one.

    Raises:
        UsageError: the file cannot be read, or its bytes are in no known encoding; says at which byte.
    """
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        with file.open("rb") as stream:
            start = stream.read(len(UTF8_MARK))
            mark_bytes = len(UTF8_MARK) if start == UTF8_MARK else 0
            decoder.decode(b"" if mark_bytes else start)
            odd = b"\0" in start
            while piece := stream.read(PIECE_BYTES):
                decoder.decode(piece)
                odd = odd or b"\0" in piece or b"\x1b$" in piece
            decoder.decode(b"", final=True)
        if not odd:
            return Encoding(codec="utf-8", mark_bytes=mark_bytes)
    except UnicodeDecodeError:
        pass
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror}.") from error
    codec = codec_of(file.read_bytes(), name=str(file), notify=notify)
    return Encoding(codec=codec, mark_bytes=mark_bytes) if codec in BY_LINES else None


def _is_utf8(line: bytes) -> bool:
    """Is it UTF-8 beyond ASCII, and no Chinese in GB18030?"""
    if line.isascii():
        return False
    try:
        line.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return chinese_evidence(line.decode("gb18030", "replace")) < 0


def _place(data: bytes, at: int) -> str:
    line = data.count(b"\n", 0, at) + 1
    return f"byte {at}, 0x{data[at]:02x}, in line {line}"


def chinese_evidence(text: str) -> float:
    """Logarithm of the likelihood ratio, added over the characters; ASCII and punctuation say nothing."""
    return sum(
        FIRST_WEIGHS if character in FIRST else NEXT_WEIGHS if character in NEXT else OTHER_WEIGHS
        for character in text
        if not character.isascii() and not _in_any_encoding(character)
    )


def _in_any_encoding(character: str) -> bool:
    """Punctuation and full-width forms, which East Asian encodings share; and what has four bytes, as emoji have."""
    return (
        "\u2010" <= character <= "\u2027"
        or "\u3000" <= character <= "\u303f"
        or "\uff00" <= character <= "\uffef"
        or character in "·×°"
        or character > "\uffff"
    )
