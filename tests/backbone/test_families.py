"""The contract of backbones, over every family of the table."""

import json
from pathlib import Path

import pytest
import torch
from families import OWN, SETTINGS, VOCABULARY, small
from torch.nn import functional

from lmtasks.backbone.average import pair_buckets
from lmtasks.backbone.family import FAMILIES, new_backbone, parse_family
from lmtasks.backbone.load import load_backbone, read_traits
from lmtasks.errors import UsageError

over_families = pytest.mark.parametrize("name", list(FAMILIES))
over_own = pytest.mark.parametrize("name", OWN)
over_writers = pytest.mark.parametrize("name", [name for name, line in FAMILIES.items() if line.kind != "encoder"])
STATES = [name for name in OWN if FAMILIES[name].kind != "encoder"]
over_states = pytest.mark.parametrize("name", STATES)

IDS = torch.tensor([[5, 6, 7, 8, 9, 3], [9, 10, 11, 1, 1, 1]])
MASK = torch.tensor([[True] * 6, [True] * 3 + [False] * 3])


@over_families
def test_hidden_states_have_the_width_that_is_told(name: str) -> None:
    backbone = small(name)
    hidden = backbone.encode(IDS, MASK)
    assert hidden.shape == (2, 6, backbone.traits.width)
    assert backbone.traits.kind == FAMILIES[name].kind
    assert not torch.allclose(hidden[0, :3], hidden[1, :3], atol=1e-4)


@over_families
def test_padding_has_no_effect(name: str) -> None:
    backbone = small(name)
    alone = backbone.encode(IDS[1:, :3], MASK[1:, :3])
    assert torch.allclose(backbone.encode(IDS, MASK)[1, :3], alone[0], atol=1e-5)
    noise = torch.where(MASK, IDS, 42)
    assert torch.allclose(backbone.encode(noise, MASK)[1, :3], alone[0], atol=1e-5)


@over_own
def test_padding_may_stand_on_the_left(name: str) -> None:
    backbone = small(name)
    ids = torch.stack([IDS[0], torch.tensor([1, 1, 1, 9, 10, 11])])
    left = backbone.encode(ids, MASK[[0, 1]].flip(1))
    assert torch.allclose(left[1, 3:], backbone.encode(IDS[1:, :3], MASK[1:, :3])[0], atol=1e-5)
    assert torch.allclose(left[0], backbone.encode(IDS[:1], MASK[:1])[0], atol=1e-5)


@over_families
def test_a_causal_family_does_not_look_ahead_and_an_encoder_does(name: str) -> None:
    backbone = small(name)
    if backbone.traits.kind == "encoder-decoder":
        return
    other = IDS.clone()
    other[0, 4] = 20
    same = torch.isclose(backbone.encode(IDS, MASK)[0, :4], backbone.encode(other, MASK)[0, :4], atol=1e-6).all()
    sees_ahead = backbone.traits.kind == "encoder" and name != "average"  # an average looks back only, by its pairs
    assert bool(same) != sees_ahead


@over_families
def test_a_family_comes_back_from_its_folder(name: str, tmp_path: Path) -> None:
    backbone = small(name)
    backbone.save(tmp_path)
    loaded = load_backbone(tmp_path)
    assert torch.equal(backbone.encode(IDS, MASK), loaded.encode(IDS, MASK))
    assert loaded.traits == backbone.traits == read_traits(tmp_path)
    assert {file.suffix for file in tmp_path.iterdir()} <= {".json", ".safetensors"}


@over_families
def test_what_is_no_language_model_says_so(name: str) -> None:
    backbone = small(name)
    hidden = torch.zeros(1, 1, backbone.traits.width)
    if FAMILIES[name].kind != "encoder":
        assert backbone.project(hidden).shape == (1, 1, VOCABULARY.size)
    else:
        with pytest.raises(UsageError, match="no language-model projection"):
            backbone.project(hidden)


