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
        ("text".encode("utf-16"), "UTF-16"),
        (b"\xef\xbb\xbfgood \xff", "byte 8, 0xff, in line 1"),
        (b"\xb5\xc4\n\xff\xff", "nor GB18030 (wrong at byte 3, 0xff, in line 2)"),
    ],
)
def test_other_encodings_say_where(data: bytes, says: str) -> None:
    with pytest.raises(UsageError, match=r"^reviews\.csv ") as error:
        decode(data, name="reviews.csv")
    assert says in str(error.value)
    assert "UTF-8" in str(error.value)
