from collections.abc import Mapping, Sequence

import pytest

from lmtasks.data.decoding import decode
from lmtasks.errors import UsageError

CHINESE = "text,label\n这家餐厅的味道很好，服务也周到。,1\n价格偏贵——不会再来了！,0\n"
TRADITIONAL = "這部電影的劇情非常緊湊，演員的表現也很出色，讓觀眾從頭到尾都捨不得離開座位。"


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        (CHINESE, "utf-8"),
        (CHINESE, "utf-8-sig"),
        (CHINESE, "gb18030"),
        (CHINESE, "gbk"),
        (CHINESE, "gb2312"),
        (CHINESE + "很满意🙂", "gb18030"),
        (TRADITIONAL, "gb18030"),
        ("plain", "ascii"),
        ("café, naïve, Straße", "utf-8"),
        ("", "utf-8"),
        (CHINESE, "utf-16"),
        ("맛있다, déjà vu", "utf-16"),
        ("评论,标签\n很好,1\n太差,0\n", "gbk"),
        ("菜名,标签\n𠮷野家的饭,好\n", "gb18030"),
    ],
)
def test_known_encodings(text: str, encoding: str) -> None:
    # The gb2312 codec writes a dash as the same bytes as GBK's, so text comes back as GBK reads it.
    text = text.replace("——", "--") if encoding == "gb2312" else text
    assert decode(text.encode(encoding), name="file") == text


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ("ok\nLe café était bon".encode("latin-1"), "0xe9, in line 2"),
        ("Größe über Straße schön müde".encode("latin-1"), "byte 2, 0xf6, in line 1"),
        (TRADITIONAL.encode("big5"), "no common Chinese"),
        ("これは良い映画です。とても面白かった".encode("shift_jis"), "is not UTF-8"),
        ("text,label\ngood,pos\n".encode("utf-16-le"), "UTF-16 without a byte order mark"),
        ("评论,标签\n味道很好,好评\n".encode("utf-16-be"), "UTF-16 without a byte order mark"),
        ("text".encode("utf-32"), "UTF-32"),
        ("面白かった".encode("iso-2022-jp"), "ISO-2022"),
        (
            "评论,标签\n味道很好，服务也周到,好评\n".encode("gb18030") + "价格偏贵，不会再来了".encode(),
            "line 3 is UTF-8",
        ),
        (b"\xef\xbb\xbfgood \xff", "byte 8, 0xff, in line 1"),
        (b"\xb5\xc4\n\xff\xff", "nor GB18030 (wrong at byte 3, 0xff, in line 2)"),
    ],
)
def test_other_encodings_say_where(data: bytes, says: str) -> None:
    with pytest.raises(UsageError, match=r"^reviews\.csv ") as error:
        decode(data, name="reviews.csv")
    assert says in str(error.value)
    assert "UTF-8" in str(error.value)


OTHER: Mapping[str, Sequence[str]] = {
    "euc-kr": ["음식이 맛있고 서비스도 좋습니다", "배송이 너무 늦어서 실망했습니다", "맛있다", "최악", "긍정\n부정"],
    "shift_jis": ["配送が遅くて残念です", "最高", "肯定\n否定\n満足", "東京都知事選挙の投票が行われた"],
    "euc-jp": ["料理が美味しくてサービスも最高でした", "肯定\n否定\n満足", "中国経済成長率発表"],
    "big5": ["老闆態度親切，餐點美味可口", "很好\n不好"],
    "windows-1251": ["Отличный фильм, всем советую", "хорошо\nплохо"],
    "koi8-r": ["Отличный фильм, всем советую", "хорошо\nплохо"],
    "windows-1252": ["Le café était bon, déjà vu à l’hôtel", "Größe über Straße", "“très déçu”"],
    "windows-1253": ["Πολύ καλή ταινία", "καλό\nκακό"],
    "windows-1256": ["الطعام لذيذ والخدمة ممتازة"],
    "tis-620": ["อาหารอร่อยมาก บริการดี", "คุณภาพแย่มาก"],
}


@pytest.mark.parametrize(("encoding", "text"), [(name, text) for name, texts in OTHER.items() for text in texts])
def test_other_encodings_are_no_chinese_and_read_where_they_are_named(encoding: str, text: str) -> None:
    data = f"text,label\n{text},pos\n".encode(encoding)
    with pytest.raises(UsageError, match="--encoding"):
        decode(data, name="reviews.csv")
    assert decode(data, name="reviews.csv", encoding=encoding) == f"text,label\n{text},pos\n"


def test_an_encoding_that_is_named_is_held_to_it() -> None:
    with pytest.raises(UsageError, match=r"is not euc-kr: wrong at byte 1, 0xff, in line 1"):
        decode(b"a\xff\xff", name="reviews.csv", encoding="euc-kr")
    for unknown in ("euckrr", "hex", "rot13"):
        with pytest.raises(UsageError, match=f"unknown encoding {unknown!r}"):
            decode(b"a", name="reviews.csv", encoding=unknown)
    assert decode(b"\xff\xfea\0", name="reviews.csv", encoding="utf-16-le") == "a"


def test_what_is_not_utf8_is_told() -> None:
    told: list[str] = []
    for encoding in ("gb18030", "utf-16", "utf-8"):
        decode(CHINESE.encode(encoding), name="reviews.csv", notify=told.append)
    assert told == ["reviews.csv was read as GB18030.", "reviews.csv was read as UTF-16."]