@over_writers
def test_a_writer_learns_to_repeat(name: str) -> None:
    """Three rows by heart: every weight that matters must get a gradient that helps."""
    torch.manual_seed(0)
    backbone = new_backbone(SETTINGS[name].replace("width=8", "width=32") + ",dropout=0", VOCABULARY)
    rows = torch.randint(3, 50, (3, 6))
    optimizer = torch.optim.AdamW(backbone.parameters(), lr=1e-2)
    for _ in range(250):
        if FAMILIES[name].kind == "causal":
            logits, targets = backbone(rows[:, :-1]), rows[:, 1:]
        else:
            logits, targets = backbone.decode(rows, torch.ones_like(rows) > 0, rows[:, :-1]), rows[:, 1:]
        loss = functional.cross_entropy(logits.flatten(0, 1), targets.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 1.0
    assert all(parameter.grad is not None for parameter in backbone.parameters() if parameter.requires_grad)


@pytest.mark.parametrize("name", ["transformer", "bart", "t5", "bert"])
def test_a_new_encoder_keeps_tokens_apart(name: str) -> None:
    """Behind four layers the tokens of a row must still differ: an encoder that begins by averaging them never learned
    to part them (Multi30k, 40 epochs: 6 BLEU, all states of a sentence equal)."""
    torch.manual_seed(0)
    backbone = new_backbone(f"{name}:width=128,layers=4,heads=4,inner=256,context=64", VOCABULARY).eval()
    rows = torch.randint(3, VOCABULARY.size, (8, 16))
    hidden = backbone.encode(rows, torch.ones_like(rows) > 0)
    assert hidden.std(1).mean() > 0.7 * hidden.std()


@over_states
def test_a_state_says_what_the_whole_row_says(name: str) -> None:
    """Token by token, in pieces, with rows of several lengths: always the logits of the row read at once."""
    backbone = small(name)
    read = torch.tensor([[4, 5, 6, 7, 8], [9, 10, 11, 1, 1]])
    seen = torch.tensor([[True] * 5, [True] * 3 + [False] * 2])
    start = backbone.start(IDS, MASK)
    whole, after = backbone.next(start, read, seen)
    for row, length in enumerate((5, 3)):
        state = tuple(part[row : row + 1] for part in start)
        for column in range(length):
            hidden, state = backbone.next(state, read[row : row + 1, column : column + 1], seen[:1, :1])
            assert torch.allclose(hidden[0, 0], whole[row, column], atol=1e-5)
        assert all(torch.allclose(one[0], many[row], atol=1e-5) for one, many in zip(state, after, strict=True))
    first, between = backbone.next(start, read[:, :3], seen[:, :3])
    second, at_end = backbone.next(between, read[:, 3:], seen[:, 3:])
    assert torch.allclose(torch.cat([first, second], dim=1)[seen], whole[seen], atol=1e-5)
    assert all(torch.allclose(one, other, atol=1e-5) for one, other in zip(at_end, after, strict=True))


@over_writers
def test_a_projection_says_the_logits(name: str) -> None:
    backbone = small(name).train()
    projection = backbone.projection()
    assert projection is not None
    assert all(module.training for module in backbone.modules())
    backbone.eval()
    read = torch.tensor([[4, 5, 6], [9, 10, 11]])
    if FAMILIES[name].kind == "causal":
        assert torch.allclose(projection(backbone.encode(IDS, MASK))[MASK], backbone(IDS, MASK)[MASK], atol=1e-4)
    else:
        assert torch.allclose(
            projection(backbone.decoded(IDS, MASK, read)), backbone.decode(IDS, MASK, read), atol=1e-4
        )


@over_states
def test_what_is_learned_is_what_is_decoded(name: str) -> None:
    backbone = small(name)
    read = torch.tensor([[4, 5, 6], [9, 10, 11]])
    hidden, _ = backbone.next(backbone.start(IDS, MASK), read, torch.ones_like(read) > 0)
    if FAMILIES[name].kind == "causal":
        assert torch.allclose(backbone.project(hidden), backbone(read), atol=1e-5)
    else:
        assert torch.allclose(backbone.project(hidden), backbone.decode(IDS, MASK, read), atol=1e-5)


def test_a_recurrent_layer_is_that_of_torch() -> None:
    """Tied weights, one layer, no dropout: a plain nn.LSTM over the embeddings, its output times the embeddings."""
    backbone = small("lstm")
    plain = torch.nn.LSTM(8, 8, num_layers=2, batch_first=True)
    for number in range(2):
        for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
            getattr(plain, f"{kind}_l{number}").data = getattr(backbone.layers[number], f"{kind}_l0").data
    hidden, _ = plain(backbone.tokens(IDS[:1]))
    logits = hidden @ backbone.tokens.weight.T + backbone.bias
    assert torch.allclose(backbone(IDS[:1]), logits, atol=1e-5)


def test_both_ways_are_torch_s_bidirectional_layer() -> None:
    backbone = small("bigru")
    plain = torch.nn.GRU(8, 4, num_layers=1, batch_first=True, bidirectional=True)
    for ours, suffix in ((backbone.reader.forth[0], ""), (backbone.reader.back[0], "_reverse")):
        for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
            getattr(plain, f"{kind}_l0{suffix}").data = getattr(ours, f"{kind}_l0").data
    backbone.reader.forth, backbone.reader.back = backbone.reader.forth[:1], backbone.reader.back[:1]
    packed = torch.nn.utils.rnn.pack_padded_sequence(backbone.tokens(IDS), [6, 3], batch_first=True)
    wanted, _ = torch.nn.utils.rnn.pad_packed_sequence(plain(packed)[0], batch_first=True)
    assert torch.allclose(backbone.encode(IDS, MASK)[MASK], wanted[MASK], atol=1e-5)


def test_variational_dropout_is_the_same_at_all_times() -> None:
    torch.manual_seed(0)
    backbone = new_backbone("lstm:width=64,layers=1,dropout=0.5", VOCABULARY).train()
    hidden = backbone.encode(IDS[:1], MASK[:1])[0]
    dropped = hidden == 0
    assert 10 < int(dropped[0].sum()) < 54
    assert bool((dropped == dropped[0]).all())


@over_own
def test_a_dropped_word_reads_as_zero_wherever_it_stands(name: str) -> None:
    torch.manual_seed(0)
    tokens = new_backbone(f"{name}:width=8,word_dropout=0.5", VOCABULARY).train().embeddings()
    ids = torch.arange(50).repeat(2, 1)
    read = tokens(ids)
    dropped = (read == 0).all(-1)
    assert 10 < int(dropped[0].sum()) < 40
    assert torch.equal(dropped[0], dropped[1])
    assert torch.allclose(read[~dropped], 2 * tokens.weight[ids][~dropped])
    assert torch.equal(tokens.eval()(ids), tokens.weight[ids])


def test_pairs_of_neighbours_count_and_padding_makes_none() -> None:
    backbone = small("average")
    turned = backbone.encode(IDS[:1].flip(1), MASK[:1]).mean(1)
    assert not torch.allclose(backbone.encode(IDS[:1], MASK[:1]).mean(1), turned, atol=1e-3)
    assert bool((pair_buckets(torch.randint(0, 50_000, (4, 9)), buckets=7) < 7).all())
    single = new_backbone("average:width=8,buckets=0", VOCABULARY).eval()
    assert torch.allclose(single.encode(IDS[:1], MASK[:1]).mean(1), single.tokens(IDS[:1]).mean(1))


def test_a_filter_is_torch_s_convolution() -> None:
    backbone = new_backbone("cnn:width=8,filters=6,widths=1+2+4+5", VOCABULARY).eval()
    vectors = (backbone.tokens(IDS) * MASK.unsqueeze(-1)).transpose(1, 2)
    wanted = [
        functional.relu(filters(functional.pad(vectors, ((width - 1) // 2, width // 2))))
        for filters, width in zip(backbone.filters, (1, 2, 4, 5), strict=True)
    ]
    assert torch.allclose(backbone.encode(IDS, MASK), torch.cat(wanted, dim=1).transpose(1, 2), atol=1e-6)


def test_a_folder_from_before_words_were_dropped_is_read(tmp_path: Path) -> None:
    backbone = small("lstm")
    backbone.save(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    del config["sizes"]["word_dropout"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert torch.equal(load_backbone(tmp_path).encode(IDS, MASK), backbone.encode(IDS, MASK))


def test_filters_see_their_width_and_no_more() -> None:
    backbone = small("cnn")
    other = IDS.clone()
    other[0, 5] = 30
    changed = (backbone.encode(IDS, MASK)[0] - backbone.encode(other, MASK)[0]).abs() > 1e-7
    reach = [[column for column in range(6) if changed[column, part * 6 : part * 6 + 6].any()] for part in range(3)]
    assert reach == [[4, 5], [3, 4, 5], [3, 4, 5]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lstn", "did you mean 'lstm'"),
        ("lstm:widht=3", "did you mean 'width'"),
        ("lstm:heads=3", "unknown setting of lstm 'heads'"),
        ("lstm:width=big", "width must be a number"),
        ("lstm:layers=0", "layers of a backbone must be at least 1, was 0"),
        ("lstm:word_dropout=1", "word_dropout must be 0 or more and less than 1, was 1"),
        ("lstm:dropout=1", "dropout must be 0 or more and less than 1, was 1"),
        ("bilstm:width=7", "width must be even"),
        ("llama:width=10,heads=4", "width must be a multiple of heads"),
        ("cnn:widths=3+x", "widths must be a number"),
        ("average:buckets=-1", "buckets"),
    ],
)
def test_a_family_that_cannot_be_is_explained(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_family(text)


def test_weights_of_another_size_or_family_are_refused(tmp_path: Path) -> None:
    small("lstm").save(tmp_path / "lstm")
    small("gru").save(tmp_path / "gru")
    config = json.loads((tmp_path / "lstm" / "config.json").read_text())
    config["sizes"]["width"] = 16
    (tmp_path / "lstm" / "config.json").write_text(json.dumps(config))
    with pytest.raises(UsageError, match=r"of another size than its config.json says: .* is \(50, 8\)|should be"):
        load_backbone(tmp_path / "lstm")
    (tmp_path / "gru" / "config.json").write_text(json.dumps({**config, "lmtasks_family": "bilstm"}))
    with pytest.raises(UsageError, match="of another family or size"):
        load_backbone(tmp_path / "gru")
    (tmp_path / "gru" / "config.json").write_text(json.dumps({**config, "lmtasks_family": "lsdm"}))
    with pytest.raises(UsageError, match="did you mean 'lstm'"):
        load_backbone(tmp_path / "gru")
    (tmp_path / "gru" / "config.json").write_text(json.dumps({**config, "sizes": {}}))
    with pytest.raises(UsageError, match="sizes are not those of the family"):
        load_backbone(tmp_path / "gru")
    (tmp_path / "gru" / "config.json").write_text("{")
    with pytest.raises(UsageError, match="cannot be read"):
        load_backbone(tmp_path / "gru")
    (tmp_path / "lstm" / "model.safetensors").unlink()
    with pytest.raises(UsageError, match="cannot be read"):
        load_backbone(tmp_path / "lstm")
